"""Writes what the documentation says of a run's numbers: docs/results.schema.json, and the tables of docs/results.md.

`python scripts/generate_docs.py`. The tables stand between comments, so that the page around them is written by hand.
"""

from __future__ import annotations

import json
from pathlib import Path

from arch_harness.results.metric_definitions import METRICS
from arch_harness.results.metric_kinds import ATTRIBUTES
from arch_harness.results.run import SCHEMA_VERSION, Run

ROOT = Path(__file__).parents[1]
SCHEMA, PAGE = ROOT / "docs" / "results.schema.json", ROOT / "docs" / "results.md"
START, END = "<!-- columns: written by scripts/generate_docs.py -->", "<!-- columns: end -->"


def schema() -> str:
    """The JSON schema of `results.json`."""
    found = Run.model_json_schema()
    found |= {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"results.json of arch bench, version {SCHEMA_VERSION}",
    }
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
    """Write both files."""
    SCHEMA.write_text(schema(), encoding="utf-8")
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
