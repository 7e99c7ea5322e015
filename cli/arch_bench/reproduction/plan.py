"""What is there of an experiment and what is missing: checkpoints, datasets, disk, time. Nothing is started."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from arch_common.errors import ArchError, UsageError

from arch_bench import data
from arch_bench.extras import needs
from arch_bench.reproduction.experiments import Asked, Subject

if TYPE_CHECKING:
    from arch_harness.datasets import Declaration

_FP32_BYTES = 4
# An embedding of the widest encoder of the tables.
_WIDEST = 1280
# What makes an export another model than the published one; what is not written is as published.
_AS_PUBLISHED = {"precision": "fp32", "lengths": "padded", "cut_after_layer": ""}


@dataclass(frozen=True)
class PlannedModel:
    """A checkpoint, and what is there of it.

    Attributes:
        subject: the checkpoint.
        state: exported; on this disk, to be exported; to download, and then to be exported; or in the way, where the
            repository holds another model of its name.
        download_bytes: None where there is nothing to download.
        is_estimate: whether that is only four bytes for each parameter, the hub not having been asked.
        export_bytes: of the ONNX graph that is to be written, about.
        parameters: of the encoder, about.
        problem: why it is left out; empty otherwise.
        has_scores: whether any published score of it is on file.
    """

    subject: Subject
    state: str
    parameters: int
    download_bytes: int | None = None
    is_estimate: bool = False
    export_bytes: int = 0
    problem: str = ""
    has_scores: bool = True


@dataclass(frozen=True)
class PlannedDataset:
    """A dataset, and what is there of it.

    Attributes:
        name: as it was asked for.
        declaration: of it.
        clips: that are listed here, or in the official release; None where neither is known.
        is_there: whether it can be benched.
        note: what is to be known or done about it; empty where all is well.
        fetch_gb: what `arch data fetch` downloads, where that is what is to be done and its size is known.
        can_be_fetched: whether it is missing, and `arch data fetch` gets it.
    """

    name: str
    declaration: Declaration
    clips: int | None
    is_there: bool
    note: str = ""
    fetch_gb: float | None = None
    can_be_fetched: bool = False

    @property
    def id(self) -> str:
        """As results name it."""
        return self.name.partition("=")[0]


@dataclass(frozen=True)
class DiskNeed:
    """What is to be written to the folders on one disk: bytes, about, and those that are free."""

    folders: tuple[Path, ...]
    needed: float
    free: int


@dataclass(frozen=True)
class Plan:
    """What an experiment needs.

    Attributes:
        asked: for.
        models: in the order asked for.
        datasets: likewise.
        disks: each once.
        hours: about, for what is there and not done yet; None where that cannot be told.
        hours_note: what they were estimated by, or why they cannot be.
    """

    asked: Asked
    models: list[PlannedModel]
    datasets: list[PlannedDataset]
    disks: list[DiskNeed]
    hours: float | None
    hours_note: str

    @property
    def left_out(self) -> list[str]:
        """What will not be run, a line each."""
        models = [f"{one.subject.reference}: {one.problem}" for one in self.models if one.problem]
        return models + [f"{one.name}: {one.note}" for one in self.datasets if not one.is_there]

    def lines(self) -> list[str]:
        """The list that is shown before anything starts."""
        lines = [self.asked.title, "checkpoints:"]
        lines += [f"  {one.subject.name}: {_of_model(one)}" for one in self.models]
        lines.append("datasets:")
        lines += [f"  {one.name}: {_of_dataset(one)}" for one in self.datasets]
        for disk in self.disks:
            short = "" if disk.needed < disk.free else ": too little"
            where = ", ".join(map(str, disk.folders))
            lines.append(
                f"disk: about {_size(disk.needed)} needed for all of it, {_size(disk.free)} free{short} ({where})"
            )
        unknown = [one.id for one in self.datasets if one.can_be_fetched and one.fetch_gb is None]
        if unknown:
            lines.append(f"  and what {', '.join(unknown)} need, whose size is not known")
        lines.append(f"time: {self.hours_note}")
        return lines


def survey(asked: Asked, repository: Path, data_root: Path) -> tuple[list[PlannedModel], list[PlannedDataset]]:
    """Look what is there; of the hub only the sizes of checkpoints are asked.

    Raises:
        UsageError: if a dataset is there but not as it must be.
    """
    return _models(asked.subjects, repository), [_dataset(name, data_root) for name in asked.datasets]


def _models(subjects: Sequence[Subject], repository: Path) -> list[PlannedModel]:
    with needs("export"):
        import huggingface_hub  # noqa: F401 - the next ones import it when they are called
        from arch_export.checkpoint.files import fp32_size
        from arch_export.checkpoint.hub import download_size, earlier_download
        from arch_export.repository.triton_config import read_parameters
    with needs("bench"):
        from arch_harness.published.table import published_models
    found = []
    hub_answers = True
    for one in subjects:
        published = published_models()[one.checkpoint]
        parameters = published.parameters_m * 1_000_000
        planned = PlannedModel(one, "on this disk", parameters, has_scores=bool(published.scores))
        if (repository / one.name / "config.pbtxt").is_file():
            facts = read_parameters(repository / one.name)
            if other := _otherwise(one, facts):
                planned = replace(planned, state="in the way", problem=_in_the_way(one, repository, other))
            else:
                count = facts.get("parameter_count", "")
                planned = replace(planned, state="exported", parameters=int(count) if count.isdecimal() else parameters)
        elif one.is_folder:
            size = fp32_size(Path(one.reference).expanduser())
            planned = replace(planned, parameters=size // _FP32_BYTES, export_bytes=size)
        else:
            planned = replace(planned, export_bytes=_FP32_BYTES * parameters)
            if earlier_download(one.checkpoint) is None:
                told = download_size(one.checkpoint) if hub_answers else None
                hub_answers = told is not None  # the others would not be told either, each after a wait
                size = told or _FP32_BYTES * parameters
                planned = replace(planned, state="to download", download_bytes=size, is_estimate=told is None)
        found.append(planned)
    return found


def _otherwise(one: Subject, facts: dict[str, str]) -> str:
    """How the model of that name in the repository differs from the one that is asked for; empty where it is that."""
    expected = f"local:{Path(one.reference).expanduser().resolve().name}" if one.is_folder else one.checkpoint
    told = [("source", facts.get("source", "unknown"), expected)]
    told += [(name, facts.get(name, wanted), wanted) for name, wanted in _AS_PUBLISHED.items()]
    return ", ".join(f"{name} {is_!r} and not {wanted!r}" for name, is_, wanted in told if is_ != wanted)


def _in_the_way(one: Subject, repository: Path, how: str) -> str:
    return f"{repository / one.name} is another model ({how}); move it away, or name another --repository"


def _dataset(name: str, data_root: Path) -> PlannedDataset:
    identifier, _, path = name.partition("=")
    with needs("bench"):
        from arch_harness.datasets.dataset import FIXTURE_NOTE, NOT_COMPARABLE, STRICT
    declaration = data.find_declaration(identifier.removesuffix(STRICT))
    folder = Path(path).expanduser() if path else data_root / declaration.id
    if not folder.is_dir():
        if path:
            raise UsageError(f"{name}: there is no folder {folder}")
        begun = data.presence(declaration, data_root) == "fetch begun"
        if declaration.remotes:
            what = f"not here{', but begun' if begun else ''}: arch data fetch {declaration.id}"
        else:
            what = f"not here, and to be placed by hand: {declaration.manual} Its place is {folder}"
        gb = declaration.download_gb
        return PlannedDataset(
            name, declaration, declaration.clips_official, False, what, gb, can_be_fetched=bool(declaration.remotes)
        )
    try:
        found = data.open_dataset(name, data_root)
    except ArchError as error:
        return PlannedDataset(
            name, declaration, declaration.clips_official, False, str(error).removeprefix(f"{identifier}: ")
        )
    notes = ["an imitation, of which nothing is reproduced" for note in found.notes if note == FIXTURE_NOTE]
    notes += [note for note in found.notes if note.endswith(NOT_COMPARABLE)]
    return PlannedDataset(name, found.declaration, len(found.clips), True, "; ".join(notes))


def disks(
    models: Sequence[PlannedModel], datasets: Sequence[PlannedDataset], repository: Path, data_root: Path, cache: Path
) -> list[DiskNeed]:
    """What is to be written, by disk: downloads, graphs, datasets, embeddings."""
    with needs("export"):
        from arch_export.checkpoint.hub import download_folder
    clips = sum(one.clips or 0 for one in datasets)
    fetched = [1e9 * (one.fetch_gb or 0) for one in datasets]
    wanted = (
        (download_folder(), sum(one.download_bytes or 0 for one in models)),
        (repository, sum(one.export_bytes for one in models)),
        # What is unpacked is about as large as its archive, and the largest archive lies beside it for a while.
        (data_root, sum(fetched) + max(fetched, default=0)),
        (cache, clips * len(models) * _FP32_BYTES * _WIDEST),
    )
    found: dict[int, DiskNeed] = {}
    for folder, needed in wanted:
        if not needed:
            continue
        there = next(one for one in (folder.absolute(), *folder.absolute().parents) if one.exists())
        before = found.get(there.stat().st_dev, DiskNeed((), 0, shutil.disk_usage(there).free))
        found[there.stat().st_dev] = DiskNeed((*before.folders, folder), before.needed + needed, before.free)
    return list(found.values())


def _of_model(one: PlannedModel) -> str:
    if one.problem:
        return f"left out: {one.problem}"
    bare = "" if one.has_scores else "; no published score of it is on file"
    if one.state == "exported":
        return f"exported, kept{bare}"
    if one.download_bytes is None:
        return f"on this disk, to be exported{bare}"
    size = f"{'about ' if one.is_estimate else ''}{_size(one.download_bytes)}"
    return f"to download from the hub ({one.subject.checkpoint}, {size}) and to be exported{bare}"


def _of_dataset(one: PlannedDataset) -> str:
    if one.is_there:
        return f"{one.clips:,} clips{'; ' if one.note else ''}{one.note}"
    size = f" ({one.fetch_gb:.1f} GB)" if one.fetch_gb is not None else ""
    return f"{one.note}{size}"


def _size(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{max(count, 0) / 1e6:.0f} MB"
