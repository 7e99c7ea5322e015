"""A run held to thresholds, as one object that can be shown, written and enforced."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from arch_bench.decisions.comparing import loaded, write_text
from arch_bench.extras import needs
from arch_bench.loaded import LoadedRun

if TYPE_CHECKING:
    from arch_harness.decision.gate import GateResult
    from rich.console import Console, ConsoleOptions, RenderResult


@dataclass(frozen=True)
class Gate:
    """What a gate found."""

    result: GateResult

    @property
    def passed(self) -> bool:
        """Whether no check failed, and none could not be made."""
        return self.result.passed

    def enforce(self) -> None:
        """Raise unless the gate has passed.

        Raises:
            GateError: if a check failed.
            ArchError: if none did, but one could not be made.
        """
        self.result.enforce()

    def write(
        self, *, junit: str | Path | None = None, markdown: str | Path | None = None, json: str | Path | None = None
    ) -> None:
        """Write the files that are named, whole or not at all.

        Raises:
            ArchError: if one cannot be written.
        """
        from arch_harness.decision.document import gate_text
        from arch_harness.decision.formats import gate_to_json, to_junit, to_markdown

        if junit is not None:
            write_text(junit, to_junit(self.result))
        if markdown is not None:
            write_text(markdown, to_markdown([gate_text(self.result)]))
        if json is not None:
            write_text(json, gate_to_json(self.result))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """For a terminal."""
        from arch_harness.decision.terminal import TerminalGate

        yield TerminalGate(self.result)


def gate(
    run: str | Path | LoadedRun,
    baseline: str | Path | LoadedRun,
    *,
    thresholds: str | Path | None = None,
    max_drop: str | None = None,
    min_speed: str | float | None = None,
    max_p99: str | Sequence[str] | None = None,
    max_failed: str | None = None,
    min_cosine: str | float | None = None,
    pairs: Mapping[str, str] | None = None,
    models: Sequence[str] = (),
    datasets: Sequence[str] = (),
    strict: bool = False,
    cache: str | Path | None = None,
    baseline_cache: str | Path | None = None,
    note: Callable[[str], None] = lambda _: None,
) -> Gate:
    """Whether a run may take the place of a baseline; needs the extra `bench`.

    Args:
        run: a run, its folder or its `results.json`.
        baseline: likewise; what the run is held against.
        thresholds: a YAML file of those below, which take the place of what it says.
        max_drop: of the score, in points: `1pt`.
        min_speed: clips/s, as a ratio to the baseline's: 0.95.
        max_p99: limits at a load: `200ms@16/s`, `50ms@alone`.
        max_failed: share of a dataset's files without an embedding: `1%`.
        min_cosine: of the two embeddings of each clip: 0.999.
        pairs: models of the run, each with the model of the baseline that it is compared with.
        models: only these of the run; by default all.
        datasets: only these; by default all.
        strict: whether what cannot be told fails too.
        cache: the embedding store of the run, if it is not the usual one.
        baseline_cache: that of the baseline; by default that of the run.
        note: told what should be known of an embedding store.

    Returns:
        The checks; `enforce()` raises where the gate has not passed.

    Raises:
        UsageError: if there is no such run, a threshold cannot be meant or none is given, or the runs have nothing in
            common.
        ArchError: if one cannot be read.
    """
    with needs("bench"):
        from arch_harness.decision.gate import run_gate
        from arch_harness.decision.thresholds import read_thresholds
    asked = {
        "max-drop": max_drop,
        "min-speed": min_speed,
        "max-p99": max_p99,
        "max-failed": max_failed,
        "min-cosine": min_cosine,
    }
    allowed = read_thresholds(asked, Path(thresholds) if thresholds is not None else None)
    result = run_gate(
        loaded(run, cache).as_folder(),
        loaded(baseline, baseline_cache or cache).as_folder(),
        allowed,
        pairs,
        models=models,
        datasets=datasets,
        strict=strict,
        note=note,
    )
    return Gate(result)
