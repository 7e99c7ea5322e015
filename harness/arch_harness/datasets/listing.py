"""Reading a dataset's folders and tables, with errors that name the line at fault."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from arch_common.errors import UsageError

# FMA's table holds whole biographies in one field.
csv.field_size_limit(2**24)

TEXT = r"(?s).*\S.*"
NUMBER = r"\d+"


def find_files(folder: Path, top: str = "", suffix: str | tuple[str, ...] = ".wav") -> list[str]:
    """Files below `folder/top` whose names end in `suffix`, sorted, as POSIX paths relative to `folder`.

    Links to folders are followed, but not those that lead back to where they are reached from.
    """
    found = []
    root = str(folder)
    for parent, folders, names in os.walk(folder / top, followlinks=True):
        folders[:] = [name for name in folders if not _leads_back(Path(parent, name), folder)]
        below = parent[len(root) :].strip("/")
        prefix = f"{below}/" if below else ""
        found += [prefix + name for name in names if name.lower().endswith(suffix)]
    return sorted(found)


def _leads_back(path: Path, folder: Path) -> bool:
    """Whether `path`, below `folder`, is a link to a folder that it is itself reached through."""
    if not path.is_symlink():
        return False
    target = path.resolve()
    way = (parent for parent in path.parents if parent.is_relative_to(folder))
    return any(parent.resolve().is_relative_to(target) for parent in way)


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
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file, delimiter=delimiter)
            missing = [column for column in columns if column not in (rows.fieldnames or ())]
            if missing:
                raise UsageError(f"{path}: the column {missing[0]!r} is missing")
            for row in rows:
                values = tuple(row[column] or "" for column in columns)
                for (column, pattern), value in zip(patterns.items(), values, strict=True):
                    if not pattern.fullmatch(value):
                        problem = f"{value!r} is no valid {column}" if value else f"the {column} is missing"
                        raise UsageError(f"{path}, line {rows.line_num}: {problem}")
                yield values
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 text") from error
    except csv.Error as error:
        raise UsageError(f"{path} is no table: {error}") from error


def parse_names(paths: list[str], pattern: re.Pattern[str], form: str) -> Iterator[tuple[str, re.Match[str]]]:
    """Each path with the parts of its file name.

    Raises:
        UsageError: for a name that does not match; `form` says what it should look like.
    """
    for path in paths:
        parts = pattern.fullmatch(path.rsplit("/", 1)[-1])
        if parts is None:
            raise UsageError(f"{path} is not named {form}")
        yield path, parts
