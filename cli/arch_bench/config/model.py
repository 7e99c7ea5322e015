"""What the file may hold: one class of pydantic, made from the options of the commands, and its JSON schema."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

from annotated_types import Ge
from arch_common.errors import UsageError
from arch_harness.datasets.registry import check_argument, find_declaration
from arch_harness.decision.thresholds import read_thresholds
from arch_harness.load.asked import parse_rates, parse_slo
from arch_harness.results.checks.ablations import settings_of
from arch_harness.results.price import parse_price
from arch_harness.results.run import Settings
from arch_harness.triton.endpoint import Endpoint, parse_header
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationInfo,
    create_model,
    model_validator,
)
from pydantic.fields import FieldInfo

from arch_bench.config.keys import BENCH, GATE, LOAD, THRESHOLDS, CommandOption, options_of
from arch_bench.config.values import FilePath, Switch, Text, bounded, checked, choice, judged, placed, text_of
from arch_bench.options import pairs_of

SCHEMA_URL = "https://raw.githubusercontent.com/arch-bench/arch/main/docs/bench.schema.json"

_SECTIONS = {
    "servers": "The servers, or what one serves that is started for the run.",
    "probes": "The probes that score the embeddings.",
    "speed": "How the speed is measured.",
    "loads": "Load tests after the run, as arch load makes them: the first is written beside the report.",
    "gate": "Holds the run to thresholds when it is done, as arch gate does: exit code 3 where one is missed.",
}
_KINDS = {str: Text, Path: FilePath, bool: Switch}
# Whether a value can be meant, by the functions that judge those of the options.
_CHECKS: Mapping[str, Callable[[str], Any]] = {
    "server": Endpoint,
    "header": parse_header,
    "price": parse_price,
    "ablate": lambda text: settings_of([text]),
    "slo": parse_slo,
    "pair": lambda text: pairs_of([text]),
}


class ConfigSection(BaseModel):
    """Keys that belong together; one that is none of them is refused."""

    model_config = ConfigDict(extra="forbid")


class DatasetEntry(ConfigSection):
    """A dataset with its folder."""

    name: Annotated[Text, BeforeValidator(judged(find_declaration))] = Field(
        default_factory=str, description="Its id: see arch data list. Own data has none here."
    )
    path: FilePath = Field(default_factory=Path, description="Its folder; of own data the folder or .yaml file.")
    strict: Switch = Field(default=False, description="The speaker- or source-disjoint split, where there is one.")

    @model_validator(mode="after")
    def _is_one(self) -> DatasetEntry:
        if not self.name and "path" not in self.model_fields_set:
            raise ValueError("must have a name, or the path of own data")
        if not self.name and self.strict:
            raise ValueError("own data is split as it says itself: leave strict out")
        return self

    def __str__(self) -> str:
        """As `--dataset` takes it."""
        if not self.name:
            return _as_path(self.path)
        named = self.name + ("@strict" if self.strict else "")
        return f"{named}={self.path}" if "path" in self.model_fields_set else named


def _as_path(path: Path) -> str:
    return str(path) if "/" in str(path) else f"./{path}"


def _dataset(value: Any, info: ValidationInfo) -> str:
    """What `--dataset` takes, its path counting from the file's folder."""
    text, folder = text_of(value), info.context or Path()
    name, equals, path = text.partition("=")
    if equals and path and "/" not in name:
        text = f"{name}={placed(path, folder)}"
    elif is_own(text, folder):
        text = _as_path(placed(text, folder))
    return judged(check_argument)(text)


def is_own(text: str, folder: Path) -> bool:
    """Whether it is the path of own data, from a folder, and no id."""
    if "/" in text or text.endswith((".yaml", ".yml")):
        return True
    try:
        check_argument(text)
    except UsageError:
        return placed(text, folder).is_dir()
    return False


DATASET_TAGS = ("<text>", "<keys>")
_DatasetText = Annotated[Text, BeforeValidator(_dataset)]
_Dataset = Annotated[
    Annotated[_DatasetText, Tag(DATASET_TAGS[0])] | Annotated[DatasetEntry, Tag(DATASET_TAGS[1])],
    Discriminator(lambda value: DATASET_TAGS[isinstance(value, dict)]),
]


