"""`arch export`: from a checkpoint to a verified entry of a model repository, or nothing."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from arch_export import parity, triton_config
from arch_export.errors import ExportError, ExportUsageError
from arch_export.form import Form
from arch_export.graph import Graph, write_graph
from arch_export.install import building
from arch_export.subject import Step, open_subject

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Exported:
    """What was installed: the model's name and folder, the facts in its configuration, and the parity measured."""

    name: str
    folder: Path
    facts: dict[str, str]
    parity: parity.Parity


def export(
    reference: str,
    repository: Path,
    name: str | None = None,
    layers: str = "none",
    lengths: str = "padded",
    on_step: Step = lambda _: None,
    on_warning: Step = lambda _: None,
) -> Exported:
    """Export a checkpoint as a Triton model: `<repository>/<name>/config.pbtxt` and `<name>/1/model.onnx`.

    The model is built and checked in a hidden folder beside the repository and then moved into place; an earlier model
    of that name is replaced in the same moment. On failure the repository stays as it was.

    Args:
        reference: an alias, a hub id, a checkpoint folder, or `logmel`.
        repository: the model repository; made if it is not there.
        name: the model's name; by default the alias, or the last part of the hub id or folder.
        layers: `all` gives the model a second output, `layer_embeddings`: the mean of every layer's hidden state. A
            number cuts the encoder after that layer, whose mean hidden state becomes the embedding.
        lengths: `exact` makes the embedding independent of padding.
        on_step: told what is being done, for a progress display.
        on_warning: told what the user should know although the export goes on.

    Raises:
        ExportUsageError: if there is no such checkpoint or it is not supported.
        ExportError: if the export failed or its embeddings differ from the original model's.
    """
    if name is not None:
        _check_name(name)
    subject = open_subject(reference, Form.parse(layers, lengths), on_step, on_warning)
    name = name or subject.name
    _check_name(name)
    with building(repository, name, subject.size) as folder:
        version_folder = folder / "1"
        version_folder.mkdir()
        graph = write_graph(subject, version_folder / "model.onnx", on_step)
        on_step("comparing the graph with the original")
        measured = _verify(graph)
        facts = graph.facts | {
            "precision": "fp32",
            "content_hash": content_hash(version_folder),
            "parity_max_relative_error": f"{measured.max_relative_error:.3e}",
            "parity_min_cosine": f"{measured.min_cosine:.9f}",
            "parity_max_batch_effect": f"{measured.max_batch_effect:.3e}",
            "parity_clips": str(measured.clips),
        }
        config = triton_config.model_config(name, graph.outputs, graph.sample_rate, facts)
        (folder / "config.pbtxt").write_text(triton_config.as_text(config), encoding="utf-8")
    return Exported(name, repository / name, facts, measured)


def _check_name(name: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]*", name):
        raise ExportUsageError(f"{name!r} cannot name a model: use letters, digits, dots, dashes and underscores")


def _verify(graph: Graph) -> parity.Parity:
    measured = parity.measure(graph.path, graph.reference, graph.sample_rate, graph.exact)
    # Written so that NaN fails too.
    if not (measured.max_relative_error <= parity.MAX_RELATIVE_ERROR):
        raise ExportError(
            f"{graph.facts['source']} is not installed: its embeddings differ from the original model's by "
            f"{measured.max_relative_error:.1e} (relative); fp32 allows {parity.MAX_RELATIVE_ERROR:.0e}"
        )
    if not (measured.max_batch_effect <= parity.MAX_RELATIVE_ERROR):
        raise ExportError(
            f"{graph.facts['source']} is not installed: an embedding moves by {measured.max_batch_effect:.1e} "
            f"(relative) with its batch mates; fp32 allows {parity.MAX_RELATIVE_ERROR:.0e}"
        )
    return measured


def content_hash(folder: Path) -> str:
    """`sha256:<hex>` over the names and contents of a model version's files."""
    digest = hashlib.sha256()
    for file in sorted(folder.iterdir()):
        with file.open("rb") as stream:
            digest.update(file.name.encode() + b"\0" + hashlib.file_digest(stream, "sha256").digest())
    return f"sha256:{digest.hexdigest()}"
