"""`arch data`: what datasets there are, getting them, and checking them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from arch_common.errors import ArchError
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TransferSpeedColumn,
)
from rich.table import Table

from arch_bench import data
from arch_bench.options import DataRoot
from arch_bench.terminal import ERR, OUT

if TYPE_CHECKING:
    from arch_harness.datasets import Dataset
    from arch_harness.datasets.verify import Fault

app = typer.Typer(name="data", help="The datasets: list, fetch, verify, describe.", no_args_is_help=True)

# More faults than these are counted, not shown.
_SHOWN = 20


def _known(incomplete: str) -> list[str]:
    """The ids that a shell completes; those of installed packages too."""
    return [identifier for identifier in data.declarations() if identifier.startswith(incomplete)]


Identifiers = Annotated[
    list[str], typer.Argument(metavar="ID", help="Dataset ids; see arch data list.", autocompletion=_known)
]
_OWN_TOO = "as for arch bench: an id (see arch data list), ID=PATH, my.yaml or DIR."
Name = Annotated[str, typer.Argument(metavar="DATASET", help=f"What to open, {_OWN_TOO}", autocompletion=_known)]
Names = Annotated[
    list[str], typer.Argument(metavar="DATASET", help=f"What to open, each {_OWN_TOO}", autocompletion=_known)
]


@app.command("list")
def list_datasets(data_root: DataRoot = Path("data")) -> None:
    """Show every dataset that arch knows, those of installed packages too."""
    OUT.print(f"Datasets; those present are in {data_root}", soft_wrap=True)
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    for column in ("id", "domain", "labels", "classes", "clips", "GB", "present"):
        table.add_column(column, justify="right" if column in {"classes", "clips", "GB"} else "left", no_wrap=True)
    present = {one.id: data.presence(one, data_root) for one in data.declarations().values()}
    # Long terms are cut in a narrow terminal, before anything else is; `arch data info` shows them whole.
    others = 59 + max(map(len, present.values()))
    table.add_column("licence", no_wrap=True, max_width=max(8, OUT.width - others))
    for one in data.declarations().values():
        table.add_row(
            one.id,
            one.domain,
            one.task.removesuffix("_label"),
            _number(one.classes_official),
            _number(one.clips_official),
            "-" if one.download_gb is None and not one.remotes else _number(one.download_gb, ".1f"),
            present[one.id],
            one.licence,
        )
    OUT.print(table)
    OUT.print(
        "GB: about what arch data fetch downloads; -: it downloads nothing. unknown: no published figure is known to "
        "arch; of a download it shows as it goes on.",
        soft_wrap=True,
    )


def _number(value: float | None, form: str = ",") -> str:
    return "unknown" if value is None else format(value, form)


@app.command()
def fetch(
    identifiers: Identifiers,
    data_root: DataRoot = Path("data"),
    mirror: Annotated[
        str | None, typer.Option(help="Take files from <URL>/<id>/<file name> instead of their own places.")
    ] = None,
) -> None:
    """Download datasets, check them against published checksums, and unpack them; go on where an earlier call ended."""
    wanted = [data.find_declaration(identifier) for identifier in dict.fromkeys(identifiers)]
    problems = [
        f"{one.id} cannot be fetched: {one.manual} Its place is {data_root / one.id}"
        for one in wanted
        if not one.remotes and not (data_root / one.id).exists()
    ]
    exit_code = 1 if problems else 0
    try:
        for declaration in wanted:
            folder = data_root / declaration.id
            if folder.exists():
                states = {"yes": "", "fixture": ", a fixture of arch data fake"}
                state = states.get(data.presence(declaration, data_root))
                if state is None:  # a script that goes on would find half a dataset, or none
                    cure = "move it away, and fetch it again" if declaration.remotes else declaration.manual
                    problems.append(f"{folder} is there already, but not whole: {cure}")
                    exit_code = max(exit_code, 1)
                    continue
                note = f"{folder} is there already{state}; arch data verify {declaration.id} checks it"
                OUT.print(note, soft_wrap=True)
            elif declaration.remotes:
                try:
                    with downloads() as watch:
                        data.fetch(declaration.id, data_root, watch=watch, mirror=mirror)
                except ArchError as error:  # the others can be fetched all the same
                    problems.append(str(error))
                    exit_code = max(exit_code, error.exit_code)
                else:
                    note = f"{declaration.id} is in {folder}; licence: {declaration.licence}"
                    OUT.print(note, soft_wrap=True)
    finally:  # after an interruption too
        for problem in problems:
            ERR.print(f"arch: {problem}", soft_wrap=True)
    if exit_code:
        raise typer.Exit(exit_code)


class _Downloads:
    """A bar for each file."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}
        self._lock = threading.Lock()

    def start(self, name: str, total: int | None, done: int) -> None:
        with self._lock:
            if name not in self._tasks:
                self._tasks[name] = self._progress.add_task(name, total=total)
        self._progress.update(self._tasks[name], total=total, completed=done)

    def advance(self, name: str, count: int) -> None:
        self._progress.advance(self._tasks[name], count)

    def note(self, text: str) -> None:
        self._progress.console.print(text, soft_wrap=True)


@contextmanager
def downloads() -> Iterator[_Downloads]:
    """Progress of downloads, a bar for each file."""
    name = TextColumn("{task.description}")
    columns = (name, BarColumn(bar_width=20), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=ERR) as progress:
        yield _Downloads(progress)


