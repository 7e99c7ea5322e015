"""Data as one folder a class, or one a class below train, validation and test."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from arch_common.errors import UsageError

from arch_harness.datasets.declaration import Clip, Listing
from arch_harness.datasets.listing import AUDIO_SUFFIXES, UNREAD_SUFFIXES, is_leftover, printable, walk_files

# What a part of a split is called, in any case. An `eval` validates here and tests there, so one must say.
PARTS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validate", "validation", "dev", "devel", "development"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
    **dict.fromkeys(("eval", "evaluation"), "unclear"),
}
_FOLD = re.compile(r"(fold|split|cv)[\W_]*\d+")


def list_class_folders(folder: Path) -> tuple[Listing, bool]:
    """`<class>/**/<audio>`, or `train/<class>/...`, `validation/<class>/...` and `test/<class>/...`.

    A label is the name of its folder in Unicode's form NFC: macOS decomposes what others compose, and what looks the
    same is the same class.

    Returns:
        The clips by sorted path, with notes on what was left out; and whether they are split, `Clip.group` then being
        the part.

    Raises:
        UsageError: if there is no audio in class folders, or what the folders are cannot be told.
    """
    files = sorted(walk_files(folder))
    audio = [path for path in files if path.lower().endswith(AUDIO_SUFFIXES)]
    unread = [path for path in files if path.lower().endswith(UNREAD_SUFFIXES)]
    split = _is_split(folder, sorted({path.split("/")[0] for path in (*audio, *unread) if "/" in path}))
    depth = 1 if split else 0
    clips = []
    for path in audio:
        parts = path.split("/")
        if len(parts) < depth + 2:
            raise UsageError(
                f"{printable(str(folder / path))} is in no class folder; put it in one or write a manifest.csv"
            )
        clips.append(Clip(path, (_label(parts[depth]),), PARTS[parts[0].casefold()] if split else ""))
    if not split:
        _refuse_parts_below_classes(folder, audio)
    classes = {clip.labels[0] for clip in clips}
    lost = [path for path in unread if path.count("/") > depth and _label(path.split("/")[depth]) not in classes]
    if lost:
        where = printable(str(folder / Path(*Path(lost[0]).parts[: depth + 1])))
        raise UsageError(
            f"{where} holds only audio that libsndfile cannot read ({_count_suffixes(lost)} in such folders); convert "
            "it, to .flac say, or move it away"
        )
    return Listing(clips, notes=tuple(_left_out(folder, depth, classes, unread))), split


def _label(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _left_out(folder: Path, depth: int, classes: set[str], unread: Sequence[str]) -> Iterable[str]:
    """A note for each kind of thing that is no clip."""
    if unread:
        yield f"Left out: {_count_suffixes(unread)} files, which libsndfile cannot read."
    above = [folder] if depth == 0 else [folder / name for name in _folders(folder) if name.casefold() in PARTS]
    empty = {_label(name) for parent in above for name in _folders(parent)} - classes
    if empty:
        yield f"Folders without audio, which are no classes: {', '.join(map(printable, sorted(empty)))}."


def _folders(folder: Path) -> list[str]:
    return [name for name in os.listdir(folder) if not is_leftover(name) and os.path.isdir(folder / name)]  # noqa: PTH112, PTH208


def _count_suffixes(paths: Iterable[str]) -> str:
    counts = Counter(path[path.rindex(".") :].lower() for path in paths)
    return ", ".join(f"{count:,} {suffix}" for suffix, count in counts.most_common())


def _is_split(folder: Path, names: Sequence[str]) -> bool:
    """Whether the folders with audio are the parts of a split rather than classes.

    Raises:
        UsageError: if they are parts, but not train, test and maybe validation, each once; or look like parts or folds.
    """
    parts = {name: PARTS[name.casefold()] for name in names if name.casefold() in PARTS}
    found = sorted(set(parts.values()))
    advice = f"; have {folder}/train, maybe validation, and test, or write a manifest.csv with a column split or fold"
    if len(found) < 2 and len(parts) < len(names):
        alike = [name for name in names if _FOLD.fullmatch(name.casefold()) or _words(name) & PARTS.keys()]
        if alike and len(alike) == len(names) > 1:
            raise UsageError(f"the folders {_few(alike)} look like splits or folds, not like classes{advice}")
        return False
    if not parts:
        return False
    if len(parts) < len(names):
        stray = next(name for name in names if name not in parts)
        raise UsageError(
            f"{folder} holds {_few(list(parts))}, which are a split, and {printable(stray)}, which is not{advice}"
        )
    if "unclear" in found:
        unclear = next(name for name, part in parts.items() if part == "unclear")
        raise UsageError(f"{folder / unclear} may be meant for validation or for test{advice}")
    if len(found) < len(parts) or not {"train", "test"} <= set(found):
        raise UsageError(f"{folder} holds {_few(list(parts))}, where train and test must be there, each once{advice}")
    return True


def _words(name: str) -> set[str]:
    """The words of a name like `Train-set`, `testset` or `val_clips`."""
    return {word.removesuffix("set").removesuffix("data") for word in re.findall(r"[a-z]+", name.casefold())}


def _few(names: Sequence[str]) -> str:
    shown = [printable(name) for name in names[:3]]
    return ", ".join(shown) + (", ..." if len(names) > 3 else "")


def _refuse_parts_below_classes(folder: Path, audio: Sequence[str]) -> None:
    below = {path.split("/")[1].casefold() if path.count("/") > 1 else "" for path in audio}
    if len({PARTS.get(name) for name in below}) > 1 and below <= PARTS.keys():
        raise UsageError(
            f"{folder} holds {_few(sorted(below))} below its classes; put the classes below {folder}/train, maybe "
            "validation, and test, or write a manifest.csv with a column split"
        )