@dataclass(frozen=True)
class ConfigModel:
    """The class that validates a file, and its keys by their place; `*` stands for any place in a list."""

    root: type[ConfigSection]
    keys: Mapping[tuple[str, ...], tuple[str, ...]]

    def schema(self) -> str:
        """The JSON schema, for editors."""
        found = self.root.model_json_schema()
        found |= {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "$id": SCHEMA_URL,
            "title": "The file of arch bench -f",
        }
        return json.dumps(_without_null(found), indent=2, ensure_ascii=False) + "\n"


@dataclass(frozen=True)
class _Key:
    kind: Any
    default: Any
    help: str


@cache
def config_model(bench: Callable[..., Any], load: Callable[..., Any], gate: Callable[..., Any]) -> ConfigModel:
    """What a file may hold, from the commands whose options it stands for."""
    own, of_load, of_gate = options_of(bench), options_of(load), options_of(gate)
    fields: dict[str, Any] = {}
    keys: dict[tuple[str, ...], tuple[str, ...]] = {("datasets", "*"): ("name", "path", "strict")}
    for name, path in BENCH.items():
        place = fields
        for section in path[:-1]:
            place = place.setdefault(section, {})
        place[path[-1]] = _key(own[name], "bench")
    for section, inside in [(name, inside) for name, inside in fields.items() if isinstance(inside, dict)]:
        fields[section] = _Key(_model(section, inside), None, _SECTIONS[section])
        keys[(section,)] = tuple(inside)
    for section, table, options in (("loads", LOAD, of_load), ("gate", GATE, of_gate)):
        inside = {key: _key(options[name], section) for name, key in table.items()}
        model = _model(section, inside)
        several = section == "loads"
        fields[section] = _Key(_several(model) if several else model, None, _SECTIONS[section])
        keys[(section, "*") if several else (section,)] = tuple(inside)
    keys[()] = tuple(fields)
    return ConfigModel(_model("bench", fields), keys)


def _model(name: str, fields: Mapping[str, _Key]) -> type[ConfigSection]:
    # `json` alone is a method of every model.
    named: dict[str, Any] = {
        f"key_{key.replace('-', '_')}": (one.kind, Field(default=one.default, description=one.help, alias=key))
        for key, one in fields.items()
    }
    return create_model(name.capitalize(), __base__=ConfigSection, __doc__=_SECTIONS.get(name, ""), **named)


def _key(option: CommandOption, section: str) -> _Key:
    kind = _kind(option, section)
    if option.several:
        kind = _several(kind)
    required = option.required and section == "gate"
    return _Key(kind, ... if required else option.default, option.help)


def _several(kind: Any) -> Any:
    return Annotated[list[kind], Field(min_length=1)]


def _kind(option: CommandOption, section: str) -> Any:
    if option.name == "dataset" and section != "gate":
        return _Dataset if section == "bench" else _DatasetText
    if option.name in THRESHOLDS:
        return checked(Text, lambda text: read_thresholds({option.name: text}))
    if option.name == "rate" and section == "loads":
        return checked(Text, parse_rates)
    if option.name in _CHECKS:
        return checked(Text, _CHECKS[option.name])
    if isinstance(option.kind, type) and issubclass(option.kind, Enum):
        return choice(option.kind)
    if option.kind not in (int, float):
        return _KINDS[option.kind]
    if section == "bench":
        return bounded(option.kind, _bounds(Settings.model_fields[option.name]))
    return bounded(option.kind, () if option.least is None else [Ge(option.least)])


def _bounds(field: FieldInfo) -> Iterator[Any]:
    """Those that `results.json` sets to a setting: the largest too, which the command line does not know."""
    yield from field.metadata
    for part in get_args(field.annotation):
        if get_origin(part) is Annotated:
            for one in get_args(part)[1:]:
                yield from one.metadata


def _without_null(schema: Any) -> Any:
    """Without defaults of null, which no key may be: left out is left out."""
    if isinstance(schema, list):
        return [_without_null(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    return {name: _without_null(value) for name, value in schema.items() if not (name == "default" and value is None)}
