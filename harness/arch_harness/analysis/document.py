"""What an analysis says, as sentences and tables, whatever the format."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

from arch_harness.analysis.analyse import NEIGHBOURS
from arch_harness.report.text.numbers import UNKNOWN, clean, number, percent
from arch_harness.report.text.tables import Column, Section, Table, columns_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from arch_harness.analysis.analyse import Analysis, DatasetAnalysis, LayerRank, ModelLayer
    from arch_harness.results.run import Result, Run


@dataclass(frozen=True)
class AnalysisText:
    """A page.

    Attributes:
        title: in a line.
        lead: what it comes to, a sentence each.
        warnings: what must be known of it, a line each.
        sections: tables.
    """

    title: str
    lead: list[str]
    warnings: list[str]
    sections: list[Section]


def analysis_text(run: Run, analysis: Analysis) -> AnalysisText:
    """What an analysis of a run says."""
    sections = [_layers(run, analysis), _models(analysis), _neighbours(analysis)]
    return AnalysisText(
        "What the layers represent",
        list(_lead(run, analysis)),
        [clean(line) for line in analysis.notes],
        [section for section in sections if section.table.rows],
    )


def _lead(run: Run, analysis: Analysis) -> Iterator[str]:
    for one in analysis.datasets:
        for result in _results(run, one):
            ranks = [rank for rank in one.ranks if rank.layer.model == result.model]
            last = ranks[-1]
            rank = f"effective rank {number(last.rank)} of {last.most:,} at the last layer"
            name = f"{clean(one.dataset)}: {clean(result.model)}"
            if result.layers is not None:
                best = result.layers.best
                yield f"{name} scores best at layer {best.layer} of {len(ranks) - 1} ({percent(best.score)}%); {rank}."
    for near in analysis.neighbourhoods:
        yield (
            f"{clean(near.model)}: of the nearest neighbours, {percent(near.same_dataset)}% are of the clip's own "
            f"dataset and {percent(near.same_domain)}% of its domain; by chance {percent(1 / len(near.datasets))}% "
            "would be of its dataset."
        )


def _results(run: Run, one: DatasetAnalysis) -> list[Result]:
    models = {layer.model for layer in one.layers}
    return [result for result in run.results if result.dataset == one.dataset and result.model in models]


def _layers(run: Run, analysis: Analysis) -> Section:
    columns = (
        *columns_of("dataset", "model"),
        Column("Layer"),
        Column("Score", "%", True),
        Column("Effective rank", "", True),
        Column("At most", "", True),
        Column("CKA", "with the last", True),
    )
    rows = []
    for one in analysis.datasets:
        results = {result.model: result for result in _results(run, one)}
        for place, rank in enumerate(one.ranks):
            layer = rank.layer
            likeness = one.cka[place][one.last(layer.model)]
            rows.append(
                (
                    clean(one.dataset),
                    clean(layer.model),
                    "embedding" if layer.layer is None else str(layer.layer),
                    _score(results[layer.model], rank),
                    number(rank.rank),
                    f"{rank.most:,}",
                    f"{likeness:.3f}",
                )
            )
    text = (
        "Layer 0 enters the first transformer layer. The score is the linear probe's. The effective rank (Roy and "
        "Vetterli 2007) says how many dimensions the clips' mean states use: the exponential of the entropy of the "
        "singular values about the mean. It cannot exceed dimensions or clips, and is comparable at equal clips only: "
        + ", ".join(f"{one.clips:,} of {clean(one.dataset)}" for one in analysis.datasets)
        + "."
    )
    return Section("Layer by layer", text, Table(columns, rows))


def _score(result: Result, rank: LayerRank) -> str:
    if rank.layer.layer is None:
        return percent(result.score)
    found = result.layers.layers if result.layers else []
    return next((percent(one.score) for one in found if one.layer == rank.layer.layer), UNKNOWN)


def _models(analysis: Analysis) -> Section:
    columns = (
        *columns_of("dataset", "model"),
        Column("Other model"),
        Column("CKA", "last layers", True),
        Column("CKA", "highest", True),
        Column("Between"),
    )
    rows = []
    for one in analysis.datasets:
        for model, other in combinations(dict.fromkeys(layer.model for layer in one.layers), 2):
            highest, first, second = one.between(model, other)
            rows.append(
                (
                    clean(one.dataset),
                    clean(model),
                    clean(other),
                    f"{one.cka[one.last(model)][one.last(other)]:.3f}",
                    f"{highest:.3f}",
                    f"{_place(first)} and {_place(second)}",
                )
            )
    text = (
        "How alike models represent the same clips: linear centred kernel alignment (Kornblith et al. 2019), with the "
        "unbiased estimate. 1 is the same up to rotation and scale, 0 unrelated; an estimate may fall a little below."
    )
    return Section("Between models", text, Table(columns, rows))


def _place(layer: ModelLayer) -> str:
    return "embedding" if layer.layer is None else f"layer {layer.layer}"


def _neighbours(analysis: Analysis) -> Section:
    columns = (
        *columns_of("model"),
        Column("Clips of"),
        Column("Domain"),
        Column("Own dataset", "%", True),
        Column("Own domain", "%", True),
        Column("Most often else"),
    )
    rows = []
    for near in analysis.neighbourhoods:
        for row, dataset in enumerate(near.datasets):
            shares = near.shares[row]
            own = sum(share for share, domain in zip(shares, near.domains, strict=True) if domain == near.domains[row])
            others = [
                (share, name)
                for place, (share, name) in enumerate(zip(shares, near.datasets, strict=True))
                if place != row
            ]
            share, name = max(others)
            rows.append(
                (
                    clean(near.model),
                    clean(dataset),
                    near.domains[row],
                    percent(shares[row]),
                    percent(own),
                    f"{clean(name)}, {percent(share)}%" if share else "none",
                )
            )
    clips = analysis.neighbourhoods[0].clips if analysis.neighbourhoods else 0
    text = (
        f"Of which dataset the {NEIGHBOURS} nearest neighbours of a clip are, among {clips:,} clips of each dataset: "
        "by the cosine of final embeddings less their mean. A clip's own dataset far ahead says that recordings are "
        "told apart by where they come from."
    )
    return Section("Neighbours across domains", text, Table(columns, rows))
