"""Every option has a key and every key an option; the JSON schema is theirs, and a validator takes what arch takes."""

from __future__ import annotations

import json
import re
from importlib.resources import files
from pathlib import Path
from types import ModuleType
from typing import Any

import jsonschema
import pytest
import typer
import yaml
from arch_bench.commands.bench import bench
from arch_bench.commands.gate import gate
from arch_bench.commands.load import load
from arch_bench.config.keys import BENCH, GATE, LOAD
from arch_bench.config.model import config_model
from arch_bench.config.reading import parse_config
from arch_bench.main import app
from arch_common.errors import ConfigError
from support.scripts import generate_docs

ROOT = Path(__file__).parents[3]
MODEL = config_model(bench, load, gate)
SCHEMA = json.loads(MODEL.schema())
ABOUT_THE_FILE = {"_file", "print_config"}
OF_THE_RUN = {
    "load": {"server", "repository", "output", "data_root", "tls", "tls_ca", "header", "ray_address"},
    "gate": {"run", "cache", "thresholds"},
}


def parameters(command: str) -> dict[str, Any]:
    """As the parser of the command line has them, by name."""
    whole: Any = typer.main.get_command(app)
    return {one.name: one for one in whole.commands[command].params}


def field(*path: str) -> dict[str, Any]:
    """What the JSON schema says of a key."""
    place: dict[str, Any] = SCHEMA
    for key in path:
        place = place["properties"][key]
        if "$ref" in place:
            place = SCHEMA["$defs"][place["$ref"].rpartition("/")[2]]
        elif "$ref" in place.get("items", {}):
            place = SCHEMA["$defs"][place["items"]["$ref"].rpartition("/")[2]]
    return place


def leaves() -> set[tuple[str, ...]]:
    found: set[tuple[str, ...]] = set()
    for key in SCHEMA["properties"]:
        inside = field(key).get("properties", {}) if key not in ("datasets", "loads", "gate") else {}
        found.update((key, name) for name in inside)
        if not inside:
            found.add((key,))
    return found - {("loads",), ("gate",)}


def test_every_option_has_a_key_and_every_key_an_option() -> None:
    assert set(BENCH) == set(parameters("bench")) - ABOUT_THE_FILE
    assert set(BENCH.values()) == leaves()
    for command, table, section in (("load", LOAD, "loads"), ("gate", GATE, "gate")):
        assert set(table) == set(parameters(command)) - OF_THE_RUN[command]
        assert set(table.values()) == set(field(section)["properties"])


def test_defaults_and_help_are_those_of_the_options() -> None:
    checked = 0
    for command, table, section in (("bench", BENCH, ()), ("load", LOAD, ("loads",)), ("gate", GATE, ("gate",))):
        for name, option in parameters(command).items():
            if name not in table:
                continue
            path = table[name] if isinstance(table[name], tuple) else (table[name],)
            found = field(*section, *path[:-1])["properties"][path[-1]]
            default = str(option.default) if isinstance(option.default, Path) else option.default
            assert found.get("default") == getattr(default, "value", default), name
            assert found.get("description", "") == " ".join((option.help or "").split()), name
            checked += 1
    assert checked > 50


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return generate_docs()


def test_the_schemas_that_are_shipped_are_up_to_date(script: ModuleType) -> None:
    for paths, text in (
        (script.CONFIG_SCHEMAS, script.config_schema()),
        (script.LOAD_SCHEMAS, script.load_schema()),
    ):
        for path in paths:
            assert path.read_text(encoding="utf-8") == text, f"{path}: run python scripts/generate_docs.py"
    assert files("arch_bench.config").joinpath("bench.schema.json").read_text("utf-8") == MODEL.schema()
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def examples() -> list[tuple[str, str]]:
    found = []
    for page in sorted((ROOT / "docs").rglob("*.md")):
        blocks = re.findall(r"^```yaml\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
        found += [(page.name, block) for block in blocks if "$schema" in block]
    return found


def test_the_examples_of_the_documentation_are_right(tmp_path: Path) -> None:
    validator = jsonschema.Draft202012Validator(SCHEMA)
    assert len(examples()) >= 2
    for page, block in examples():
        validator.validate(yaml.safe_load(block))
        assert parse_config(block, page, tmp_path, MODEL).options


@pytest.mark.parametrize(
    "text",
    [
        "modles: [a]",
        "probes: {seeds: 0}",
        "probes: {seeds: 1001}",
        "probes: {names: [lineer]}",
        "probes: {layers: 3}",
        "speed: {repeat: '3'}",
        "speed: {workers: }",
        "servers: gpu1:8001",
        "datasets: [[esc50]]",
        "datasets: [{name: esc50, folder: x}]",
        "models: []",
        "loads: {slo: p99=1s}",
        "loads: [{scenario: burst}]",
        "gate: {max-drop: 1pt}",
        "gate: {baseline: a, colour: red}",
    ],
)
def test_an_editor_marks_what_arch_refuses(text: str) -> None:
    assert not jsonschema.Draft202012Validator(SCHEMA).is_valid(yaml.safe_load(text))
    with pytest.raises(ConfigError, match=r"t\.yaml:1"):
        parse_config(text, "t.yaml", Path(), MODEL)
