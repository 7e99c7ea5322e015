"""Walking a dataset's folders and reading its tables, with errors that name the line at fault."""

from __future__ import annotations

import csv
import fnmatch
import os
import re
import reprlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from arch_common.errors import UsageError

# FMA's table holds whole biographies in one field.
csv.field_size_limit(2**24)

# What libsndfile reads, and what a folder of audio may hold beside it.
AUDIO_SUFFIXES = (
    *(".wav", ".wave", ".bwf", ".rf64", ".w64", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".mp2"),
    *(".aiff", ".aif", ".aifc", ".au", ".snd", ".caf", ".sph", ".nist", ".voc"),
)
UNREAD_SUFFIXES = (
    *(".m4a", ".m4b", ".aac", ".mp4", ".wma", ".amr", ".3gp", ".webm", ".mka", ".ac3", ".ape", ".wv", ".mpc"),
    *(".tta", ".shn", ".dts", ".ra", ".dsf", ".raw", ".pcm"),
)

TEXT = r"(?s).*\S.*"
# Such that int() takes it, whatever a table holds.
NUMBER = r"[0-9]{1,18}"

# What systems put into folders by themselves.
_SYSTEM = frozenset({"__macosx", "desktop.ini", "lost+found", "thumbs.db"})

# On one way. Two links a folder double the ways with each: some dozens of them would never be walked to the end.
_MOST_LINKS = 10


def is_leftover(name: str) -> bool:
    """Whether a file or folder of this name is a system's, not the data's: `._a.wav` of macOS, all that is hidden."""
    return name.startswith(".") or name.lower() in _SYSTEM


def is_showable(text: str) -> bool:
    """Whether it can be written as UTF-8 and in one line; the name of a file need not be such."""
    return text.isprintable() or printable(text) == text


def printable(text: str) -> str:
    """The text for a message, which is one line: what is no UTF-8, or controls a terminal, as an escape."""
    text = text.encode("utf-8", "backslashreplace").decode()
    return re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", lambda control: repr(control[0])[1:-1], text)


def walk_files(folder: Path, top: str = "") -> Iterator[str]:
    """Each file below `folder/top` as a POSIX path relative to `folder`, in no order.

    This is the one way in which folders are walked. Links to folders are followed, but not those that lead back to
    where they are reached from; a link that leads nowhere is a file that is missing. What `is_leftover` names is left
    out.

    Raises:
        UsageError: if a folder cannot be read, or links are within links without end.
    """
    # The real folders that a way leads through, each by the last of its run without links.
    start: tuple[str, ...] = (os.path.realpath(folder), os.path.realpath(folder / top))
    waiting = [(top, start)]
    while waiting:
        here, way = waiting.pop()
        try:
            with os.scandir(folder / here) as found:
                entries = [entry for entry in found if not is_leftover(entry.name)]
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise UsageError(f"cannot read the folder {printable(str(folder / here))}: {error.strerror}") from error
        for entry in entries:
            path = f"{here}/{entry.name}" if here else entry.name
            if not _is_folder(entry):
                if _is_file(entry):
                    yield path
            elif not entry.is_symlink():
                waiting.append((path, (*way[:-1], os.path.join(way[-1], entry.name))))  # noqa: PTH118 - often
            else:
                target = os.path.realpath(entry.path)
                if len(way) - len(start) == _MOST_LINKS:
                    raise UsageError(
                        f"{printable(entry.path)} is a link within {_MOST_LINKS} others; put folders there"
                    )
                if not any(one == target or one.startswith(target.rstrip("/") + "/") for one in way):
                    waiting.append((path, (*way, target)))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link in a circle
        return False


def _is_file(entry: os.DirEntry[str]) -> bool:
    """No pipe, socket or device, which one would wait for; but a link that leads nowhere is to be told as missing."""
    try:
        return entry.is_file() or (entry.is_symlink() and not os.path.exists(entry.path))  # noqa: PTH110 - no OSError
    except OSError:
        return True


