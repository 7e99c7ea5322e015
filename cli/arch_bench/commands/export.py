"""`arch export`: what is exported, what was measured, and whether the local Triton serves it."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from arch_common import interrupt
from arch_common.errors import UsageError
from rich.table import Table
from rich.text import Text

from arch_bench import api, options
from arch_bench.terminal import ERR, OUT

if TYPE_CHECKING:
    from arch_export.pipeline import Exported
    from rich.console import Console


class LengthsChoice(StrEnum):
    """What padding does to an embedding."""

    PADDED = "padded"
    EXACT = "exact"


class PrecisionChoice(StrEnum):
    """What the encoder computes in."""

    FP32 = "fp32"
    FP16 = "fp16"
    TF32 = "tf32"
    INT8 = "int8"
    BF16 = "bf16"


class TargetChoice(StrEnum):
    """Where the model is to be served."""

    AUTO = "auto"
    CPU = "cpu"
    GPU = "gpu"
    TENSORRT = "tensorrt"


def export(
    checkpoint: Annotated[
        str | None,
        typer.Argument(help="An alias (see --list), a hub id, a checkpoint folder, or logmel."),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="The model's name; by default the checkpoint's, and the precision if not fp32.")
    ] = None,
    repository: options.Repository = api.REPOSITORY,
    layers: Annotated[
        str, typer.Option(help="all: a second output with every layer's mean hidden state; K: cut after layer K.")
    ] = "none",
    lengths: Annotated[
        LengthsChoice,
        typer.Option(help="padded: padding counts, as the ARCH protocol has it; exact: it changes nothing."),
    ] = LengthsChoice.PADDED,
    precision: Annotated[
        PrecisionChoice,
        typer.Option(metavar="<precision>", help="fp32, fp16 or tf32 (GPU), int8 (CPU), bf16 (CPU by OpenVINO; GPU)."),
    ] = PrecisionChoice.FP32,
    target: Annotated[
        TargetChoice, typer.Option(help="cpu, gpu or tensorrt: what config.pbtxt is written for; auto: any machine.")
    ] = TargetChoice.AUTO,
    unnormalised: Annotated[
        bool,
        typer.Option(
            "--unnormalised",
            help="Take the waveform as it is, though the checkpoint asks for its normalisation: for arch bench "
            "--ablate normalisation.",
        ),
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Install also what misses the limits of its precision, with a mark.")
    ] = False,
    max_batch: Annotated[
        int | None, typer.Option(help="Clips of a batch, at most. [what the target asks for: 8 on CPUs]")
    ] = None,
    instances: Annotated[
        int | None, typer.Option(help="Instances that execute side by side, on each GPU or on the CPU. [the target's]")
    ] = None,
    queue_delay: Annotated[
        str | None,
        typer.Option(help="That a request may wait for others to share its batch: 2ms, 500us, 0. [2ms]"),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(help="Threads of one operator, in each instance. [the cores, shared among the instances]"),
    ] = None,
    conv_search: Annotated[
        str | None,
        typer.Option(help="With --target gpu, how cuDNN's algorithms are chosen: heuristic, exhaustive, default."),
    ] = None,
    max_queue_size: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Requests that may wait in the server; others are refused at once. It switches Triton's prefetching "
            "off: single requests then wait half a second, unless a model has two instances.",
        ),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Then load it into a Triton on this machine and ask for each output.")
    ] = False,
    list_: Annotated[bool, typer.Option("--list", help="Show the aliases, and export nothing.")] = False,
) -> None:
    """Turn a checkpoint into a verified ONNX encoder in a Triton model repository."""
    if list_:
        OUT.print(_alias_table())
        return
    if checkpoint is None:
        raise UsageError("which checkpoint? Name an alias, a hub id or a folder; arch export --list shows the aliases")
    exported = run(
        checkpoint,
        repository,
        name=name,
        layers=layers,
        lengths=lengths.value,
        precision=precision.value,
        target=target.value,
        unnormalised=unnormalised,
        force=force,
        max_queue_size=max_queue_size,
        max_batch=max_batch,
        instances=instances,
        queue_delay=queue_delay,
        threads=threads,
        conv_search=conv_search,
    )
    OUT.print(export_table([exported]))
    for miss in exported.misses:
        _print(ERR, f"warning: {exported.name} is marked: {miss}")
    if check:
        with ERR.status(f"serving {exported.name}"):
            found = api.check(exported)
        _print(
            OUT,
            f"checked: Triton serves {', '.join(found.outputs)} of {exported.name} in "
            f"{found.executed_by or 'unknown precision'}, {found.relative_error:.1e} from the graph in this process",
        )


def run(checkpoint: str, repository: Path, **asked: Any) -> Exported:
    """Export with a progress display; what is asked is as in `api.export`."""

    def step(text: str) -> None:
        interrupt.check()
        status.update(_plain(f"{checkpoint}: {text}"))

    def warn(text: str) -> None:
        _print(ERR, f"warning: {text}")

    with ERR.status(_plain(f"exporting {checkpoint}")) as status:
        return api.export(checkpoint, repository, on_step=step, on_warning=warn, **asked)


def export_table(exported: list[Exported]) -> Table:
    """What was installed and what was measured against the original, with the limits."""
    table = Table(
        title="Exported, and compared with the original", title_justify="left", box=None, padding=(0, 2, 0, 0)
    )
    table.add_column("", overflow="fold")
    table.add_column("measured", justify="right")
    table.add_column("allowed")
    for one in exported:
        limits, size = one.limits, sum(file.stat().st_size for file in (one.folder / "1").iterdir())
        table.add_row(
            Text(one.name, "bold")
            + Text(f"  {int(one.facts['parameter_count']) / 1e6:,.0f} M parameters, {size / 1e6:,.0f} MB", "dim"),
            *([Text("misses its limits", "bold red")] if one.misses else []),
        )
        batch = f"at most {limits.max_batch_effect:g}" if one.batched else "served one at a time"
        for what, measured, allowed in (
            ("cosine to the original, mean", f"{one.parity.mean_cosine:.8f}", f"at least {limits.mean_cosine:.8g}"),
            ("cosine of the worst clip", f"{one.parity.min_cosine:.8f}", f"at least {limits.min_cosine:.8g}"),
            (
                "relative error at most",
                f"{one.parity.max_relative_error:.1e}",
                f"at most {limits.max_relative_error:g}",
            ),
            ("moved by others in its batch", f"{one.parity.max_batch_effect:.1e}", batch),
        ):
            table.add_row(f"  {what}", measured, allowed)
    table.caption = _plain(
        f"Installed in {exported[0].folder.parent}. The README.md of a model says what it is and how it is called."
    )
    table.caption_justify = "left"
    return table


def _plain(text: str) -> Text:
    """What a user named, as it is: brackets are no markup, and a name that is not UTF-8 has its bytes escaped."""
    return Text(text.encode(errors="backslashreplace").decode())


def _print(console: Console, text: str) -> None:
    console.print(_plain(text), soft_wrap=True)


def _alias_table() -> Table:
    table = Table(title="Checkpoints that have a short name", title_justify="left", box=None, padding=(0, 2, 0, 0))
    for column in ("alias", "checkpoint", "size", "licence"):
        table.add_column(column, justify="right" if column == "size" else "left", overflow="fold")
    for alias, one in api.aliases().items():
        table.add_row(alias, one.checkpoint, f"{one.parameters_m} M", one.licence)
    table.add_row("logmel", "built in", "0 M")
    table.caption = "Size: parameters. Licence: as the model card names it. Others go by hub id or folder."
    table.caption_justify = "left"
    return table
