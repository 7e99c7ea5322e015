"""The datasets, as the commands and the API find them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from arch_common.errors import ArchError, UsageError

from arch_bench.extras import needs

if TYPE_CHECKING:
    from arch_harness.datasets import Dataset, Declaration
    from arch_harness.datasets.download.fetch import Watch
    from arch_harness.datasets.fixtures.fixture import Fixture
    from arch_harness.datasets.info import Info
    from arch_harness.datasets.verify import Fault
    from rich.console import Console

_MOST_WORKERS = 1000


def root(data_root: str | Path | None = None) -> Path:
    """Where the datasets are: `data_root`, or `$ARCH_DATA`, or `data`."""
    return Path(data_root or os.environ.get("ARCH_DATA") or "data")


def declarations() -> dict[str, Declaration]:
    """All known datasets by id: the twelve of ARCH, the demo's, and those of installed packages."""
    with needs("bench"):
        from arch_harness.datasets.registry import declarations as known
    return known()


def find_declaration(identifier: str) -> Declaration:
    """The declaration with this id.

    Raises:
        UsageError: if there is none.
    """
    with needs("bench"):
        from arch_harness.datasets.registry import find_declaration as find
    return find(identifier)


def open_all(
    names: Sequence[str | Path], data_root: str | Path | None, splits: str, console: Console | None
) -> list[Dataset]:
    """Index several datasets.

    Args:
        names: as for `open_dataset`; one that stands twice is taken once.
        data_root: likewise.
        splits: `strict` or `arch`.
        console: is told which datasets have no stricter split than the one that is asked for.

    Raises:
        UsageError: as `open_dataset`, and if two are the same dataset.
    """
    opened: list[Dataset] = []
    for name in dict.fromkeys(map(str, names)):
        one = open_dataset(name, data_root, strict=splits == "strict")
        if one.id in {other.id for other in opened}:
            raise UsageError(f"the dataset {one.id!r} is named twice")
        if splits == "strict" and not one.is_strict and console is not None:
            line = f"{one.id}: no stricter split: {one.declaration.strict}"
            console.print(line, highlight=False, markup=False, soft_wrap=True)
        opened.append(one)
    return opened


def open_dataset(name: str, data_root: str | Path | None = None, *, strict: bool = False) -> Dataset:
    """Index a dataset; no audio is read.

    Args:
        name: an id, `ID=PATH`, a `.yaml` file or a folder of one's own data; an id may end in `@strict`.
        data_root: where an id without a path is looked for.
        strict: take the stricter split where the dataset has one.

    Raises:
        UsageError: if there is no such dataset, or it is not as it must be.
    """
    with needs("bench"):
        from arch_harness.datasets.registry import open_dataset as open_one
    return open_one(name, root(data_root), strict=strict)


def presence(declaration: Declaration, data_root: str | Path | None = None) -> str:
    """Whether a dataset is on the disk: yes, no, fetch begun, incomplete, fixture, or by hand (not to be fetched)."""
    with needs("bench"):
        from arch_harness.datasets.registry import presence as of
    return of(declaration, root(data_root) / declaration.id)


def fetch(
    identifier: str, data_root: str | Path | None = None, *, watch: Watch | None = None, mirror: str | None = None
) -> Path:
    """Download a dataset, check it and unpack it; goes on where an earlier call ended. Gives its folder.

    Args:
        identifier: one of the known ids.
        data_root: where its folder is made.
        watch: told of the progress.
        mirror: take files from `<mirror>/<id>/<file name>` instead of their own places.

    Raises:
        ArchError: if it cannot be fetched, or is damaged.
    """
    with needs("bench"):
        from arch_harness.datasets.download.fetch import Silent
        from arch_harness.datasets.download.fetch import fetch as fetch_one
    declaration, where = find_declaration(identifier), root(data_root)
    if not declaration.remotes:
        raise ArchError(f"{identifier} cannot be fetched: {declaration.manual} Its place is {where / identifier}")
    fetch_one(declaration, where, watch or Silent(), mirror)
    return where / identifier


def verify(dataset: Dataset, *, workers: int | None = None, on_clip: Callable[[], None] = lambda: None) -> list[Fault]:
    """Decode every clip and list what is missing, extra, broken, miscounted, or leaks from one split into another.

    Args:
        dataset: from `open_dataset`.
        workers: processes that decode; by default all cores.
        on_clip: called after each clip.

    Raises:
        UsageError: if so many processes cannot be.
    """
    if workers is not None and not 1 <= workers <= _MOST_WORKERS:
        raise UsageError(f"workers cannot be {workers}: from 1 to {_MOST_WORKERS}")
    with needs("bench"):
        from arch_harness.datasets.verify import verify as verify_one
    return verify_one(dataset, workers or len(os.sched_getaffinity(0)), on_clip)


def describe(dataset: Dataset, *, on_clip: Callable[[], None] = lambda: None) -> Info:
    """Durations, formats and class balance of a dataset, by the headers of its files.

    Args:
        dataset: from `open_dataset`.
        on_clip: called after each clip.
    """
    with needs("bench"):
        from arch_harness.datasets.info import describe as describe_one
    return describe_one(dataset, on_clip)


def check_plot(path: str | Path) -> Path:
    """Where `draw` is to write.

    Raises:
        UsageError: if it is no .svg or .png, there is no such folder, or it is one itself.
    """
    if Path(path).suffix.lower() not in {".svg", ".png"}:
        raise UsageError(f"{path} must end in .svg or .png")
    if not Path(path).parent.is_dir():
        raise UsageError(f"cannot write {path}: there is no folder {Path(path).parent}")
    if Path(path).is_dir():
        raise UsageError(f"cannot write {path}: it is a folder")
    return Path(path)


def draw(dataset: Dataset, found: Info, path: str | Path) -> None:
    """Draw class balance and durations.

    Args:
        dataset: from `open_dataset`.
        found: what `describe` found of it.
        path: of an .svg or .png.

    Raises:
        UsageError: if the path has another ending.
        ArchError: if it cannot be written.
    """
    with needs("bench"):
        from arch_harness.datasets.info import draw as draw_one
    try:
        draw_one(dataset, found, check_plot(path))
    except OSError as error:
        raise ArchError(f"cannot write {path}: {error.strerror or error}") from error


def imitate(identifier: str, folder: str | Path, *, clips: int = 40, quirks: bool = True, seed: int = 0) -> Fixture:
    """Write a small imitation of a dataset: its official layout, with synthesised audio.

    Args:
        identifier: one of the twelve.
        folder: a new one.
        clips: how many it lists.
        quirks: plant missing, empty and broken files, as real releases have.
        seed: of the audio.
    """
    with needs("bench"):
        from arch_harness.datasets.fixtures.fixture import write_fixture
    return write_fixture(find_declaration(identifier), Path(folder), clips, quirks, seed)
