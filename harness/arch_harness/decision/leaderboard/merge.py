"""Runs merged into one leaderboard: the results that are comparable, and why each other one is left out."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from arch_common.errors import ArchError

from arch_harness.datasets.dataset import FIXTURE_NOTE
from arch_harness.decision.compatibility import Mismatch, origin_of, pair_mismatches, run_mismatches
from arch_harness.report.text.numbers import clean, plural

if TYPE_CHECKING:
    from arch_harness.results.run import DatasetFacts, ModelFacts, Origin, Result, Run
    from arch_harness.results.scores import ProbeName, ProbeScore

PROTOCOL_PROBE: ProbeName = "linear"
"""The probe of the ARCH protocol, by which models are ranked where a run has it."""


@dataclass(frozen=True)
class Standing:
    """A model on a dataset, in the run that counts.

    Attributes:
        source: the run's name.
        run: all of it.
        result: of the pair.
        score: by the leaderboard's probe.
    """

    source: str
    run: Run
    result: Result
    score: ProbeScore

    @property
    def model(self) -> ModelFacts:
        """The model."""
        return next(one for one in self.run.models if one.name == self.result.model)

    @property
    def dataset(self) -> DatasetFacts:
        """The data."""
        return next(one for one in self.run.datasets if one.id == self.result.dataset)

    @property
    def origin(self) -> Origin:
        """Where and when its speed was measured: of one that was carried over, in the earlier run."""
        return origin_of(self.run, self.result)

    @property
    def is_whole_data(self) -> bool:
        """Whether its data are the dataset itself: all its clips, and no imitation."""
        return not self.dataset.incomplete and not self.is_imitation

    @property
    def is_imitation(self) -> bool:
        """Whether its data are those of `arch data fake`."""
        return FIXTURE_NOTE in self.dataset.notes

    @property
    def identity(self) -> tuple[str, str, str]:
        """What makes it the same model in another run: name, content, and what executes it."""
        return self.model.name, self.model.content_hash, self.model.executed_by

    @property
    def doubts(self) -> list[str]:
        """Why its score is not that of the whole dataset, or of the model as it should be; each in a few words."""
        found = []
        if self.is_imitation:
            found.append("an imitation with synthesised audio")
        if self.dataset.incomplete:
            whole = self.dataset.clips_official
            of = f", {self.dataset.clips:,} of {whole:,} clips" if whole is not None else ""
            found.append(f"incomplete data{of}")
        if self.result.failed:
            found.append(f"{self.result.failed:,} of {plural(self.result.clips, 'clip')} failed")
        if self.model.parity_missed:
            found.append("the export misses the limits of its precision")
        return found


@dataclass(frozen=True)
class LeftOut:
    """A result that stands on no leaderboard.

    Attributes:
        source: the run's name.
        model: its name.
        dataset: its id.
        reason: in words.
    """

    source: str
    model: str
    dataset: str
    reason: str

    def line(self) -> str:
        """All that in one line."""
        return clean(f"{self.source}: {self.model} on {self.dataset}: {self.reason}")


@dataclass(frozen=True)
class Leaderboard:
    """What may stand together.

    Attributes:
        probe: that gave the scores.
        standings: by dataset, in the order of the runs.
        left_out: what does not stand there.
        remarks: fields in which runs that are shown differ and by which scores may differ, a line each.
    """

    probe: ProbeName
    standings: list[Standing]
    left_out: list[LeftOut] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    @property
    def datasets(self) -> list[str]:
        """Their ids, in the order in which they came."""
        return list(dict.fromkeys(one.result.dataset for one in self.standings))

    @property
    def models(self) -> list[list[Standing]]:
        """The standings of each model; the best mean over all datasets first, those without one last, by name."""
        found: dict[tuple[str, str, str], list[Standing]] = {}
        for one in self.standings:
            found.setdefault(one.identity, []).append(one)
        return sorted(found.values(), key=lambda of: (-(self.mean(of) or -1.0), of[0].identity))

    def mean(self, of_model: Sequence[Standing]) -> float | None:
        """Mean score of a model; None where a dataset is missing or a score is in doubt."""
        if len(of_model) < len(self.datasets) or any(one.doubts for one in of_model):
            return None
        return statistics.fmean(one.score.score for one in of_model)


def merge_runs(runs: Sequence[tuple[str, Run]]) -> Leaderboard:
    """Merge runs: of each dataset the largest set of results that are comparable, whole data before others.

    Scores stand together where `decision/compatibility.py` does not refuse to compare them: the same clips, labels and
    folds, metric and training. They are all of one probe, linear where a run has it. Where a model was benched again,
    the newer result counts.

    Args:
        runs: each with its name; none twice.

    Raises:
        ArchError: if no run has a result.
    """
    results = [(name, run, result) for name, run in runs for result in run.results]
    if not results:
        raise ArchError(f"nothing can be published: no result is in {', '.join(name for name, _ in runs)}")
    probe = _probe([result for *_, result in results])
    left_out = [LeftOut(name, one.model, one.dataset, one.reason) for name, run in runs for one in run.unscored]
    found: dict[str, list[Standing]] = {}
    for name, run, result in results:
        score = next((one for one in result.probes if one.probe == probe), None)
        if score is None:
            its = ", ".join(one.probe for one in result.probes) or "none"
            left_out.append(LeftOut(name, result.model, result.dataset, f"no score by the probe {probe}, but {its}"))
        else:
            found.setdefault(result.dataset, []).append(Standing(name, run, result, score))
    kept = []
    for standings in found.values():
        chosen, others = _largest(_groups(_newest(standings, left_out)))
        kept += chosen
        left_out += [LeftOut(*_names(other), _why(other, chosen)) for other in others]
    return Leaderboard(probe, kept, left_out, _remarks(kept))


def _probe(results: Sequence[Result]) -> ProbeName:
    probes: list[ProbeName] = [one.probe for result in results for one in result.probes]
    return PROTOCOL_PROBE if PROTOCOL_PROBE in probes or not probes else probes[0]


def _names(one: Standing) -> tuple[str, str, str]:
    return one.source, one.result.model, one.result.dataset


def _newest(standings: Sequence[Standing], left_out: list[LeftOut]) -> list[Standing]:
    """Of those of one model on the same data in the same way, the newest."""
    kept: list[Standing] = []
    for one in sorted(standings, key=lambda one: one.result.started, reverse=True):
        newer = next((other for other in kept if other.identity == one.identity and not _refused(one, other)), None)
        if newer is None:
            kept.append(one)
        else:
            reason = f"benched again in {newer.source}, on {newer.result.started:%Y-%m-%d}"
            left_out.append(LeftOut(*_names(one), reason))
    return [one for one in standings if one in kept]


def _groups(standings: Sequence[Standing]) -> list[list[Standing]]:
    """Those that are comparable with one another; only unequal fields are refused, so groups do not overlap."""
    groups: list[list[Standing]] = []
    for one in standings:
        group = next((group for group in groups if not _refused(one, group[0])), None)
        if group is None:
            groups.append([one])
        else:
            group.append(one)
    return groups


def _largest(groups: Sequence[list[Standing]]) -> tuple[list[Standing], list[Standing]]:
    chosen = max(groups, key=lambda group: (group[0].is_whole_data, len(group)))
    return chosen, [one for group in groups if group is not chosen for one in group]


def _mismatches(one: Standing, other: Standing) -> Iterator[Mismatch]:
    """What differs and touches scores."""
    found = [*run_mismatches(one.run, other.run), *pair_mismatches(one.run, other.run, one.result, other.result)]
    return (mismatch for mismatch in found if mismatch.touches in ("scores", "everything"))


def _refused(one: Standing, other: Standing) -> list[Mismatch]:
    return [mismatch for mismatch in _mismatches(one, other) if mismatch.refused]


def _why(one: Standing, chosen: Sequence[Standing]) -> str:
    shown = chosen[0]
    fields = [f"{found.field} is {found.ours}, and {found.theirs} in {shown.source}" for found in _refused(one, shown)]
    if shown.is_whole_data:
        fields += ["its audio is synthesised"] if one.is_imitation else []
        fields += ["its data are incomplete"] if one.dataset.incomplete else []
    return f"not comparable with what is shown: {'; '.join(fields)}"


def _remarks(standings: Sequence[Standing]) -> list[str]:
    """Fields in which the runs that are shown differ, with all their values."""
    runs = {one.source: one.run for one in standings}
    first = next(iter(runs.values()))
    others: dict[str, dict[str, Mismatch]] = {}
    for source, run in runs.items():
        for mismatch in run_mismatches(first, run):
            if mismatch.touches in ("scores", "everything") and not mismatch.refused:
                others.setdefault(mismatch.field, {})[source] = mismatch
    found = []
    for name, by_source in others.items():
        values: dict[str, list[str]] = {next(iter(by_source.values())).ours: []}
        for source in runs:
            value = by_source[source].theirs if source in by_source else next(iter(values))
            values.setdefault(value, []).append(source)
        shown = "; ".join(f"{value} in {', '.join(sources)}" for value, sources in values.items())
        found.append(clean(f"{name} differs: {shown}. Scores may differ by that alone."))
    return found
