"""The whole job on synthesised sound: a checkpoint is made, exported, served and benched."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from arch_common.files import check_folder

from arch_bench import api, data
from arch_bench import cache as store
from arch_bench.extras import needs
from arch_bench.loaded import LoadedRun

if TYPE_CHECKING:
    from arch_export.pipeline import Exported
    from rich.console import Console


def demo(
    output: str | Path = Path("reports/demo"),
    repository: str | Path = api.REPOSITORY,
    data_root: str | Path | None = None,
    *,
    on_step: Callable[[str], None] = lambda _: None,
    on_warning: Callable[[str], None] = lambda _: None,
    on_exported: Callable[[list[Exported]], None] = lambda _: None,
    command: str = "arch_bench.demo()",
    console: Console | None = None,
) -> LoadedRun:
    """The whole job on synthesised sound with two small encoders; needs every part, and no download.

    Args:
        output: folder for the report.
        repository: for the two models.
        data_root: for the dataset and the checkpoint.
        on_step: told what is being done before the bench.
        on_warning: told what should be known of the exports although they go on.
        on_exported: told what was exported.
        command: what the report names as its origin.
        console: draws progress and notes; None stays silent.
    """
    root, output = data.root(data_root), Path(output)
    check_folder(output, "--output")
    store.check()
    on_step("making a small random HuBERT")
    with needs("export"):
        from arch_export.checkpoint.random_weights import write_random_hubert
    checkpoint = write_random_hubert(root / "checkpoints" / "hubert-small-random")
    exported = []
    for one in ("logmel", checkpoint):
        name = Path(one).name

        def step(text: str, name: str = name) -> None:
            on_step(f"{name}: {text}")

        exported.append(api.export(one, repository, on_step=step, on_warning=on_warning))
    on_exported(exported)
    on_step("synthesising the dataset")
    with needs("bench"):
        from arch_harness.datasets.catalog.demo import write_demo
    folder = write_demo(root / "demo")
    # A demonstration shows what happens, and so begins anew.
    for old in (output / "results.json", *(output / "measurements").glob("*--demo.json")):
        old.unlink(missing_ok=True)
    return api.bench(
        f"demo={folder}",
        models=[one.name for one in exported],
        repository=repository,
        output=output,
        recompute=True,
        repeat=2,  # its hundred clips, sent once, are too few for a steady measurement
        command=command,
        console=console,
    )
