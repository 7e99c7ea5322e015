"""Writing the file: what a command line says, under its keys."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from arch_bench.config.keys import BENCH, GATE, LOAD, CommandOption, options_of
from arch_bench.config.model import SCHEMA_URL, is_own

_WIDTH = 110
_LEFT_OUT = (
    "servers.headers is left out, for a header may be secret: give it with --header, or in ARCH_HEADER, when the file "
    "is used."
)


@dataclass(frozen=True)
class _Entry:
    key: str
    help: str
    value: Any


class ConfigWriter:
    """Writes files that have the same settings as command lines.

    Args:
        bench: the command, and the two others whose options stand in a file.
        load: likewise.
        gate: likewise.
    """

    def __init__(self, bench: Callable[..., Any], load: Callable[..., Any], gate: Callable[..., Any]) -> None:
        self._bench, self._load, self._gate = options_of(bench), options_of(load), options_of(gate)

    def text(
        self,
        options: Mapping[str, Any],
        loads: Sequence[Mapping[str, Any]],
        gate: Mapping[str, Any] | None,
        folder: Path | None,
    ) -> str:
        """A file of what was given.

        Args:
            options: of `arch bench`, by their parameters; what is not there is left out.
            loads: of `arch load`, for each load test.
            gate: of `arch gate`.
            folder: that the file is to stand in: paths below it are relative to it, and there are comments; None for a
                record without them, whose paths are all absolute.
        """
        top: dict[str, Any] = {}
        for name, path in BENCH.items():
            if name in options and name != "header":
                place = top
                for section in path[:-1]:
                    place = place.setdefault(section, {})
                place[path[-1]] = _entry(path[-1], self._bench[name], options[name], folder)
        if loads:
            top["loads"] = [list(_entries(LOAD, self._load, one, folder)) for one in loads]
        if gate is not None:
            top["gate"] = {one.key: one for one in _entries(GATE, self._gate, gate, folder)}
        lines = [f"# yaml-language-server: $schema={SCHEMA_URL}"]
        if folder is not None:
            lines += _comment(f"For arch bench -f. Relative paths count from this file's folder: {folder} is meant.", 0)
        if "header" in options:
            lines += _comment(_LEFT_OUT, 0)
        lines += _mapping(top, 0, commented=folder is not None)
        return "\n".join(lines) + "\n"


def _entries(
    table: Mapping[str, str], known: Mapping[str, CommandOption], given: Mapping[str, Any], folder: Path | None
) -> Iterator[_Entry]:
    for name, key in table.items():
        if name in given:
            yield _entry(key, known[name], given[name], folder)


def _entry(key: str, option: CommandOption, value: Any, folder: Path | None) -> _Entry:
    one_by_one = value if option.several else [value]
    found: list[Any]
    if option.name == "dataset" and key != "datasets":  # of a load test: one line
        found = [_joined(_dataset(str(one), folder)) for one in one_by_one]
    elif option.name == "dataset" and option.required:
        found = [_dataset(str(one), folder) for one in one_by_one]
    else:
        found = [_placed(str(one), folder) if option.kind is Path else one for one in one_by_one]
    return _Entry(key, option.help, found if option.several else found[0])


def _dataset(argument: str, folder: Path | None) -> str | dict[str, Any]:
    """What `--dataset` takes, as the file has it: an id, or keys where there is more to say."""
    name, equals, path = argument.partition("=")
    if is_own(argument, Path()) and ("/" in name or not equals):
        return {"path": _placed(argument, folder)}
    found: dict[str, Any] = {"name": name.removesuffix("@strict")}
    if equals:
        found["path"] = _placed(path, folder)
    if name.endswith("@strict"):
        found["strict"] = True
    return found if len(found) > 1 else name


def _joined(dataset: str | dict[str, Any]) -> str:
    if isinstance(dataset, str):
        return dataset
    if "name" not in dataset:
        return dataset["path"] if "/" in dataset["path"] else f"./{dataset['path']}"
    name = dataset["name"] + ("@strict" if dataset.get("strict") else "")
    return f"{name}={dataset['path']}" if "path" in dataset else name


def _placed(path: str, folder: Path | None) -> str:
    found = Path(path).expanduser()
    # `..` behind a link to a folder leads elsewhere than its letters say.
    whole = Path(os.path.realpath(found) if ".." in found.parts else os.path.abspath(found))  # noqa: PTH100
    return str(whole.relative_to(folder) if folder is not None and whole.is_relative_to(folder) else whole)


def _comment(text: str, indent: int) -> list[str]:
    lines = textwrap.wrap(text, _WIDTH - indent, break_on_hyphens=False, break_long_words=False)  # paths stay whole
    return [" " * indent + "# " + line for line in lines]


def _mapping(entries: Mapping[str, Any], indent: int, *, commented: bool) -> list[str]:
    lines = []
    space = " " * indent
    for key, entry in entries.items():
        if isinstance(entry, dict):
            lines += [f"{space}{key}:", *_mapping(entry, indent + 2, commented=commented)]
        elif isinstance(entry, list):
            lines.append(f"{space}{key}:")
            for one in entry:
                inside = _mapping({part.key: part for part in one}, indent + 4, commented=commented)
                lines += _as_item(inside or [" " * (indent + 4) + "{}"], indent + 2)
        else:
            lines += _comment(entry.help, indent) if commented and entry.help else []
            lines += _value(key, entry.value, indent)
    return lines


def _value(key: str, value: Any, indent: int) -> list[str]:
    space = " " * indent
    if not isinstance(value, list):
        return [f"{space}{key}: {_scalar(value)}"]
    lines = [f"{space}{key}:"]
    for one in value:
        if isinstance(one, dict):
            lines += _as_item([f"{space}    {name}: {_scalar(inner)}" for name, inner in one.items()], indent + 2)
        else:
            lines.append(f"{space}  - {_scalar(one)}")
    return lines


def _as_item(lines: Sequence[str], indent: int) -> list[str]:
    """Lines of keys as an item of a list; its dash stands before the first line, or comment."""
    return [" " * indent + "- " + lines[0][indent + 2 :], *lines[1:]]


def _scalar(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return repr(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    if isinstance(value, int):
        return str(value)
    text: str = yaml.safe_dump(str(value), allow_unicode=True, width=float("inf"))
    return text.removesuffix("\n").removesuffix("\n...")