@app.command()
def verify(
    datasets: Names,
    data_root: DataRoot = Path("data"),
    workers: Annotated[int | None, typer.Option(min=1, help="Processes that decode; by default all cores.")] = None,
) -> None:
    """Decode every clip and report what is missing, extra, broken, miscounted, or leaks from one split into another."""
    faulty = False
    for dataset in [data.open_dataset(name, data_root) for name in dict.fromkeys(datasets)]:
        clips = len({clip.path for clip in dataset.clips})
        with _clips(f"verify {dataset.id}", clips) as on_clip:
            faults = data.verify(dataset, workers=workers, on_clip=on_clip)
        _show_counts(dataset)
        _show_faults(dataset, faults)
        faulty = faulty or bool(faults)
    if faulty:
        raise typer.Exit(1)


@contextmanager
def _clips(what: str, total: int) -> Iterator[Callable[[], None]]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TextColumn("clips"),
    )
    with Progress(*columns, console=ERR) as progress:
        task = progress.add_task(what, total=total)
        yield lambda: progress.advance(task)


def _show_counts(dataset: Dataset) -> None:
    found, expected = dataset.counts, dataset.expected
    table = Table(title=f"{dataset.declaration.title}: clips of each group", title_justify="left")
    for column in ("group", "clips", "expected"):
        table.add_column(column, justify="left" if column == "group" else "right")
    for group in dict.fromkeys([*expected.groups, *sorted(found.groups)]):
        table.add_row(group or "all", f"{found.groups.get(group, 0):,}", _number(expected.groups.get(group)))
    table.add_row("together", f"{found.clips:,}", _number(expected.clips), style="bold")
    OUT.print(table)


def _show_faults(dataset: Dataset, faults: list[Fault]) -> None:
    if not faults:
        OUT.print(f"{dataset.id}: no faults in {len(dataset.clips):,} clips")
        return
    table = Table(
        title=f"{dataset.id}: {len(faults):,} {'fault' if len(faults) == 1 else 'faults'}", title_justify="left"
    )
    for column in ("fault", "where", "what"):
        table.add_column(column, overflow="fold")
    for kind in dict.fromkeys(fault.kind for fault in faults):
        these = [fault for fault in faults if fault.kind == kind]
        for fault in these[:_SHOWN]:
            table.add_row(kind, fault.where, fault.detail)
        if len(these) > _SHOWN:
            table.add_row(kind, f"and {len(these) - _SHOWN:,} more", "")
    OUT.print(table)


@app.command()
def info(
    dataset: Name,
    data_root: DataRoot = Path("data"),
    plot: Annotated[Path | None, typer.Option(help="Write class balance and durations as .svg or .png.")] = None,
) -> None:
    """Show splits, durations, formats and class balance of a dataset."""
    if plot is not None:
        data.check_plot(plot)
    opened = data.open_dataset(dataset, data_root)
    with _clips(f"read {opened.id}", len(opened.clips)) as on_clip:
        found = data.describe(opened, on_clip=on_clip)
    declaration = opened.declaration
    facts = Table(title=declaration.title, title_justify="left", show_header=False)
    rows = {
        "citation": declaration.citation,
        "licence": declaration.licence,
        "task": f"{declaration.task.replace('_', '-')}, {declaration.domain}, scored by {declaration.metric}",
        "clips": f"{len(opened.clips):,}, cut or padded to {declaration.max_seconds:g} s",
        "formats": "; ".join(f"{name}: {count:,}" for name, count in found.formats.items()) or "none readable",
        "unreadable": f"{found.unreadable:,}",
        "notes": "\n".join(opened.notes) or "none",
    }
    if len(found.seconds):
        shortest, middle, longest = found.quantiles(0, 0.5, 1)
        hours = found.seconds.sum() / 3600
        rows["durations"] = f"{shortest:.2f} to {longest:.2f} s, median {middle:.2f} s; together {hours:.2f} h"
    for name, value in rows.items():
        facts.add_row(name, value)
    folds = Table(title="Splits", title_justify="left")
    for column in ("fold", "train", "validation", "test"):
        folds.add_column(column, justify="left" if column == "fold" else "right")
    for fold in opened.folds:
        folds.add_row(fold.name, *(f"{len(part):,}" for part in (fold.train, fold.validation, fold.test)))
    classes = Table(title=f"{len(opened.classes)} classes, by label id", title_justify="left")
    for column in ("label", "clips", ""):
        classes.add_column(column, justify="right" if column == "clips" else "left")
    most = max(found.classes.values())
    for label, count in found.classes.items():
        classes.add_row(label, f"{count:,}", "█" * round(20 * count / most))
    OUT.print(facts, folds, classes)
    if plot is not None:
        data.draw(opened, found, plot)
        OUT.print(f"plot: {plot}", soft_wrap=True)


@app.command(hidden=True)
def fake(
    identifier: Annotated[str, typer.Argument(metavar="ID", help="One of the twelve.", autocompletion=_known)],
    clips: Annotated[int, typer.Option(min=40, help="How many it lists.")] = 40,
    output: Annotated[Path | None, typer.Option(help="A new folder. [<data root>/<id>]")] = None,
    quirks: Annotated[bool, typer.Option(help="Plant missing, empty and broken files, as real releases have.")] = True,
    seed: Annotated[int, typer.Option(min=0, help="Of the audio.")] = 0,
    data_root: DataRoot = Path("data"),
) -> None:
    """Write a small imitation of a dataset: its official layout, with synthesised audio."""
    folder = output or data_root / identifier
    fixture = data.imitate(identifier, folder, clips=clips, quirks=quirks, seed=seed)
    faults = "; ".join(f"{path}: {kind}" for path, kind in fixture.faults.items()) or "none"
    OUT.print(f"{fixture.clips} clips in {folder}; at fault: {faults}", soft_wrap=True)
