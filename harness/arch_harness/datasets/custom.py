"""Your own data: a manifest (CSV or JSON Lines), one folder a class, or a YAML file that describes either."""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_args

from arch_common.errors import UsageError

from arch_harness.datasets import splits
from arch_harness.datasets.declaration import Clip, Declaration, Domain, Fold, Listing, Task
from arch_harness.datasets.listing import find_files

AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")
DEFAULT_SECONDS = 10.0
DESCRIPTION = "dataset.yaml"
MANIFESTS = ("manifest.csv", "manifest.jsonl")

_PARTS = {"train": "train", "valid": "validation", "val": "validation", "validation": "validation", "test": "test"}
_KEYS = ("id", "title", "domain", "task", "max_seconds", "manifest", "folder", "licence", "citation")


@dataclass(frozen=True)
class _Row:
    """One clip of a manifest and the line it stands in."""

    line: int
    path: str
    labels: tuple[str, ...]
    group: str


@dataclass(frozen=True)
class _Rows:
    """A manifest; `grouped_by` is the column that splits it, empty where there is none."""

    rows: list[_Row]
    task: Task
    grouped_by: str


def declare_custom(path: Path) -> tuple[Declaration, Path]:
    """The declaration of data that needs no Python, and the folder that its paths are relative to.

    Args:
        path: a `.yaml` file, or a folder that holds `dataset.yaml`, `manifest.csv`, `manifest.jsonl`, or one folder
            a class (below `train`, `validation` and `test` where it is split).

    Raises:
        UsageError: if it is none of these or something in it is wrong; with the line where there is one.
    """
    path = path.resolve()
    if path.is_dir():
        if (path / DESCRIPTION).is_file():
            return _described(path / DESCRIPTION)
        manifest = next((path / name for name in MANIFESTS if (path / name).is_file()), None)
        return _declare({}, path.name, manifest, path), path
    if path.suffix in {".yaml", ".yml"} and path.is_file():
        return _described(path)
    raise UsageError(f"{path} is neither a folder nor a .yaml file that describes a dataset")


def _described(path: Path) -> tuple[Declaration, Path]:
    import yaml

    try:
        described = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise UsageError(f"{path}{line}: {error.problem or 'this is no YAML'}") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"cannot read {path}: {error}") from error
    if not isinstance(described, dict):
        raise UsageError(f"{path}: wants `key: value` lines; the keys are {', '.join(_KEYS)}")
    unknown = [str(key) for key in described if key not in _KEYS]
    if unknown:
        raise UsageError(f"{path}: unknown key {unknown[0]!r}; the keys are {', '.join(_KEYS)}")
    _check_values(path, described)
    folder = path.parent / described.get("folder", ".")
    if not folder.is_dir():
        raise UsageError(f"{path}: folder: there is no folder {folder}")
    manifest = path.parent / described["manifest"] if "manifest" in described else None
    name = path.parent.name if path.name == DESCRIPTION else path.stem
    return _declare(described, name, manifest, folder), folder


def _check_values(path: Path, described: dict[str, Any]) -> None:
    for key, allowed in (("domain", get_args(Domain)), ("task", get_args(Task))):
        if key in described and described[key] not in allowed:
            raise UsageError(f"{path}: {key} is {described[key]!r}; it must be one of {', '.join(allowed)}")
    seconds = described.get("max_seconds", 1)
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds <= 600:
        raise UsageError(f"{path}: max_seconds is {seconds!r}; it must be a number above 0 and at most 600")
    for key in ("id", "title", "manifest", "folder", "licence", "citation"):
        if not isinstance(described.get(key, ""), str):
            raise UsageError(f"{path}: {key} is {described[key]!r}; it must be text")


def _declare(described: dict[str, Any], name: str, manifest: Path | None, folder: Path) -> Declaration:
    identifier = described.get("id", re.sub(r"[^A-Za-z0-9_-]+", "_", name).strip("_"))
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", identifier):
        raise UsageError(f"{identifier!r} cannot be an id: use letters, digits, - and _")
    if manifest is None:
        rows = _class_folders(folder)
    else:
        read = _read_csv if manifest.suffix == ".csv" else _read_json_lines
        rows = _checked(manifest, folder, read(manifest))
    task = described.get("task", rows.task)
    if task == "single_label" and rows.task == "multi_label":
        raise UsageError(f"{manifest}: the task is single_label, but clips have more than one label or none")
    notes = ["This is the user's own data: its score cannot be compared with published ones."]
    if "max_seconds" not in described:
        notes.append(f"Clips are cut or padded to {DEFAULT_SECONDS:g} s, the default; max_seconds in a .yaml sets it.")
    split, said = _split_rule(rows)
    return Declaration(
        id=identifier,
        title=described.get("title", identifier),
        citation=described.get("citation", "not given"),
        licence=described.get("licence", "not given"),
        domain=cast("Domain", described.get("domain", "other")),
        task=cast("Task", task),
        max_seconds=float(described.get("max_seconds", DEFAULT_SECONDS)),
        files=(),
        find_clips=lambda _: Listing([Clip(row.path, row.labels, row.group) for row in rows.rows]),
        split=split,
        strict="own data is split as it says itself",
        notes=(*notes, said),
    )


