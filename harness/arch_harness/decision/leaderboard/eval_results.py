"""Scores as the Hugging Face Hub reads them from a model's repository: `.eval_results/*.yaml`.

The format is that of https://huggingface.co/docs/hub/eval-results, with the fields of `EvalResultEntry` in
huggingface_hub 2.4: a list of entries with `dataset` (`id`, a dataset repository that is registered as a benchmark, and
`task_id`, a task of its `eval.yaml`), `value`, and where they are known `date`, `source` and `notes`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml

from arch_harness.report.text.numbers import clean, percent, plural
from arch_harness.report.text.tables import SCORE_METRICS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from arch_harness.decision.leaderboard.merge import Standing

EVAL_RESULTS = ".eval_results/arch.yaml"
"""Where the file lies in a model's repository."""


def eval_results(standings: Sequence[Standing], benchmark: str, source: str | None = None) -> str:
    """The YAML of a model's scores, in percent; those in doubt are left out, since an entry cannot say so.

    Args:
        standings: of one model.
        benchmark: dataset repository on the Hub, whose tasks are named after the datasets.
        source: address of what the scores can be traced to.
    """
    entries = [_entry(one, benchmark, source) for one in standings if not one.doubts]
    text: str = yaml.safe_dump(entries, sort_keys=False, allow_unicode=True, width=1000)
    return text


def _entry(one: Standing, benchmark: str, source: str | None) -> dict[str, Any]:
    found: dict[str, Any] = {
        "dataset": {"id": benchmark, "task_id": one.result.dataset},
        "value": round(100 * one.score.score, 2),
        "date": one.result.started.date().isoformat(),
    }
    if source is not None:
        found["source"] = {"url": source, "name": "arch leaderboard"}
    return found | {"notes": _notes(one)}


def _notes(one: Standing) -> str:
    """How it was evaluated: what else an entry does not say."""
    interval = one.score.interval
    settings = one.run.settings
    parts = [
        f"{SCORE_METRICS[one.result.metric]} in % by the probe {one.score.probe}",
        f"95 % interval {percent(interval.low)} to {percent(interval.high)}" if interval else "",
        f"{plural(settings.epochs, 'epoch')}, {plural(settings.seeds, 'seed')}",
        f"{plural(one.dataset.clips, 'clip')}, {plural(one.dataset.folds, 'fold')}",
        one.model.executed_by or one.model.precision,
        f"arch {one.run.arch_version}",
    ]
    return clean("; ".join(part for part in parts if part))
