"""What happens in a run, told to the logger `arch`: the lines of `arch bench --log-file`."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from arch_common.log import tell

from arch_harness.results.run import Result

if TYPE_CHECKING:
    from arch_harness.results.embedding_pass import EmbeddingPass
    from arch_harness.results.run import Run, Unscored

_WARNING = "warning: "


def tell_start(run: Run, output: Path) -> None:
    """Tell what is run, on what, and with which versions."""
    tell(
        "start",
        run.command,
        arch_version=run.arch_version,
        machine=run.machine.model_dump(mode="json"),
        settings=run.settings.model_dump(mode="json"),
        servers=[one.model_dump(mode="json") for one in run.servers],
        models=[{"name": one.name, "precision": one.precision, "content_hash": one.content_hash} for one in run.models],
        datasets=[{"id": one.id, "path": one.path, "clips": one.clips} for one in run.datasets],
        output=str(output),
    )


def tell_end(run: Run, problems: Sequence[str], output: Path) -> None:
    """Tell that all was done, what went wrong on the way, and the exit code of the command line."""
    exit_code = 1 if problems or run.failed else 0
    words = (
        "done" if not exit_code else f"done, with {run.failed} failed clips and {len(problems)} pairs without a score"
    )
    level = logging.WARNING if exit_code else logging.INFO
    tell("end", words, level, exit_code=exit_code, failed=run.failed, problems=problems, output=str(output))


def tell_note(text: str) -> None:
    """Tell what the terminal is told in passing."""
    if text.startswith(_WARNING):
        tell("warning", text.removeprefix(_WARNING), logging.WARNING)
    else:
        tell("note", text)


@contextmanager
def told_work(doing: str, model: str, dataset: str, of: int | None = None) -> Iterator[Callable[[int, str], None]]:
    """Tell that a part of the run begins and that it has ended; gives the function that tells each phase of it once.

    Args:
        doing: embed, measure or probe.
        model: its name.
        dataset: its id, and what else says which pass it is.
        of: clips or epochs; None where that is not known.
    """
    pair: dict[str, Any] = {"model": model, "dataset": dataset}
    tell("begin", f"{doing} {model} on {dataset}", doing=doing, **pair, of=of)
    began, last, reached = time.monotonic(), "", 0

    def see(done: int, phase: str) -> None:
        nonlocal last, reached
        reached = done
        waiting = phase.startswith("waiting")  # the words go on with the seconds
        name = "waiting" if waiting else phase
        if name != last:
            last = name
            level = logging.WARNING if waiting else logging.INFO
            tell("phase", f"{doing} {model} on {dataset}: {phase}", level, doing=doing, **pair, phase=name, done=done)

    yield see
    seconds = round(time.monotonic() - began, 3)
    words = f"{doing} {model} on {dataset}: done in {seconds:.1f} s"
    tell("done", words, doing=doing, **pair, done=reached, seconds=seconds)


def tell_pass(model: str, dataset: str, passed: EmbeddingPass) -> None:
    """Tell what went wrong in a pass, clip by clip, and how fast it was."""
    pair: dict[str, Any] = {"model": model, "dataset": dataset}
    for one in passed.failures:
        words = f"{one.clip}: {one.reason}"
        tell("failed_clip", words, logging.WARNING, **pair, clip=one.clip, stage=one.stage, reason=one.reason)
    found = passed.measurement
    if found is None:
        return
    faults = {name: count for name, count in found.faults.model_dump().items() if count}
    if faults:
        words = ", ".join(f"{name} {count:,}" for name, count in faults.items())
        tell("faults", f"{model} on {dataset}: {words}", logging.WARNING, **pair, **faults)
    tell(
        "measured",
        f"{model} on {dataset}: {found.clips_per_s:.1f} clips/s",
        **pair,
        clips=found.clips,
        clips_per_s=found.clips_per_s,
        seconds=found.seconds,
        concurrency=found.concurrency,
        latency_ms=found.latency_ms.model_dump() if found.latency_ms else None,
        phases=[one.model_dump() for one in found.phases],
    )


def tell_outcome(outcome: Result | Unscored) -> None:
    """Tell the score of a pair, or why it has none."""
    pair: dict[str, Any] = {"model": outcome.model, "dataset": outcome.dataset}
    where = f"{outcome.model} on {outcome.dataset}"
    if isinstance(outcome, Result):
        tell(
            "score",
            f"{where}: {outcome.metric} {outcome.score:.4f}",
            **pair,
            metric=outcome.metric,
            score=outcome.score,
            probes={one.probe: one.score for one in outcome.probes},
            clips=outcome.clips,
            failed=outcome.failed,
        )
    else:
        tell("no_score", f"{where}: {outcome.reason}", logging.WARNING, **pair, reason=outcome.reason)
