"""A model's card beside a leaderboard: source, licence, parity, and where it was benched."""

from __future__ import annotations

from typing import TYPE_CHECKING

from arch_harness.decision.leaderboard.document import hardware_of
from arch_harness.report.formats.markdown import escape_markdown
from arch_harness.report.text.numbers import UNKNOWN, clean, format_metric, percent
from arch_harness.report.text.tables import MARK, SCORE_METRICS
from arch_harness.results.repeats import mean_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from arch_harness.decision.leaderboard.merge import Standing

OF_ARCH = "An audio encoder as `arch export` wrote it for NVIDIA Triton."
"""What every card begins with, by which it is known again."""


def benched_card(standings: Sequence[Standing]) -> str:
    """The page in Markdown.

    Args:
        standings: of one model.
    """
    model = standings[0].model
    allowed = f"**It misses the limits of its precision:** {_text(model.parity_missed)}." if model.parity_missed else ""
    facts = [
        ("source", model.source),
        ("revision", model.revision),
        ("licence of the checkpoint", model.licence or "not stated where it was read from"),
        ("family", model.family),
        ("precision", model.precision),
        ("executed by", model.executed_by or "not told by the server"),
        ("embedding", f"{model.embedding_size} values, of audio at {model.sample_rate} Hz"),
        ("content", model.content_hash),
        ("the worst clip's cosine to the original", format_metric("parity_min_cosine", model.parity_min_cosine)),
        (
            "the largest relative error to the original",
            format_metric("parity_max_relative_error", model.parity_max_relative_error),
        ),
    ]
    parts = [
        f"# {_text(model.name)}",
        f"{OF_ARCH} The `README.md` in its model repository says how it is called, and what its precision is allowed "
        "to lose.",
        allowed,
        _table([("", ""), *facts]),
        "## Where it was benched",
        _table([("dataset", "score", "95 % interval", "clips/s", "on", "when", "run"), *map(_benched, standings)]),
        "\n".join(
            f"{MARK} {_text(one.result.dataset)}: {_text('; '.join(one.doubts))}." for one in standings if one.doubts
        ),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _benched(one: Standing) -> tuple[str, ...]:
    interval, measured = one.score.interval, one.result.measurement
    speed = None if measured is None else mean_of(measured, "clips_per_s")
    return (
        one.result.dataset,
        f"{percent(one.score.score)} % {SCORE_METRICS[one.result.metric]} ({one.score.probe})"
        + MARK * bool(one.doubts),
        f"{percent(interval.low)} to {percent(interval.high)}" if interval else UNKNOWN,
        format_metric("clips_per_s", speed),
        hardware_of(one.origin),
        f"{one.origin.started:%Y-%m-%d}",
        f"{one.source}, arch {one.run.arch_version}",
    )


def _text(text: str) -> str:
    return escape_markdown(clean(text))


def _table(rows: Sequence[tuple[str, ...]]) -> str:
    head, *others = [tuple(map(_text, row)) for row in rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ("---",) * len(head), *others))
