"""`arch export`: what is exported, what was measured, and whether the local Triton serves it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from arch_harness import interrupt
from arch_harness.errors import ArchError, UsageError

if TYPE_CHECKING:
    from arch_export.pipeline import Exported

# Two runs of one graph differ by the order of their sums; in bf16 and int8 each sum is rounded on the way.
_SAME = {"fp32": 1e-4}
_SAME_ROUNDED = 1e-2

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
    repository: Annotated[Path, typer.Option(help="The Triton model repository.")] = Path("model_repository"),
    layers: Annotated[
        str, typer.Option(help="all: a second output with every layer's mean hidden state; K: cut after layer K.")
    ] = "none",
    lengths: Annotated[
        str, typer.Option(help="padded: padding counts, as the ARCH protocol has it; exact: it changes nothing.")
    ] = "padded",
    precision: Annotated[str, typer.Option(help="fp32, fp16 (GPU), int8 (CPU) or bf16 (CPU, by OpenVINO).")] = "fp32",
    target: Annotated[
        str, typer.Option(help="cpu, gpu or tensorrt: what config.pbtxt is written for; auto: any machine.")
    ] = "auto",
    force: Annotated[
        bool, typer.Option("--force", help="Install also what misses the limits of its precision, with a mark.")
    ] = False,
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
    exported = run(checkpoint, repository, name, layers, lengths, precision=precision, target=target, force=force)
    _out.print(export_table([exported]))
    for miss in exported.misses:
        _err.print(f"warning: {exported.name} is marked: {miss}", highlight=False, soft_wrap=True)
    if check:
        _check(exported)


def run(
    checkpoint: str,
    repository: Path,
    name: str | None = None,
    layers: str = "none",
    lengths: str = "padded",
    **options: Any,
) -> Exported:
    """Export with a progress display; the arguments are those of `arch_export.pipeline.export`."""
    from arch_harness.cli import part

    def step(text: str) -> None:
        interrupt.check()
        status.update(f"{checkpoint}: {text}")

    def warn(text: str) -> None:
        _err.print(f"warning: {text}", highlight=False, soft_wrap=True)

    with _err.status(f"exporting {checkpoint}") as status, part("export"):
        from arch_export.pipeline import export as run_export

        return run_export(checkpoint, repository, name, layers, lengths, step, warn, **options)


def export_table(exported: list[Exported]) -> Table:
    """What was installed and what was measured against the original, with the limits."""
    from arch_export.precision import LIMITS, Precision

    table = Table(title="Exported and verified", title_justify="left", box=None, padding=(0, 2, 0, 0))
    for column in ("model", "size", "MB", "cosine", "worst", "error", "mates"):
        table.add_column(column, justify="left" if column == "model" else "right", overflow="fold")
    for one in exported:
        limits = LIMITS[Precision(one.facts["precision"])]
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
        "Error: the worst, relative. Mates: how far the others in a batch move one.\n"
        f"Installed in {exported[0].folder.parent}"
    )
    table.caption_justify = "left"
    return table


def _alias_table() -> Table:
    from arch_harness.cli import part

    with part("export"):
        from arch_export.checkpoints import ALIASES
    table = Table(title="Checkpoints that have a short name", title_justify="left", box=None, padding=(0, 2, 0, 0))
    for column in ("alias", "checkpoint", "size", "licence"):
        table.add_column(column, justify="right" if column == "size" else "left", overflow="fold")
    for alias, one in ALIASES.items():
        table.add_row(alias, one.checkpoint, f"{one.parameters_m} M", one.licence)
    table.add_row("logmel", "built in", "0 M")
    table.caption = "Size: parameters. Licence: as the model card names it. Others go by hub id or folder."
    table.caption_justify = "left"
    return table


def _check(exported: Exported) -> None:
    """Serve the model alone, ask for each of its outputs, and compare with the exported graph in this process.

    Raises:
        ArchError: if it does not load, does not answer, or answers something else.
    """
    from arch_harness.cli import part

    with part("serve"):
        from arch_serve.server import LocalServer
    with _err.status(f"serving {exported.name}"):
        server = LocalServer(exported.folder.parent, [exported.name], grpc_port=0, http_port=0, metrics_port=0)
        with server:
            for status in server.models:
                if not status.ready:
                    raise ArchError(f"{exported.name} is installed, but Triton here cannot load it: {status.reason}")
            _out.print(_compare(exported, server.grpc_url, server.metrics_url), highlight=False, soft_wrap=True)


def _compare(exported: Exported, grpc: str, metrics: str) -> str:
    import numpy as np
    import tritonclient.grpc as grpcclient
    from arch_export import parity
    from arch_export.precision import Precision
    from arch_export.runtime import open_session
    from tritonclient.utils import InferenceServerException

    from arch_harness.triton import Server, Target

    precision = exported.facts["precision"]
    *_, (_, _, feeds) = parity.batches(int(exported.facts["sample_rate"]))
    feeds = {name: values[:1] for name, values in feeds.items()}
    session = open_session(exported.folder / "1" / "model.onnx", Precision(precision))
    names = ["embedding"] + ["layer_embeddings"] * (exported.facts["layer_embeddings"] != "0")
    expected = dict(zip(names, session.run(names, feeds), strict=True))
    inputs = []
    for name, values in feeds.items():
        inputs.append(grpcclient.InferInput(name, values.shape, "FP32" if name == "waveform" else "INT64"))
        inputs[-1].set_data_from_numpy(values)
    target = Target(grpc, metrics=metrics, started_by_arch=True)
    client = grpcclient.InferenceServerClient(target.address, channel_args=target.options)
    allowed = _SAME.get(precision, _SAME_ROUNDED)
    largest = 0.0
    for name in names:
        try:
            answer = client.infer(
                exported.name, inputs, outputs=[grpcclient.InferRequestedOutput(name)], client_timeout=600
            ).as_numpy(name)
        except InferenceServerException as error:
            raise ArchError(f"{exported.name} is loaded, but does not give {name}: {error.message()}") from error
        apart = float(np.linalg.norm(answer - expected[name]) / np.linalg.norm(expected[name]))
        if not apart <= allowed:
            raise ArchError(
                f"{exported.name} answers {name} with a relative error of {apart:.1e} to the exported graph; "
                f"{allowed:.0e} is allowed"
            )
        largest = max(largest, apart)
    with Server(target) as server:
        (facts,) = server.models([exported.name])
    return (
        f"checked: Triton serves {', '.join(names)} of {exported.name} in {facts.executed_by or 'unknown precision'}, "
        f"{largest:.1e} from the graph in this process"
    )