def find_files(folder: Path, top: str = "", suffix: str | tuple[str, ...] = ".wav") -> list[str]:
    """Files below `folder/top` whose names end in `suffix`, in any case; as `walk_files` gives them, but sorted."""
    return sorted(path for path in walk_files(folder, top) if path.lower().endswith(suffix))


def missing_pattern(folder: Path, patterns: Sequence[str]) -> str | None:
    """The first of the glob patterns, relative to `folder`, that no file there fits; `find_files` sees the same files.

    Raises:
        UsageError: if a folder cannot be read.
    """
    return next((pattern for pattern in patterns if not _holds(folder, pattern)), None)


def _holds(folder: Path, pattern: str) -> bool:
    wanted = _with_suffix_lower(pattern).split("/")
    plain = 0
    while plain < len(wanted) - 1 and not re.search(r"[*?[]", wanted[plain]):
        plain += 1
    top = "/".join(wanted[:plain])
    if not re.search(r"[*?[]", pattern):
        return os.path.isfile(folder / pattern)  # noqa: PTH113 - no OSError
    return any(_fits(_with_suffix_lower(path).split("/"), wanted) for path in walk_files(folder, top))


def _with_suffix_lower(path: str) -> str:
    stem, suffix = os.path.splitext(path)  # noqa: PTH122 - a pattern is no path
    return stem + suffix.lower()


def _fits(path: Sequence[str], pattern: Sequence[str]) -> bool:
    if not pattern:
        return not path
    if pattern[0] == "**":
        return any(_fits(path[skipped:], pattern[1:]) for skipped in range(len(path)))
    return bool(path) and fnmatch.fnmatchcase(path[0], pattern[0]) and _fits(path[1:], pattern[1:])


@contextmanager
def open_table(path: Path) -> Iterator[TextIO]:
    """The text of a table, with or without a byte order mark, and with the ends of its lines as they are.

    Raises:
        UsageError: if it cannot be read or is no UTF-8 or no CSV, also where that shows within the `with` only.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            yield file
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 text; save it as UTF-8") from error
    except csv.Error as error:
        raise UsageError(f"{path} is no table: {error}") from error
    except (OSError, ValueError) as error:  # a path may hold what no path may
        raise UsageError(f"cannot read {path}: {getattr(error, 'strerror', error)}") from error


def read_rows(path: Path, columns: Mapping[str, str], delimiter: str = ",") -> Iterator[tuple[str, ...]]:
    """The wanted columns of each row of a table with one header row.

    Args:
        path: the table, UTF-8.
        columns: name -> regular expression that the whole value must match.
        delimiter: between values.

    Raises:
        UsageError: if the table cannot be read, lacks a column, or a value does not match; with the line at fault.
    """
    patterns = {name: re.compile(pattern) for name, pattern in columns.items()}
    with open_table(path) as file:
        rows = csv.DictReader(file, delimiter=delimiter)
        missing = [column for column in columns if column not in (rows.fieldnames or ())]
        if missing:
            raise UsageError(f"{path}: the column {missing[0]!r} is missing")
        for row in rows:
            values = tuple(row[column] or "" for column in columns)
            for (column, pattern), value in zip(patterns.items(), values, strict=True):
                if not pattern.fullmatch(value):
                    shown = reprlib.repr(value)
                    problem = f"{shown} is no valid {column}" if value else f"the {column} is missing"
                    raise UsageError(f"{path}, line {rows.line_num}: {problem}")
            yield values


def parse_names(paths: list[str], pattern: re.Pattern[str], form: str) -> Iterator[tuple[str, re.Match[str]]]:
    """Each path with the parts of its file name.

    Args:
        paths: as of `find_files`.
        pattern: of the whole name; its suffix in lower case, whatever that of the file is.
        form: what the name should look like, for the error.

    Raises:
        UsageError: for a name that does not match.
    """
    for path in paths:
        parts = pattern.fullmatch(_with_suffix_lower(path.rsplit("/", 1)[-1]))
        if parts is None:
            raise UsageError(f"{printable(path)} is not named {form}")
        yield path, parts
