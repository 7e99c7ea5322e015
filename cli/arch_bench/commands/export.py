"""`arch export`: what is exported, what was measured, and whether the local Triton serves it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from arch_common import interrupt
from arch_common.errors import UsageError
from rich.console import Console
from rich.table import Table

from arch_bench import api, options

if TYPE_CHECKING:
    from arch_export.pipeline import Exported

_out = Console()
_err = Console(stderr=True)


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
        str, typer.Option(help="padded: padding counts, as the ARCH protocol has it; exact: it changes nothing.")
    ] = "padded",
    precision: Annotated[
        str, typer.Option(help="fp32, fp16 or tf32 (GPU), int8 (CPU), bf16 (CPU by OpenVINO; GPU).")
    ] = "fp32",
    target: Annotated[
        str, typer.Option(help="cpu, gpu or tensorrt: what config.pbtxt is written for; auto: any machine.")
    ] = "auto",
    force: Annotated[
        bool, typer.Option("--force", help="Install also what misses the limits of its precision, with a mark.")
    ] = False,
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
        _out.print(_alias_table())
        return
    if checkpoint is None:
        raise UsageError("which checkpoint? Name an alias, a hub id or a folder; arch export --list shows the aliases")
    interrupt.catch()
    exported = run(
        checkpoint,
        repository,
        name=name,
        layers=layers,
        lengths=lengths,
        precision=precision,
        target=target,
        force=force,
        max_queue_size=max_queue_size,
    )
    _out.print(export_table([exported]))
    for miss in exported.misses:
        _err.print(f"warning: {exported.name} is marked: {miss}", highlight=False, soft_wrap=True)
    if check:
        with _err.status(f"serving {exported.name}"):
            found = api.check(exported)
        _out.print(
            f"checked: Triton serves {', '.join(found.outputs)} of {exported.name} in "
            f"{found.executed_by or 'unknown precision'}, {found.relative_error:.1e} from the graph in this process",
            highlight=False,
            soft_wrap=True,
        )


def run(checkpoint: str, repository: Path, **asked: Any) -> Exported:
    """Export with a progress display; what is asked is as in `api.export`."""

    def step(text: str) -> None:
        interrupt.check()
        status.update(f"{checkpoint}: {text}")

    def warn(text: str) -> None:
        _err.print(f"warning: {text}", highlight=False, soft_wrap=True)

    with _err.status(f"exporting {checkpoint}") as status:
        return api.export(checkpoint, repository, on_step=step, on_warning=warn, **asked)


def export_table(exported: list[Exported]) -> Table:
    """What was installed and what was measured against the original, with the limits."""
    table = Table(title="Exported and verified", title_justify="left", box=None, padding=(0, 2, 0, 0))
    for column in ("model", "size", "MB", "cosine", "worst", "error", "batch"):
        table.add_column(column, justify="left" if column == "model" else "right", overflow="fold")
    for one in exported:
        limits = one.limits
        table.add_row(
            one.name + (" (MISSES ITS LIMITS)" if one.misses else ""),
            f"{int(one.facts['parameter_count']) / 1e6:,.0f} M",
            f"{sum(file.stat().st_size for file in (one.folder / '1').iterdir()) / 1e6:,.0f}",
            f"{one.parity.mean_cosine:.6f}",
            f"{one.parity.min_cosine:.6f}",
            f"{one.parity.max_relative_error:.1e}",
            f"{one.parity.max_batch_effect:.1e}",
        )
        table.add_row(
            "  must pass",
            "",
            "",
            f"≥ {limits.mean_cosine:.5g}",
            f"≥ {limits.min_cosine:.5g}",
            f"≤ {limits.max_relative_error:.1e}",
            f"≤ {limits.max_batch_effect:.1e}" if one.batched else "served alone",
            style="dim",
        )
    table.caption = (
        "Size: parameters. Cosine: of the embeddings to the original's, mean and worst.\n"
        "Error: the worst, relative. Batch: how far the others in a batch move one.\n"
        f"Installed in {exported[0].folder.parent}"
    )
    table.caption_justify = "left"
    return table


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