def _split_rule(rows: _Rows) -> tuple[Callable[[Sequence[Clip]], list[Fold]], str]:
    if rows.grouped_by == "split":
        return lambda clips: splits.official(clips, "train", "validation", "test"), "The split is the data's own."
    if rows.grouped_by == "fold":
        numbers = all(row.group.isdigit() for row in rows.rows)
        said = "The folds are the data's own; validation is a random 20 % of the other folds (seed 42)."
        return lambda clips: splits.leave_one_group_out(clips, 0.2, int if numbers else str), said
    said = "The data names no split or fold: a random 20 % tests and a random 20 % of the rest validates (seed 42)."
    return splits.random_test_and_validation, said


def _class_folders(folder: Path) -> _Rows:
    """`<class>/**/*.wav`, or `train/<class>/...`, `validation/<class>/...`, `test/<class>/...`."""
    inside = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    depth = 1 if "train" in inside and "test" in inside else 0
    stray = [name for name in inside if name not in _PARTS] if depth else []
    if stray:
        raise UsageError(f"{folder} holds train and test, so {stray[0]} beside them must be validation or go")
    rows = []
    for path in find_files(folder, suffix=AUDIO_SUFFIXES):
        parts = path.split("/")
        if any(part.startswith(".") for part in parts):
            continue
        if len(parts) < depth + 2:
            raise UsageError(f"{folder / path} is in no class folder; put it in one or write a {MANIFESTS[0]}")
        rows.append(_Row(0, path, (parts[depth],), _PARTS[parts[0]] if depth else ""))
    if not rows:
        wanted = ", ".join((DESCRIPTION, *MANIFESTS))
        raise UsageError(
            f"{folder} holds no dataset: neither {wanted} nor a folder of {'/'.join(AUDIO_SUFFIXES)} a class"
        )
    return _Rows(rows, "single_label", "split" if depth else "")


def _read_csv(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Rows with their line numbers; `labels` is separated by semicolons."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            if "path" not in (reader.fieldnames or ()):
                raise UsageError(f"{path}, line 1: wants a header with path, label or labels, and maybe split or fold")
            for row in reader:
                if None in row or None in row.values():
                    raise UsageError(f"{path}, line {reader.line_num}: does not have as many values as the header")
                if "labels" in row:
                    row["labels"] = [label for label in row["labels"].split(";") if label.strip()]
                yield reader.line_num, row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"cannot read {path}: {error}") from error


def _read_json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Rows with their line numbers; `labels` is a list."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                try:
                    row = json.loads(line)
                except ValueError as error:
                    raise UsageError(f"{path}, line {number}: this is no JSON: {error}") from error
                if not isinstance(row, dict):
                    raise UsageError(f"{path}, line {number}: wants an object with path and label")
                yield number, row
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {path}: {error}") from error


def _checked(manifest: Path, folder: Path, entries: Iterator[tuple[int, dict[str, Any]]]) -> _Rows:
    rows: list[_Row] = []
    lines: dict[str, int] = {}
    missing: list[_Row] = []
    grouped_by = multi = None
    for number, entry in entries:
        where = f"{manifest}, line {number}"
        path = _relative(str(entry.get("path") or "").strip(), folder)
        if not path:
            raise UsageError(f"{where}: the path is missing")
        if path in lines:
            raise UsageError(f"{where}: {path} stands in line {lines[path]} already")
        lines[path] = number
        here = next((column for column in ("split", "fold") if column in entry), "")
        if ("split" in entry and "fold" in entry) or (grouped_by is not None and here != grouped_by):
            raise UsageError(f"{where}: every line must have a split, or every line a fold, or none of them either")
        if ("label" in entry) == ("labels" in entry) or (multi is not None and ("labels" in entry) != multi):
            raise UsageError(f"{where}: every line must have either a label or labels")
        grouped_by, multi = here, "labels" in entry
        row = _Row(number, path, _labels(where, entry), _group(where, entry, here))
        rows.append(row)
        if not (folder / path).is_file():
            missing.append(row)
    if not rows:
        raise UsageError(f"{manifest} lists no clips")
    if missing:
        others = f", nor of {len(missing) - 1:,} other lines" if len(missing) > 1 else ""
        raise UsageError(f"{manifest}, line {missing[0].line}: there is no file {folder / missing[0].path}{others}")
    several = any(len(row.labels) != 1 for row in rows)
    return _Rows(rows, "multi_label" if several else "single_label", grouped_by or "")


def _relative(path: str, folder: Path) -> str:
    """The one way to write a path, so that `./a.wav` is `a.wav`; relative to the folder where it is inside."""
    if not path:
        return ""
    plain = Path(os.path.normpath(path))  # leaves links as they are, which resolve() would not
    top = os.path.normpath(folder)
    inside = plain.is_absolute() and plain.is_relative_to(top)
    return (plain.relative_to(top) if inside else plain).as_posix()


def _labels(where: str, entry: dict[str, Any]) -> tuple[str, ...]:
    labels = entry["labels"] if "labels" in entry else [entry["label"]]
    if not isinstance(labels, list) or not all(isinstance(label, str | int) for label in labels):
        raise UsageError(f"{where}: labels must be a list of texts")
    cleaned = tuple(str(label).strip() for label in labels)
    if not all(cleaned) or ("label" in entry and not cleaned):
        raise UsageError(f"{where}: the label is missing")
    if len(set(cleaned)) < len(cleaned):
        raise UsageError(f"{where}: a label stands there twice")
    return cleaned


def _group(where: str, entry: dict[str, Any], column: str) -> str:
    given = entry.get(column)
    value = "" if given is None else str(given).strip()
    if column == "split" and value not in _PARTS:
        raise UsageError(f"{where}: split is {value!r}; it must be train, validation or test")
    if column == "fold" and not value:
        raise UsageError(f"{where}: the fold is missing")
    return _PARTS[value] if column == "split" else value
