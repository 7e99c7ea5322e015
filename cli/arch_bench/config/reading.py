"""Reading the file: all that is wrong with it at once, each with its line and column and what is allowed there."""

from __future__ import annotations

import reprlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from arch_common.errors import ConfigError, UsageError, reason_of
from pydantic import ValidationError

from arch_bench.config.keys import BENCH, GATE, LOAD
from arch_bench.config.model import DATASET_TAGS, ConfigModel, ConfigSection, DatasetEntry
from arch_bench.config.values import NO_VALUE, Plain, nearest

Place = tuple[str | int, ...]
"""Keys, and positions in lists, from the top of a file."""

_MOST_VALUES = 10_000
# What PyYAML takes unquoted words for, and what is told of values by their keys here.
_TAGS = {"str", "int", "float", "bool", "null", "timestamp", "merge", "value", "seq", "map"}
_LIMITS = {
    "greater_than_equal": "{ge} or more",
    "greater_than": "more than {gt}",
    "less_than_equal": "{le} or less",
    "less_than": "less than {lt}",
}


@dataclass(frozen=True)
class BenchConfig:
    """A file that was read.

    Attributes:
        name: of the file, as it was given.
        options: of `arch bench`, by the names of its parameters: what the file says of them.
        loads: of `arch load`, likewise, for each load test after the run.
        gate: of `arch gate`, likewise; None where there is none.
        marks: line and column, from 1, of what stands at a place.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    loads: Sequence[Mapping[str, Any]] = ()
    gate: Mapping[str, Any] | None = None
    marks: Mapping[Place, tuple[int, int]] = field(default_factory=dict, repr=False)

    def fault(self, place: Place, text: str) -> ConfigFault:
        """What is wrong at a place; where it is not in the file, at the nearest above it."""
        at = place
        while at and at not in self.marks:
            at = at[:-1]
        return ConfigFault(self.marks.get(at, (1, 1)), f"{shown_place(place)}: {text}" if place else text)

    def error(self, faults: Sequence[ConfigFault]) -> ConfigError:
        """All of them, by their lines."""
        return faults_of(self.name, faults)


@dataclass(frozen=True, order=True)
class ConfigFault:
    """What is wrong, and where: line and column."""

    at: tuple[int, int]
    text: str


def faults_of(name: str, faults: Sequence[ConfigFault]) -> ConfigError:
    """The error that tells them, a line each."""
    return ConfigError([f"{name}:{one.at[0]}:{one.at[1]}: {one.text}" for one in sorted(set(faults))])


def shown_place(place: Place) -> str:
    """`datasets[1].name`."""
    text = ""
    for part in place:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def read_config(path: Path, model: ConfigModel) -> BenchConfig:
    """Read a file.

    Args:
        path: of the file; relative paths in it count from its folder.
        model: what it may hold.

    Raises:
        UsageError: if it cannot be read.
        ConfigError: with everything that is wrong in it.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is no UTF-8 text: save it as UTF-8") from error
    return parse_config(text, str(path), path.parent, model)


