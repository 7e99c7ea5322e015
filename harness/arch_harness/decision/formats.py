"""Comparisons and gates as Markdown, HTML, JSON and JUnit XML."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from arch_harness.report.formats.markdown import escape_markdown
from arch_harness.report.formats.templates import template_environment
from arch_harness.report.text.numbers import clean

if TYPE_CHECKING:
    from collections.abc import Sequence

    from arch_harness.decision.compare import RunComparison
    from arch_harness.decision.document import DecisionText
    from arch_harness.decision.gate import GateResult
    from arch_harness.report.text.tables import Table


def to_markdown(pages: Sequence[DecisionText]) -> str:
    """The pages below one another, fit for a CI's summary."""
    parts = []
    for page in pages:
        parts.append(f"## {escape_markdown(page.title)}")
        parts.append("\n".join(f"{escape_markdown(line)}  " for line in page.lead))
        if page.warnings:
            parts.append("\n".join(f"- **Warning:** {escape_markdown(clean(line))}" for line in page.warnings))
        for section in page.sections:
            parts += [f"### {section.title}", _markdown_table(section.table), escape_markdown(section.text)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _markdown_table(table: Table) -> str:
    rows = [[column.header for column in table.columns], *table.rows]
    lines = [f"| {' | '.join(map(escape_markdown, row))} |" for row in rows]
    lines.insert(1, f"| {' | '.join('---:' if column.numeric else '---' for column in table.columns)} |")
    return "\n".join(lines)


def to_html(pages: Sequence[DecisionText]) -> str:
    """One self-contained document, without script or request."""
    environment = template_environment("arch_harness.decision")
    return environment.get_template("decision.html.j2").render(pages=pages)


def comparisons_to_json(found: Sequence[RunComparison]) -> str:
    """All figures, as a list of comparisons; shares from 0 to 1, times in the unit that a name ends in."""
    return _json([_comparison(one) for one in found])


def gate_to_json(result: GateResult) -> str:
    """The checks, and the comparison that they are made of."""
    return _json(
        {
            "passed": result.passed,
            "strict": result.strict,
            "checks": [asdict(check) | {"failed": check in result.failed} for check in result.checks],
            "comparison": _comparison(result.comparison),
        }
    )


def _json(document: object) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _comparison(one: RunComparison) -> dict[str, object]:
    return asdict(one) | {"warnings": one.warnings, "problems": one.problems}


def to_junit(result: GateResult) -> str:
    """JUnit XML: a test for each check, whose suite is the threshold.

    FAIL is a failure, MISSING an error and UNSURE is skipped; all three are failures of a strict gate.
    """
    failed = result.failed
    rules = list(dict.fromkeys(check.rule for check in result.checks))
    root = ElementTree.Element("testsuites", name="arch gate")
    for rule in rules:
        suite = ElementTree.SubElement(root, "testsuite", name=rule)
        counts = dict.fromkeys(("tests", "failures", "errors", "skipped"), 0)
        for check in [check for check in result.checks if check.rule == rule]:
            case = ElementTree.SubElement(suite, "testcase", classname=f"arch gate.{rule}", name=check.pair)
            counts["tests"] += 1
            if check in failed:
                ElementTree.SubElement(case, "failure", message=check.evidence, type=check.verdict)
                counts["failures"] += 1
            elif check.verdict == "MISSING":
                ElementTree.SubElement(case, "error", message=check.evidence, type=check.verdict)
                counts["errors"] += 1
            elif check.verdict == "UNSURE":
                ElementTree.SubElement(case, "skipped", message=check.evidence)
                counts["skipped"] += 1
            else:
                ElementTree.SubElement(case, "system-out").text = check.evidence
        for name, count in counts.items():
            suite.set(name, str(count))
    for name in ("tests", "failures", "errors", "skipped"):
        root.set(name, str(sum(int(suite.get(name, "0")) for suite in root)))
    ElementTree.indent(root)
    # What XML cannot hold at all was taken out of names and figures where they were made.
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"
