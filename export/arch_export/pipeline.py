"""`arch export`: from a checkpoint to a verified entry of a model repository, or nothing."""

from __future__ import annotations

import shutil
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from arch_common.content import content_hash
from arch_common.errors import ExportError, ExportUsageError, reason_of
from arch_common.session import session_options

from arch_export.checkpoint.export_source import ExportSource, Step, open_source
from arch_export.encoder.precision import LIMITS, Limits, Precision, Target, may_batch
from arch_export.graph.peaks import FP16_MAX
from arch_export.graph.runtime import check_precision, cuda_fp16_peak, cuda_twin, open_session
from arch_export.graph.trace import Graph, write_graph
from arch_export.graph.variants import fp16_peak, write_variant
from arch_export.repository import triton_config
from arch_export.repository.installation import building
from arch_export.repository.model_card import MODEL_CARD, model_card
from arch_export.request import settle_request
from arch_export.verify import parity

if TYPE_CHECKING:
    from pathlib import Path

# OpenVINO makes bf16 of the fp32 graph when it loads it.
_FP32_FILES = (Precision.FP32, Precision.BF16)
# What makes a model another one, although it has the same name.
_TELLING = (
    *("source", "revision", "precision", "target", "layer_embeddings", "lengths", "normalization"),
    "cut_after_layer",
)


@dataclass(frozen=True)
class Exported:
    """What was installed.

    Attributes:
        name: the model's.
        folder: in the repository.
        facts: the parameters in its configuration.
        parity: what was measured.
        misses: the limits that it missed and was installed in spite of; empty for a good one.
        batched: whether it is served in batches.
    """

    name: str
    folder: Path
    facts: dict[str, str]
    parity: parity.Parity
    misses: list[str]
    batched: bool

    @property
    def limits(self) -> Limits:
        """What its precision must keep."""
        return LIMITS[Precision(self.facts["precision"])]


