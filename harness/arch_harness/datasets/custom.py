"""Your own data: a manifest (CSV or JSON Lines), one folder a class, or a YAML file that describes either."""

from __future__ import annotations

import csv
import json
import os
import re
import reprlib
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, cast, get_args

from arch_common.errors import UsageError, reason_of

from arch_harness.datasets import splits
from arch_harness.datasets.class_folders import PARTS, list_class_folders
from arch_harness.datasets.declaration import Clip, Declaration, Domain, Fold, Listing, Task
from arch_harness.datasets.listing import NUMBER, is_showable, open_table, printable

DEFAULT_SECONDS = 10.0
DESCRIPTION = "dataset.yaml"
MANIFESTS = ("manifest.csv", "manifest.jsonl")
# Names that are likely to be meant for them.
_NEARLY = ("dataset.yml", "manifest.json", "manifest.ndjson", "manifest.tsv")

_COLUMNS = ("path", "label", "labels", "split", "fold", "group")
_SOME_SUFFIXES = ".wav, .flac, .ogg, .opus, .mp3 or .aiff"
# It becomes part of the names of files, which may have 255.
_LONGEST_ID = 100
_KEYS = ("id", "title", "domain", "task", "max_seconds", "manifest", "folder", "licence", "citation")

# What splits the clips: a column of a manifest, or the folders.
_Grouped = Literal["split", "fold", ""]


def declare_custom(path: Path) -> tuple[Declaration, Path]:
    """The declaration of data that needs no Python, and the folder that its paths are relative to.

    Args:
        path: a `.yaml` file, or a folder that holds `dataset.yaml`, `manifest.csv`, `manifest.jsonl`, or one folder
            a class (below `train`, `validation` and `test` where it is split).

    Raises:
        UsageError: if it is none of these or something in it is wrong; with the line where there is one.
    """
    path = Path(os.path.realpath(path))
    if not is_showable(str(path)):
        raise UsageError(f"the path {printable(str(path))} is not UTF-8 or holds control characters; rename it")
    if os.path.isdir(path):  # noqa: PTH112 - no OSError, whatever is asked for
        description = _find(path, DESCRIPTION)
        if description is not None:
            return _described(description)
        return _declare({}, path.name, _find(path, *MANIFESTS), path), path
    if path.suffix in {".yaml", ".yml"} and os.path.isfile(path):  # noqa: PTH113
        return _described(path)
    raise UsageError(f"{path} is neither a folder nor a .yaml file that describes a dataset")


def _find(folder: Path, *names: str) -> Path | None:
    """The first of the files that is there.

    Raises:
        UsageError: if none is, but something that is meant for one: passed over, it would leave a dataset with other
            labels, splits or lengths than it says.
    """
    for name in names:
        if os.path.isfile(folder / name):  # noqa: PTH113
            return folder / name
    try:
        entries = sorted(os.listdir(folder))  # noqa: PTH208
    except OSError:  # looking for clips says so
        return None
    stem = names[0].partition(".")[0]
    for entry in entries:
        if entry.lower() in (*names, *_NEARLY) and entry.lower().partition(".")[0] == stem:
            wrong = "is no file that can be read" if entry in names else "is not read"
            raise UsageError(f"{folder / entry} {wrong}: it must be a file named {' or '.join(names)}, or not be there")
    return None


