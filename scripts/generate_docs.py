"""Writes what the documentation says of files: their JSON schemas, and the tables of docs/results.md.

`python scripts/generate_docs.py`. The tables stand between comments, so that the page around them is written by hand.
The schemas of load.json and of the file of `arch bench -f` are written into the packages too, for installations.
"""

from __future__ import annotations

import json
from pathlib import Path

from arch_bench.commands.bench import bench
from arch_bench.commands.gate import gate
from arch_bench.commands.load import load
from arch_bench.config.model import config_model
from arch_harness.load.report import LOAD_SCHEMA_VERSION, LoadReport
from arch_harness.results.metric_definitions import METRICS
from arch_harness.results.metric_kinds import ATTRIBUTES
from arch_harness.results.run import SCHEMA_VERSION, Run
from pydantic import BaseModel

ROOT = Path(__file__).parents[1]
SCHEMA, PAGE = ROOT / "docs" / "results.schema.json", ROOT / "docs" / "results.md"
LOAD_SCHEMAS = (ROOT / "docs" / "load.schema.json", ROOT / "harness" / "arch_harness" / "load" / "load.schema.json")
CONFIG_SCHEMAS = (ROOT / "docs" / "bench.schema.json", ROOT / "cli" / "arch_bench" / "config" / "bench.schema.json")
START, END = "<!-- columns: written by scripts/generate_docs.py -->", "<!-- columns: end -->"


def schema() -> str:
    """The JSON schema of `results.json`."""
    return _schema(Run, f"results.json of arch bench, version {SCHEMA_VERSION}")


def load_schema() -> str:
    """That of `load.json`."""
    return _schema(LoadReport, f"load.json of arch load, version {LOAD_SCHEMA_VERSION}")


def config_schema() -> str:
    """That of the file of `arch bench -f`."""
    return config_model(bench, load, gate).schema()


def _schema(model: type[BaseModel], title: str) -> str:
    found = model.model_json_schema()
    found |= {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": title}
    return json.dumps(found, indent=2, ensure_ascii=False) + "\n"


def columns() -> str:
    """The columns of `to_pandas()`, in their order: those of words, then the metrics."""
    words = [f"| `{one.id}` | {one.header} | {one.meaning} |" for one in ATTRIBUTES.values()]
    metrics = [
        f"| `{one.id}` | {one.header} | {one.unit} | {one.better} | {one.meaning} | {one.source} |"
        for one in METRICS.values()
    ]
    return "\n".join(
        [
            *("| Column | In reports | What it says |", "| --- | --- | --- |"),
            *words,
            "",
            *("| Column | In reports | Unit | Better | Meaning | Source |", "| --- | --- | --- | --- | --- | --- |"),
            *metrics,
        ]
    )


def page(text: str) -> str:
    """The page with the tables in it.

    Raises:
        ValueError: if it lacks one of the comments.
    """
    before, rest = text.split(START)
    _, after = rest.split(END)
    return f"{before}{START}\n\n{columns()}\n\n{END}{after}"


def main() -> None:
    """Write all of them."""
    SCHEMA.write_text(schema(), encoding="utf-8")
    for path in LOAD_SCHEMAS:
        path.write_text(load_schema(), encoding="utf-8")
    for path in CONFIG_SCHEMAS:
        path.write_text(config_schema(), encoding="utf-8")
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