def export(
    reference: str,
    repository: Path,
    name: str | None = None,
    layers: str = "none",
    lengths: str = "padded",
    on_step: Step = lambda _: None,
    on_warning: Step = lambda _: None,
    *,
    precision: str = Precision.FP32,
    target: str = Target.AUTO,
    force: bool = False,
    max_queue_size: int | None = None,
    unnormalised: bool = False,
    max_batch: int | None = None,
    instances: int | None = None,
    queue_delay: str | None = None,
    threads: int | None = None,
    conv_search: str | None = None,
) -> Exported:
    """Export a checkpoint as a Triton model: `<repository>/<name>/config.pbtxt` and `<name>/1/model.onnx`.

    Beside them, `README.md` says what the model is and how it is called. The model is built and checked in a hidden
    folder beside the repository and then moved into place; an earlier model of that name is replaced in the same
    moment. On failure the repository stays as it was.

    Args:
        reference: an alias, a hub id, a checkpoint folder, or `logmel`.
        repository: the model repository; made if it is not there.
        name: the model's name; by default the alias, or the last part of the hub id or folder, and the precision
            where it is not fp32.
        layers: `all` gives the model a second output, `layer_embeddings`: the mean of every layer's hidden state. A
            number cuts the encoder after that layer, whose mean hidden state becomes the embedding.
        lengths: `exact` makes the embedding independent of padding.
        on_step: told what is being done, for a progress display.
        on_warning: told what the user should know although the export goes on.
        precision: what the encoder computes in, one of `Precision`.
        target: the kind of machine that its configuration is written for, one of `Target`.
        max_queue_size: requests that may wait in the server; beyond, it refuses at once. None, the default, is no
            bound, because a bound makes single requests wait for half a second.
        unnormalised: take the waveform as it is, though the checkpoint asks for its normalisation.
        max_batch: clips of a batch, at most; by default what the target asks for, as of the three that follow.
        instances: that execute side by side, on each GPU or on the CPU.
        queue_delay: that a request may wait for others to share its batch: `2ms`, `500us` or `0`.
        threads: of one operator, in each instance.
        conv_search: on a GPU, how cuDNN's algorithms for convolutions are chosen: heuristic, exhaustive or default.
        force: install it also if it misses the limits of its precision; its configuration then says so.

    Raises:
        ExportUsageError: if there is no such checkpoint, it is not supported, the precision does not go with the
            target, or this machine cannot run the precision to verify it.
        ExportError: if the export failed or its embeddings differ too much from the original model's.
    """
    request = settle_request(
        reference,
        name,
        layers,
        lengths,
        precision,
        target,
        max_queue_size,
        unnormalised,
        max_batch,
        instances,
        queue_delay,
        threads,
        conv_search,
    )
    check_precision(request.precision, request.target)
    try:
        source = open_source(reference, request.encoder_options, on_step, on_warning)
    except OSError as error:
        raise ExportUsageError(f"{reference} cannot be read ({reason_of(error)})") from error
    name, precision, target = request.name_for(source.checkpoint_name), request.precision, request.target
    earlier = triton_config.read_parameters(repository / name)
    if (repository / name / "config.pbtxt").is_file() and "source" not in earlier:
        on_warning(f"{name} takes the place of a model of that name that is not of arch export")
    # A variant is written beside the fp32 graph.
    size = source.size if precision in _FP32_FILES or target is Target.GPU else 2 * source.size
    with building(repository, name, size) as folder:
        graph, path = _write(folder, source, precision, target, on_step)
        on_step(f"comparing the {precision} graph with the original")
        options = session_options()
        # The arena keeps what the largest batch needed, and grows by doubling: more than the weights of a base encoder.
        options.enable_cpu_mem_arena = False
        # A graph for CUDA is verified in a form for CPUs, whose bf16 is another than that of OpenVINO.
        with cuda_twin(path, precision) if target is Target.GPU else nullcontext(path) as verified:
            session = open_session(verified, Precision.FP32 if target is Target.GPU else precision, options)
            try:
                measured = parity.measure(session, graph.reference, graph.sample_rate, graph.exact)
            except Exception as error:  # their own errors have no common base
                engine = "OpenVINO" if precision is Precision.BF16 and target is not Target.GPU else "ONNX Runtime"
                raise ExportError(f"{engine} cannot run the {precision} graph ({reason_of(error)})") from error
            del session
        limits = LIMITS[precision]
        batched = may_batch(precision, graph.exact, measured.max_batch_effect)
        misses = measured.misses(limits, batched)
        facts = graph.facts | {
            "precision": str(precision),
            "target": str(target),
            "content_hash": content_hash(path.parent),
            "parity_max_relative_error": f"{measured.max_relative_error:.3e}",
            "parity_mean_cosine": f"{measured.mean_cosine:.9f}",
            "parity_min_cosine": f"{measured.min_cosine:.9f}",
            "parity_max_batch_effect": f"{measured.max_batch_effect:.3e}",
            "parity_mean_batch_effect": f"{measured.mean_batch_effect:.3e}",
            "parity_clips": str(measured.clips),
        }
        if precision is Precision.FP16:
            try:
                of = cuda_fp16_peak if target is Target.GPU else fp16_peak
                peak = of(graph.path, [feeds for _, _, feeds in parity.batches(graph.sample_rate)])
            except OSError:
                raise
            except Exception as error:  # likewise
                raise ExportError(f"the peaks of the graph cannot be found ({reason_of(error)})") from error
            facts["fp16_peak"] = f"{peak:.1f}"
            if not peak < FP16_MAX:
                misses.append(f"a value of {peak:.0f} overflows fp16, which ends at {FP16_MAX:.0f}")
        if misses:
            if not force:
                raise ExportError(
                    f"{facts['source']} is not installed in {precision}: {'; '.join(misses)}"
                    + " (--force installs it with a mark)"
                )
            facts["parity_missed"] = "; ".join(misses)
        if graph.path != path:
            shutil.rmtree(graph.path.parent)
        if not batched:
            on_warning(
                f"the others in a batch move its embeddings by up to {measured.max_batch_effect:.2f} (relative), "
                f"allowed is {limits.max_batch_effect:g}: {name} is served one clip at a time"
                + (f", in spite of --max-batch {max_batch}" if (max_batch or 1) > 1 else "")
            )
        other = [key for key in _TELLING if "source" in earlier and earlier.get(key) != facts.get(key)]
        if other:
            was, now = ({key: known.get(key, "none") for key in other} for known in (earlier, facts))
            on_warning(
                f"{name} takes the place of another model of that name: "
                + ", ".join(f"{key} {was[key]} becomes {now[key]}" for key in other)
            )
        config = triton_config.model_config(
            name, graph.outputs, graph.sample_rate, facts, precision, target, batched, request.serving
        )
        (folder / "config.pbtxt").write_text(triton_config.as_text(config), encoding="utf-8")
        (folder / MODEL_CARD).write_text(model_card(config), encoding="utf-8")
    return Exported(name, repository / name, facts, measured, misses, batched)


def _write(
    folder: Path, source: ExportSource, precision: Precision, target: Target, on_step: Step
) -> tuple[Graph, Path]:
    """Write `<folder>/1/model.onnx`: for CUDA, or the fp32 graph, or beside it the variant."""
    path = folder / "1" / "model.onnx"
    path.parent.mkdir()
    if target is Target.GPU:
        return write_graph(source, path, on_step, precision), path
    if precision in _FP32_FILES:
        return write_graph(source, path, on_step), path
    scratch = folder / "fp32" / "model.onnx"
    scratch.parent.mkdir()
    graph = write_graph(source, scratch, on_step)
    on_step(f"converting the graph to {precision}")
    write_variant(scratch, path, precision)
    return graph, path
