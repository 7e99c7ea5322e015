"""A run beside the published scores: the table that ships, the verdicts, and the formats."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from arch_harness.datasets.catalog import ARCH
from arch_harness.published.formats import TerminalReproduction, write_reproduction
from arch_harness.published.reproduction import Reproduction, beside_published
from arch_harness.published.table import SOURCE, published_models
from arch_harness.results.run import Run
from arch_harness.results.scores import Comparison
from rich.console import Console
from support.pages import Page
from support.runs import HOSTILE, comparison, run_of

if TYPE_CHECKING:
    from pathlib import Path

HUBERT, WAV2VEC2, LARGE = "ALM/hubert-base-audioset", "ALM/wav2vec2-base-audioset", "ALM/hubert-large-audioset"
MODELS = {"hubert-base-as": HUBERT, "wav2vec2-base-as": WAV2VEC2}


def test_the_table_is_that_of_the_paper() -> None:
    found = published_models()
    assert len(found) == 16
    # Read off the results page by hand.
    assert found[HUBERT].scores["esc50"] == pytest.approx(0.6880)
    assert found[HUBERT].scores["emovo"] == pytest.approx(0.3339)
    assert found["facebook/wav2vec2-large-robust"].scores["ravdess"] == pytest.approx(0.1157)
    twelve = {one.id for one in ARCH}
    assert {len(one.scores) for one in found.values()} == {0, 7, 12}
    assert {name for one in found.values() for name in one.scores} == twelve
    assert [name for name, one in found.items() if not one.scores] == ["ALM/wav2vec2-large-audioset", LARGE]
    assert all(0 < score < 1 for one in found.values() for score in one.scores.values())
    assert "2405.00934" in SOURCE


def real(**scores: float) -> Run:
    """Both models on ESC-50 with the published clips and protocol, and the scores given; the interval is -2.1, +1.9."""
    run = run_of(tuple(MODELS), ("esc50",))
    run.settings.epochs = 200
    for model, checkpoint in zip(run.models, MODELS.values(), strict=True):
        model.source = checkpoint
    for result in run.results:
        score = scores.get(result.model.replace("-", "_"), 0.5)
        shift = score - result.probes[0].score
        result.score = result.probes[0].score = score
        result.probes[0].interval.low += shift
        result.probes[0].interval.high += shift
    return run


def beside(run: Run, **more: Any) -> Reproduction:
    return beside_published(run, MODELS, ["esc50"], "Ours against published", **more)


def test_the_verdict_is_by_the_interval_of_ours() -> None:
    # Published: 68.80 and 52.61.
    found = beside(real(hubert_base_as=0.70, wav2vec2_base_as=0.56))
    first, second = found.results
    assert [first.score, first.published, first.difference] == pytest.approx([0.70, 0.688, 0.012])
    assert [first.low, first.high] == pytest.approx([0.679, 0.719])
    assert first.verdict == "within our interval"
    assert second.verdict == "the published score is below our interval"
    assert second.difference == pytest.approx(0.56 - 0.5261)
    assert (found.comparable, found.within) == (2, 1)
    assert beside(real(hubert_base_as=0.6)).results[0].verdict == "the published score is above our interval"


def test_no_word_of_agreement_where_it_is_no_reproduction() -> None:
    run = real(hubert_base_as=0.69)
    run.models[0].source = "local:random"
    one = beside(run).results[0]
    assert one.low is not None
    assert one.high is not None
    assert one.low < 0.688 < one.high
    assert one.verdict == "no reproduction"
    assert beside(run).comparable == 1


def test_what_was_not_published_is_said_to_be_so() -> None:
    run = real()
    run.models[0].source, run.models[0].parameter_count = LARGE, 317_000_000
    found = beside_published(run, {"hubert-base-as": LARGE}, ["esc50"], "x")
    (one,) = found.results
    assert (one.published, one.difference, one.verdict) == (None, None, "no published score is on file")
    assert found.comparable == 0


def test_only_what_was_asked_for_is_shown_in_the_order_asked_for() -> None:
    run = run_of(("wav2vec2-base-as", "other", "hubert-base-as"), ("us8k", "gtzan", "esc50"))
    found = beside_published(run, MODELS, ["esc50", "us8k"], "x")
    assert [(one.dataset, one.model) for one in found.results] == [
        (dataset, model) for dataset in ("esc50", "us8k") for model in MODELS
    ]


@pytest.mark.parametrize(
    ("first", "low", "high", "verdict"),
    [
        ("hubert-base-as", 0.10, 0.20, "hubert-base-as is ahead, as published"),
        # A comparison names the better one first, so it has to be turned round.
        ("wav2vec2-base-as", 0.10, 0.20, "wav2vec2-base-as is ahead, unlike published"),
        ("wav2vec2-base-as", -0.01, 0.05, "ours do not tell them apart"),
    ],
)
def test_which_is_ahead(first: str, low: float, high: float, verdict: str) -> None:
    run = real()
    (second,) = MODELS.keys() - {first}
    run.comparisons = [Comparison.model_validate(comparison("esc50", first, second, low, high))]
    (one,) = beside(run, pairs=[(HUBERT, WAV2VEC2), (LARGE, HUBERT)]).pairs
    assert one.verdict == verdict
    assert one.published == pytest.approx(0.6880 - 0.5261)
    sign = 1 if first == "hubert-base-as" else -1
    assert one.difference == pytest.approx(sign * (low + high) / 2)
    assert [one.low, one.high] == pytest.approx(sorted([sign * low, sign * high]))


def test_a_pair_is_no_reproduction_where_one_of_them_is_none() -> None:
    run = real()
    run.comparisons = [Comparison.model_validate(comparison("esc50", "hubert-base-as", "wav2vec2-base-as", 0.1, 0.2))]
    run.models[1].precision = "int8"
    assert beside(run, pairs=[(HUBERT, WAV2VEC2)]).pairs[0].verdict == "no reproduction"


def terminal(found: Reproduction, width: int) -> str:
    console = Console(width=width, no_color=True)
    with console.capture() as capture:
        console.print(TerminalReproduction(found))
    return capture.get()


def test_every_format_says_the_same(tmp_path: Path) -> None:
    run = real(hubert_base_as=0.70)
    run.models[1].precision = "int8"
    run.comparisons = [Comparison.model_validate(comparison("esc50", "hubert-base-as", "wav2vec2-base-as", 0.1, 0.2))]
    found = beside(run, pairs=[(HUBERT, WAV2VEC2)], left_out=["us8k: not here: arch data fetch us8k"])
    written = write_reproduction(found, tmp_path)
    assert sorted(path.name for path in written) == ["reproduction.html", "reproduction.json", "reproduction.md"]
    assert Reproduction.from_json((tmp_path / "reproduction.json").read_bytes()) == found
    texts = [(tmp_path / "reproduction.md").read_text().replace("\\", ""), terminal(found, 200)]
    page = Page((tmp_path / "reproduction.html").read_text())
    assert page.problems == []
    for text in [*texts, page.text]:
        assert "within our interval in 1 of the 1 that can be compared; 1 of 2 results cannot be set" in text
        for words in (
            "67.9 to 71.9",
            "68.8",
            "+1.2",
            "no reproduction [1]",
            "computes in int8",
            "arch data fetch us8k",
        ):
            assert words in text
    row = next(line for line in texts[0].splitlines() if line.startswith("| esc50 | hubert-base-as |"))
    assert row.split("|")[4:9] == [" 70.0 ", " 67.9 to 71.9 ", " 68.8 ", " +1.2 ", " within our interval "]
    assert all(len(line) <= 80 for line in terminal(found, 80).splitlines())


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    run = run_of((f"m{HOSTILE}",), ("esc50",))
    found = beside_published(run, {f"m{HOSTILE}": HUBERT}, ["esc50"], f"t{HOSTILE}", left_out=[f"l{HOSTILE}\n\x1b[31m"])
    write_reproduction(found, tmp_path)
    text = (tmp_path / "reproduction.html").read_text()
    assert "<b>" not in text
    page = Page(text)
    assert all(letter + HOSTILE in page.text for letter in "mtl")
    assert "http" not in re.sub(r"https://huggingface.co/spaces/ALM/ARCH", "", text)
    assert not page.tags & {"script", "img", "link"}
    assert "<b>" not in (tmp_path / "reproduction.md").read_text()
    assert "\x1b" not in terminal(found, 80) + (tmp_path / "reproduction.md").read_text()


def test_nothing_run_is_said(tmp_path: Path) -> None:
    found = beside_published(run_of(("m",), ("d",), results=[]), {}, [], "x", left_out=["esc50: not here"])
    write_reproduction(found, tmp_path)
    assert "Nothing was run." in (tmp_path / "reproduction.md").read_text()
    assert "Nothing was run." in terminal(found, 80)