def _described(path: Path) -> tuple[Declaration, Path]:
    import yaml

    try:
        text = path.read_text(encoding="utf-8-sig")
        described = yaml.safe_load(text)
        node = yaml.compose(text, yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise UsageError(f"{path}{line}: {printable(error.problem or 'this is no YAML')}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 text; save it as UTF-8") from error
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    except (
        yaml.YAMLError,
        ValueError,
        LookupError,
        TypeError,
        RecursionError,
    ) as error:  # PyYAML's own, of a date such as 2024-13-01
        raise UsageError(f"{path} cannot be understood: {reason_of(error)}") from error
    if not isinstance(described, dict):
        raise UsageError(f"{path}: wants `key: value` lines; the keys are {', '.join(_KEYS)}")
    keys = [key.value for key, _ in node.value] if isinstance(node, yaml.MappingNode) else []
    twice = next((key for key in keys if keys.count(key) > 1), None)
    if twice is not None:  # YAML takes the last
        raise UsageError(f"{path}: the key {reprlib.repr(twice)} is there twice")
    unknown = [str(key) for key in described if key not in _KEYS]
    if unknown:
        raise UsageError(f"{path}: unknown key {unknown[0]!r}; the keys are {', '.join(_KEYS)}")
    _check_values(path, described)
    folder = path.parent / described.get("folder", ".")
    if not os.path.isdir(folder):  # noqa: PTH112
        raise UsageError(f"{path}: folder: there is no folder {printable(str(folder))}")
    manifest = path.parent / described["manifest"] if "manifest" in described else None
    beside = next((folder / name for name in MANIFESTS if os.path.lexists(folder / name)), None)
    if manifest is None and beside is not None:  # which the folder alone would have been read by
        raise UsageError(
            f"{path} names no manifest, but there is {beside}: say `manifest: {os.path.relpath(beside, path.parent)}`, "
            "or move it away to have one folder a class"
        )
    name = path.parent.name if path.name == DESCRIPTION else path.stem
    return _declare(described, name, manifest, folder), folder


def _check_values(path: Path, described: dict[str, Any]) -> None:
    for key, allowed in (("domain", get_args(Domain)), ("task", get_args(Task))):
        if key in described and described[key] not in allowed:
            given = reprlib.repr(described[key])
            raise UsageError(f"{path}: {key} is {given}; it must be one of {', '.join(allowed)}")
    seconds = described.get("max_seconds", 1)
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0.1 <= seconds <= 600:
        raise UsageError(f"{path}: max_seconds is {reprlib.repr(seconds)}; it must be a number from 0.1 to 600")
    for key in ("id", "title", "manifest", "folder", "licence", "citation"):
        value = described.get(key, "")
        if isinstance(value, str) and key in {"title", "licence", "citation"} and key in described:
            described[key] = value = " ".join(value.split())  # YAML has ways to write several lines
        if not isinstance(value, str) or not is_showable(value):
            raise UsageError(f"{path}: {key} is {reprlib.repr(value)}; it must be text of one line")


def _declare(described: dict[str, Any], name: str, manifest: Path | None, folder: Path) -> Declaration:
    identifier = _identifier(described.get("id"), name)
    if manifest is None:
        listing, is_split = list_class_folders(folder)
        grouped: _Grouped = "split" if is_split else ""
        if not listing.clips:
            wanted = ", ".join((DESCRIPTION, *MANIFESTS))
            raise UsageError(f"{folder} holds no dataset: neither {wanted} nor a folder a class with {_SOME_SUFFIXES}")
    else:
        read = _read_csv if manifest.suffix.lower() == ".csv" else _read_json_lines
        listing, grouped = _checked(manifest, folder, read(manifest))
    several = any(len(clip.labels) != 1 for clip in listing.clips)
    task = described.get("task", "multi_label" if several else "single_label")
    if task == "single_label" and several:
        raise UsageError(f"{manifest}: the task is single_label, but clips have more than one label or none")
    notes = ["This is the user's own data: its score cannot be compared with published ones."]
    if "max_seconds" not in described:
        notes.append(f"Clips are cut or padded to {DEFAULT_SECONDS:g} s, the default; max_seconds in a .yaml sets it.")
    split, said = _split_rule(listing.clips, grouped)
    return Declaration(
        id=identifier,
        title=described.get("title", identifier),
        citation=described.get("citation", "not given"),
        licence=described.get("licence", "not given"),
        domain=cast("Domain", described.get("domain", "other")),
        task=cast("Task", task),
        max_seconds=float(described.get("max_seconds", DEFAULT_SECONDS)),
        files=(),
        find_clips=lambda _: listing,
        split=split,
        strict="own data is split as it says itself",
        notes=(*notes, said),
    )


def _identifier(given: str | None, name: str) -> str:
    """The id that a description gives, or what can be one of the name of its file or folder.

    Letters are those of any script: an id that leaves some out would be that of other data too.
    """
    identifier = unicodedata.normalize("NFC", name if given is None else given)
    if given is None:
        identifier = re.sub("_+", "_", "".join(letter if _may_be_in_id(letter) else "_" for letter in identifier))
        identifier = identifier.strip("_-")
    whole = all(map(_may_be_in_id, identifier)) and identifier[:1].isalnum()
    if not whole or len(identifier.encode()) > _LONGEST_ID:
        wrong = f"{reprlib.repr(printable(identifier if whole else given or name))} cannot be an id"
        must = f"letters, digits, - and _, at most {_LONGEST_ID} bytes of UTF-8"
        raise UsageError(f"{wrong}: use {must}" + ("; say `id: ...` in a dataset.yaml" if given is None else ""))
    return identifier


def _may_be_in_id(letter: str) -> bool:
    return letter in "-_" or letter.isalnum() or unicodedata.category(letter).startswith("M")


def _split_rule(clips: Sequence[Clip], grouped: _Grouped) -> tuple[Callable[[Sequence[Clip]], list[Fold]], str]:
    if grouped == "split":
        return lambda clips: splits.official(clips, "train", "validation", "test"), "The split is the data's own."
    if grouped == "fold":
        numbers = all(re.fullmatch(NUMBER, clip.group) for clip in clips)
        said = (
            "The folds are the data's own; validation is a random 20 % of the other folds (seed 42). The probes linear "
            "and mlp choose nothing by it; logreg and knn choose on whole folds held out."
        )
        return lambda clips: splits.leave_one_group_out(clips, 0.2, int if numbers else str), said
    said = "The data names no split or fold: a random 20 % tests and a random 20 % of the rest validates (seed 42)."
    return splits.random_test_and_validation, said


def _read_csv(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Rows with their line numbers; `labels` is separated by semicolons."""
    with open_table(path) as file:
        reader = csv.DictReader(file)
        header = [_column(name) for name in reader.fieldnames or ()]
        if "path" not in header:
            raise UsageError(f"{path}, line 1: wants a header with path, label or labels, and maybe split or fold")
        twice = next((name for name in _COLUMNS if header.count(name) > 1), None)
        if twice:
            raise UsageError(f"{path}, line 1: the column {twice} is there twice")
        reader.fieldnames = header
        for row in reader:
            if None in row or None in row.values():
                raise UsageError(f"{path}, line {reader.line_num}: does not have as many values as the header")
            if "labels" in row:
                row["labels"] = [label for label in row["labels"].split(";") if label.strip()]
            yield reader.line_num, row


def _read_json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Rows with their line numbers; `labels` is a list."""
    with open_table(path) as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line, object_pairs_hook=_columns)
            except UsageError as error:
                raise UsageError(f"{path}, line {number}: {error}") from error
            except (ValueError, RecursionError) as error:
                raise UsageError(f"{path}, line {number}: this is no JSON: {error}") from error
            if not isinstance(row, dict):
                raise UsageError(f"{path}, line {number}: wants an object with path and label")
            yield number, row


def _columns(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON, which would take the last of two values."""
    row: dict[str, Any] = {}
    for key, value in pairs:
        column = _column(key)
        if column in row and column in _COLUMNS:
            raise UsageError(f"the key {column} is there twice")
        row[column] = value
    return row


def _column(name: str) -> str:
    """The name of a column: `Split ` is split, and not a column of which nothing is known."""
    plain = name.strip().lower()
    return plain if plain in _COLUMNS else name


def _checked(manifest: Path, folder: Path, entries: Iterator[tuple[int, dict[str, Any]]]) -> tuple[Listing, _Grouped]:
    clips: list[Clip] = []
    lines: dict[str, int] = {}
    missing: list[tuple[int, str]] = []
    grouped: _Grouped | None = None
    multi = None
    for number, entry in entries:
        where = f"{manifest}, line {number}"
        written = _relative(_text(where, "path", entry.get("path")), folder)
        if not written:
            raise UsageError(f"{where}: the path is missing")
        there = _on_disk(folder, written)
        path = there or written
        if path in lines:
            raise UsageError(f"{where}: {path} stands in line {lines[path]} already")
        lines[path] = number
        here: _Grouped = "split" if "split" in entry else "fold" if "fold" in entry else ""
        if ("split" in entry and "fold" in entry) or (grouped is not None and here != grouped):
            raise UsageError(f"{where}: every line must have a split, or every line a fold, or none of them either")
        if ("label" in entry) == ("labels" in entry) or (multi is not None and ("labels" in entry) != multi):
            raise UsageError(f"{where}: every line must have either a label or labels")
        grouped, multi = here, "labels" in entry
        source = _text(where, "group", entry.get("group"))
        clips.append(Clip(path, _labels(where, entry), _group(where, entry, here), source))
        if there is None:
            missing.append((number, path))
    if not clips:
        raise UsageError(f"{manifest} lists no clips")
    if missing:
        line, path = missing[0]
        others = f", nor of {len(missing) - 1:,} other lines" if len(missing) > 1 else ""
        raise UsageError(f"{manifest}, line {line}: there is no file {folder / path}{others}")
    return Listing(clips), grouped or ""


def _text(where: str, column: str, given: object) -> str:
    """What stands in a column, empty where nothing does; what looks the same is the same, except in names of files."""
    text = "" if given is None else str(given).strip() if isinstance(given, str | int | float) else None
    if text is None or not is_showable(text):
        raise UsageError(f"{where}: {column} is {reprlib.repr(given)}; it must be text of one line")
    return text if column == "path" else unicodedata.normalize("NFC", text)


def _relative(path: str, folder: Path) -> str:
    """The one way to write a path, so that `./a.wav` is `a.wav`; relative to the folder where it is inside."""
    if not path:
        return ""
    plain = Path(os.path.normpath(path))  # leaves links as they are, which resolve() would not
    top = os.path.normpath(folder)
    inside = plain.is_absolute() and plain.is_relative_to(top)
    return (plain.relative_to(top) if inside else plain).as_posix()


def _on_disk(folder: Path, path: str) -> str | None:
    """The path in the Unicode form that the disk has, which need not be that of who wrote the manifest."""
    forms = (path, unicodedata.normalize("NFC", path), unicodedata.normalize("NFD", path))
    return next((one for one in forms if os.path.isfile(folder / one)), None)  # noqa: PTH113


def _labels(where: str, entry: dict[str, Any]) -> tuple[str, ...]:
    labels = entry["labels"] if "labels" in entry else [entry["label"]]
    if not isinstance(labels, list) or not all(isinstance(label, str | int) for label in labels):
        raise UsageError(f"{where}: labels must be a list of texts")
    cleaned = tuple(_text(where, "label", label) for label in labels)
    if not all(cleaned) or ("label" in entry and not cleaned):
        raise UsageError(f"{where}: the label is missing")
    if len(set(cleaned)) < len(cleaned):
        raise UsageError(f"{where}: a label stands there twice")
    return cleaned


def _group(where: str, entry: dict[str, Any], column: _Grouped) -> str:
    value = _text(where, column, entry.get(column)) if column else ""
    if column == "split":
        part = PARTS.get(value.lower(), "unclear")
        if part == "unclear":
            raise UsageError(f"{where}: split is {value!r}; it must be train, validation or test")
        return part
    if column == "fold" and not value:
        raise UsageError(f"{where}: the fold is missing")
    return value
