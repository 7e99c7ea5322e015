"""What a leaderboard says: sentences, a table of scores, a table of speeds for each hardware, and rows of figures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from arch_harness.decision.compatibility import hardware_mismatches
from arch_harness.report.text.numbers import UNKNOWN, clean, format_metric, percent, plural
from arch_harness.report.text.tables import MARK, SCORE_METRICS, Column, columns_of
from arch_harness.results.rows import speed

if TYPE_CHECKING:
    from arch_harness.decision.leaderboard.merge import Leaderboard, Standing
    from arch_harness.results.run import Origin

_FIGURES = ("clips_per_s", "alone_p50_ms", "alone_p99_ms", "p99_ms")
_WORST = float("inf")


@dataclass(frozen=True)
class RankedCell:
    """A cell that a table can be ordered by.

    Attributes:
        text: of it.
        small: below the text: an interval.
        key: what it is ordered by, the smallest first.
    """

    text: str
    small: str = ""
    key: Any = _WORST


@dataclass(frozen=True)
class RankedTable:
    """A table that can be ordered by each of its columns.

    Attributes:
        title: above it.
        text: how it is to be read.
        columns: of it.
        rows: in their first order.
    """

    title: str
    text: str
    columns: tuple[Column, ...]
    rows: Sequence[tuple[RankedCell, ...]]

    def places(self) -> list[list[int]]:
        """For each row the place that it has in the order of each column; equal cells stay as they are."""
        found = [[0] * len(self.columns) for _ in self.rows]
        for column in range(len(self.columns)):
            order = sorted(range(len(self.rows)), key=lambda row: _key(self.rows[row][column]))
            for place, row in enumerate(order):
                found[row][column] = place
        return found


def _key(cell: RankedCell) -> tuple[bool, Any]:
    return (cell.key == _WORST, 0 if cell.key == _WORST else cell.key)


@dataclass(frozen=True)
class LeaderboardText:
    """A page.

    Attributes:
        title: in a line.
        lead: what is shown, a sentence each.
        tables: the scores first.
        marks: what each mark in the tables means.
        left_out: a line for each result that is not shown.
    """

    title: str
    lead: list[str]
    tables: list[RankedTable]
    marks: list[str]
    left_out: list[str]


def leaderboard_text(board: Leaderboard) -> LeaderboardText:
    """What a leaderboard says."""
    dates = sorted(one.result.started for one in board.standings)
    days = list(dict.fromkeys(f"{date:%Y-%m-%d}" for date in (dates[0], dates[-1])))
    sources = list(dict.fromkeys(one.source for one in board.standings))
    lead = [
        f"{plural(len(board.models), 'model')} on {plural(len(board.datasets), 'dataset')}, by the probe "
        f"{board.probe}, from {plural(len(sources), 'run')} of {' to '.join(days)}.",
        *board.remarks,
    ]
    marked = [one for one in board.standings if one.doubts]
    return LeaderboardText(
        "Leaderboard of audio encoders",
        lead,
        [_scores(board), *_speeds(board)],
        [clean(f"{MARK} {_name(one)} on {one.result.dataset}: {'; '.join(one.doubts)}.") for one in marked],
        [one.line() for one in board.left_out],
    )


def _name(one: Standing) -> str:
    return clean(one.model.name)


def _scores(board: Leaderboard) -> RankedTable:
    metrics = {one.result.dataset: SCORE_METRICS[one.result.metric] for one in board.standings}
    columns = (
        *columns_of("model"),
        Column("Precision"),
        Column("Mean", "%", True),
        *(Column(clean(name), f"{metrics[name]}, %", True) for name in board.datasets),
    )
    rows = []
    for of_model in board.models:
        found = {one.result.dataset: one for one in of_model}
        mean, model = board.mean(of_model), of_model[0].model
        rows.append(
            (
                RankedCell(_name(of_model[0]), model.content_hash.removeprefix("sha256:")[:8], _name(of_model[0])),
                RankedCell(clean(model.precision), clean(model.executed_by), model.precision),
                RankedCell(UNKNOWN) if mean is None else RankedCell(percent(mean), key=-mean),
                *(_score(found.get(name)) for name in board.datasets),
            )
        )
    text = (
        "Scores on the same clips, labels and folds, with the 95 % interval of each below it. The mean is over all "
        f"datasets, and of models that have a whole score on each. {MARK}: not of the whole dataset, or in doubt; see "
        "below."
    )
    return RankedTable("Scores", text, columns, rows)


def _score(one: Standing | None) -> RankedCell:
    if one is None:
        return RankedCell(UNKNOWN)
    interval = one.score.interval
    low_to_high = f"{percent(interval.low)} to {percent(interval.high)}" if interval else ""
    return RankedCell(percent(one.score.score) + (MARK if one.doubts else ""), low_to_high, -one.score.score)


def hardware_of(origin: Origin) -> str:
    """What figures of speed that were measured there are of, in words."""
    machine = origin.machine
    gpus = ", ".join(machine.gpus) or "no GPU"
    here = f"{machine.cpu}, {plural(machine.cores, 'core')}, {gpus}"
    servers = f"{plural(len(origin.servers), 'server')}"
    if all(server.same_machine for server in origin.servers):
        return clean(f"{here}; {servers} on the same machine")
    addresses = ", ".join(server.address for server in origin.servers)
    return clean(f"{servers} at {addresses}, of unknown hardware; client: {here}")


def _speeds(board: Leaderboard) -> Iterator[RankedTable]:
    """A table for each hardware: speeds of two do not stand in one."""
    groups: list[list[Standing]] = []
    for one in board.standings:
        if one.result.measurement is None:
            continue
        group = next((group for group in groups if not _of_other_hardware(one.origin, group[0].origin)), None)
        if group is None:
            groups.append([one])
        else:
            group.append(one)
    columns = (*columns_of("model", "dataset"), *columns_of(*_FIGURES, "transport"), Column("Measured"))
    for group in groups:
        rows = [_speed(one) for one in group]
        rows.sort(key=lambda row: _key(row[2]))
        text = "What the servers reached at their limit, and latencies of one request in flight and at that limit."
        yield RankedTable(f"Speed: {hardware_of(group[0].origin)}", text, columns, rows)


def _of_other_hardware(one: Origin, other: Origin) -> bool:
    if any(found.decides for found in hardware_mismatches(one, other)):
        return True
    return hardware_of(one) != hardware_of(other)


def _speed(one: Standing) -> tuple[RankedCell, ...]:
    figures = _figures(one)
    cells = []
    for name in _FIGURES:
        value = figures[name]
        sign = -1 if name == "clips_per_s" else 1
        cells.append(RankedCell(format_metric(name, value), key=_WORST if value is None else sign * value))
    transport = str(figures["transport"])
    return (
        RankedCell(_name(one), clean(one.model.precision), _name(one)),
        RankedCell(clean(one.result.dataset), key=one.result.dataset),
        *cells,
        RankedCell(transport, key=transport),
        RankedCell(f"{one.origin.started:%Y-%m-%d}", clean(one.source), -one.origin.started.timestamp()),
    )


def _figures(one: Standing) -> dict[str, Any]:
    found = speed(one.result.measurement) if one.result.measurement is not None else {}
    return {name: found.get(name) for name in (*_FIGURES, "transport")}


def entries(board: Leaderboard) -> list[dict[str, Any]]:
    """A row for each model and dataset, for other programs: shares from 0 to 1, times in the unit that ends a name."""
    return [
        {
            "model": one.model.name,
            "source": one.model.source,
            "revision": one.model.revision,
            "licence": one.model.licence,
            "precision": one.model.precision,
            "executed_by": one.model.executed_by,
            "content_hash": one.model.content_hash,
            "dataset": one.result.dataset,
            "listing": one.dataset.listing,
            "metric": one.result.metric,
            "probe": one.score.probe,
            "score": one.score.score,
            "score_low": one.score.interval.low if one.score.interval else None,
            "score_high": one.score.interval.high if one.score.interval else None,
            "clips": one.result.clips,
            "failed": one.result.failed,
            "incomplete": one.dataset.incomplete,
            "doubts": "; ".join(one.doubts),
            **_figures(one),
            "hardware": hardware_of(one.origin) if one.result.measurement is not None else None,
            "measured": one.origin.started.isoformat(),
            "arch_version": one.run.arch_version,
            "run": one.source,
        }
        for of_model in board.models
        for one in of_model
    ]
