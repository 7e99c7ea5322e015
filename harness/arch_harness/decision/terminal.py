"""Comparisons and gates for a terminal of 80 columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table as RichTable
from rich.text import Text

from arch_harness.decision.document import comparison_text, figure_name, gate_text
from arch_harness.report.text.numbers import UNKNOWN, clean, format_metric, percent, points

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

    from arch_harness.decision.compare import FigureDifference, PairComparison, RunComparison, ScoreDifference
    from arch_harness.decision.gate import GateResult

_COLOURS = {"real": "bold", "PASS": "green", "FAIL": "bold red", "MISSING": "red", "UNSURE": "yellow"}
# Of the columns behind the first, so that the tables of several pairs are in line.
_WIDTHS = (6, 8, 6, 15, 13)


class TerminalComparison:
    """A rich renderable: a line for each pair, what it comes to, and what must be known of it.

    Args:
        comparison: of a run with a baseline.
        verbose: show every figure that was compared.
    """

    def __init__(self, comparison: RunComparison, verbose: bool = False) -> None:
        self._comparison = comparison
        self._verbose = verbose
        self._text = comparison_text(comparison)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Lay it out for the width at hand."""
        yield Text(self._text.title, style="bold")
        for line in self._text.warnings:
            yield Text(f"warning: {line}", style="yellow")
        yield Text()
        if self._verbose:
            yield from self._details()
        elif any(pair.scores or pair.figures for pair in self._comparison.pairs):
            yield _overview(self._comparison)
            yield Text()
        if not self._verbose:
            yield from map(_embeddings_line, [pair for pair in self._comparison.pairs if pair.embeddings])
        for line in self._text.lead:
            yield Text(line)

    def _details(self) -> Iterator[RenderableType]:
        for pair in self._comparison.pairs:
            rows = list(_rows(pair))
            if rows:
                yield Text(pair.name)
                yield _table(rows)
            if pair.embeddings:
                yield _embeddings_line(pair)
            yield Text()


def _embeddings_line(pair: PairComparison) -> Text:
    one = pair.embeddings
    if one is None:
        return Text()
    return Text(
        f"{pair.name}: embeddings of {one.clips:,} of {one.expected:,} clips: lowest cosine {one.lowest:.6f} "
        f"({clean(one.lowest_clip)}), mean {one.mean:.6f}"
    )


def _overview(comparison: RunComparison) -> RichTable:
    """Dataset by dataset a line for each model: its change in score, clips/s and p99."""
    p99 = _common_p99(comparison)
    table = RichTable(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    table.add_column(Text(""), overflow="fold", max_width=24)
    for title in ("score", "change in points", "clips/s", figure_name(p99).removesuffix(", ms")):
        table.add_column(Text(title), justify="left" if title != "score" else "right", no_wrap=True)
    for dataset in dict.fromkeys(pair.dataset for pair in comparison.pairs):
        table.add_row(Text(clean(dataset), style="bold"))
        for pair in [pair for pair in comparison.pairs if pair.dataset == dataset]:
            name = clean(pair.model)
            figures = {one.figure: one for one in pair.figures}
            speed = [_ratio(figures.get(figure)) for figure in ("clips_per_s", p99)]
            for score in pair.scores[:1]:
                table.add_row(Text(f"  {name}"), Text(percent(score.score)), _change(score), *speed)
            for score in pair.scores[1:]:
                table.add_row(Text(f"    {score.probe}"), Text(percent(score.score)), _change(score))
            if not pair.scores:
                table.add_row(Text(f"  {name}"), Text(UNKNOWN), Text(UNKNOWN), *speed)
    return table


def _common_p99(comparison: RunComparison) -> str:
    """The p99 that is shown: at the rate that is the same for all models, if every pair has it."""
    measured = [{one.figure for one in pair.figures} for pair in comparison.pairs if pair.figures]
    return "equal_p99_ms" if measured and all("equal_p99_ms" in one for one in measured) else "alone_p99_ms"


def _change(score: ScoreDifference) -> Text:
    text = f"{points(score.difference)} ({points(score.low)} to {points(score.high)}) {score.verdict}"
    return Text(text, style=_COLOURS.get(score.verdict, ""))


def _ratio(one: FigureDifference | None) -> Text:
    if one is None:
        return Text(UNKNOWN)
    verdict = "once" if one.verdict == "measured once" else one.verdict
    return Text(f"× {one.ratio:.2f} {verdict}", style=_COLOURS.get(one.verdict, ""))


def _rows(pair: PairComparison) -> Iterator[tuple[str, ...]]:
    for score in pair.scores:
        yield (
            f"{score.probe}, %",
            percent(score.score),
            percent(score.baseline_score),
            points(score.difference),
            f"{points(score.low)} to {points(score.high)}",
            score.verdict,
        )
    for one in pair.figures:
        yield (
            figure_name(one.figure),
            format_metric(one.figure, one.value),
            format_metric(one.figure, one.baseline_value),
            f"× {one.ratio:.2f}",
            UNKNOWN if one.low is None or one.high is None else f"{one.low:.2f} to {one.high:.2f}",
            one.verdict,
        )


def _table(rows: list[tuple[str, ...]]) -> RichTable:
    table = RichTable(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    table.add_column(Text("  "), overflow="fold", min_width=22)
    for title, width in zip(("run", "baseline", "change", "interval", ""), _WIDTHS, strict=True):
        last = not title
        table.add_column(Text(title), justify="left" if last else "right", no_wrap=not last, min_width=width)
    for row in rows:
        table.add_row(Text(f"  {row[0]}"), *map(Text, row[1:-1]), Text(row[-1], style=_COLOURS.get(row[-1], "")))
    return table


class TerminalGate:
    """A rich renderable: a line for each check, and one for all of them."""

    def __init__(self, result: GateResult) -> None:
        self._result = result
        self._text = gate_text(result)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """A line for each; it is broken by the terminal alone, so that one can search for it."""
        for line in self._text.warnings:
            yield Text(f"warning: {line}", style="yellow")
        for check in self._result.checks:
            yield Text.assemble(
                (f"{check.verdict:<8}", _COLOURS[check.verdict]), f"{check.rule}  {check.pair}: {check.evidence}"
            )
        yield Text(self._text.title, style="bold")