def parse_config(text: str, name: str, folder: Path, model: ConfigModel) -> BenchConfig:
    """The same of a file's text.

    Args:
        text: of the file.
        name: of it, for the errors.
        folder: that its relative paths count from.
        model: what it may hold.

    Raises:
        ConfigError: with everything that is wrong in it.
    """
    tree = _Tree()
    try:
        node = yaml.compose(text, yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        at = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        words = ", ".join(" ".join(one.split()) for one in (error.context, error.problem) if one)
        raise faults_of(name, [ConfigFault(at, f"this is no YAML: {words}")]) from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise faults_of(name, [ConfigFault((1, 1), f"this is no YAML: {reason_of(error)}")]) from error
    if not isinstance(node, yaml.MappingNode):
        known = ", ".join(model.keys[()])
        raise faults_of(name, [ConfigFault((1, 1), f"must be lines of `key: value`; the keys are {known}")])
    try:
        values = tree.value(node, (), ())
    except _TooManyError as error:
        raise faults_of(name, [ConfigFault((1, 1), str(error))]) from error
    found = BenchConfig(name, marks=tree.marks)
    faults = tree.faults
    try:
        given = model.root.model_validate(values, context=folder)
    except ValidationError as error:
        faults = faults + [_fault(found, one, values, model) for one in error.errors(include_url=False)]
    if faults:
        raise faults_of(name, faults)
    settled = _settled(found, {name: _as_given(value) for name, value in _items(given)})
    mean_tls = [key for key in ("tls-ca", "tls-cert", "tls-key") if key.replace("-", "_") in settled.options]
    if settled.options.get("tls") is False and mean_tls:
        words = f"is false beside {mean_tls[0]}, which means TLS: leave one of them out"
        raise found.error([found.fault(("servers", "tls"), words)])
    return settled


def _items(section: ConfigSection) -> Iterator[tuple[str, Any]]:
    """What was given of a section, by its keys."""
    for name, facts in type(section).model_fields.items():
        if name in section.model_fields_set:
            yield facts.alias or name, getattr(section, name)


def _as_given(value: Any) -> Any:
    if isinstance(value, list):
        return [_as_given(one) for one in value]
    if isinstance(value, DatasetEntry):
        return str(value)
    return {name: _as_given(one) for name, one in _items(value)} if isinstance(value, ConfigSection) else value


def _settled(found: BenchConfig, given: Mapping[str, Any]) -> BenchConfig:
    options = {}
    for name, path in BENCH.items():
        value: Any = given
        for key in path:
            value = value.get(key) if isinstance(value, dict) else None
        if value is not None:
            options[name] = value
    loads = [{name: one[key] for name, key in LOAD.items() if key in one} for one in given.get("loads", ())]
    gate = given.get("gate")
    return BenchConfig(
        found.name,
        options,
        loads,
        None if gate is None else {name: gate[key] for name, key in GATE.items() if key in gate},
        found.marks,
    )


class _TooManyError(Exception):
    """More values than a person writes: references to references, or one to what it stands in."""


class _Tree:
    """Values as they are written, where each stands, and what is wrong with the keys."""

    def __init__(self) -> None:
        self.marks: dict[Place, tuple[int, int]] = {}
        self.faults: list[ConfigFault] = []

    def value(self, node: yaml.Node, place: Place, above: tuple[int, ...]) -> Any:
        at = (node.start_mark.line + 1, node.start_mark.column + 1)
        self.marks.setdefault(place, at)
        if id(node) in above or len(self.marks) > _MOST_VALUES:
            raise _TooManyError(f"holds more than {_MOST_VALUES:,} values, or a value that holds itself")
        if node.tag.removeprefix("tag:yaml.org,2002:") not in _TAGS:
            self.faults.append(ConfigFault(at, f"{shown_place(place)}: the tag {node.tag} is not read: leave it out"))
        within = (*above, id(node))
        if isinstance(node, yaml.SequenceNode):
            return [self.value(one, (*place, number), within) for number, one in enumerate(node.value)]
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, place, within)
        if node.style is None and node.tag == "tag:yaml.org,2002:null":
            return None
        return Plain(node.value) if node.style is None else str(node.value)

    def _mapping(self, node: yaml.MappingNode, place: Place, above: tuple[int, ...]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        lines: dict[str, int] = {}
        for key, value in node.value:
            at = (key.start_mark.line + 1, key.start_mark.column + 1)
            if not isinstance(key, yaml.ScalarNode):
                self.faults.append(ConfigFault(at, f"{shown_place(place) or 'the file'}: a key must be one word"))
                continue
            name = key.value
            if name in found:
                words = f"{shown_place((*place, name))} stands there twice, first in line {lines[name]}"
                self.faults.append(ConfigFault(at, words))
                continue
            lines[name] = at[0]
            self.marks[(*place, name)] = at  # a value is found by its key
            found[name] = self.value(value, (*place, name), above)
        return found


def _fault(config: BenchConfig, error: Any, values: Any, model: ConfigModel) -> ConfigFault:
    """What pydantic found, in our words."""
    place = tuple(part for part in error["loc"] if part not in DATASET_TAGS)
    kind, facts = error["type"], error.get("ctx", {})
    if kind == "extra_forbidden":
        return _unknown(config, place, model)
    if kind == "missing":
        return config.fault(place, "is missing")
    given = values
    for part in place:
        given = given[part]
    if given is None:
        return config.fault(place, NO_VALUE)
    value = reprlib.repr(str(given))
    if kind == "value_error":
        return config.fault(place, str(facts["error"]))
    if kind == "too_short":
        return config.fault(place, "holds nothing: name one or more, or leave the key out")
    if kind == "list_type":
        shown = isinstance(given, str) and place[-1] != "headers"  # whose values are nobody's to read
        return config.fault(place, f"must be a list, as in [{given}]" if shown else "must be a list")
    if kind in _LIMITS:
        return config.fault(place, f"must be {_LIMITS[kind].format(**facts)}, not {value}")
    if kind == "model_type":
        keys = model.keys[tuple("*" if isinstance(part, int) else part for part in place)]
        return config.fault(place, f"must hold keys, of {', '.join(keys)}")
    return config.fault(place, f"cannot be {value}: {error['msg'][:1].lower()}{error['msg'][1:]}")


def _unknown(config: BenchConfig, place: Place, model: ConfigModel) -> ConfigFault:
    *above, name = place
    section = tuple("*" if isinstance(part, int) else str(part) for part in above)
    known = model.keys.get(section, ())
    elsewhere = [
        shown_place((*other, name))
        for other, keys in model.keys.items()
        if name in keys and other not in (section, ("gate",)) and "*" not in other
    ]
    hint = f"did you mean {' or '.join(elsewhere)}?" if elsewhere else nearest(str(name), known)
    return config.fault(place, f"unknown key; {hint}")
