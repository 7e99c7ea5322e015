"""`arch analyse`: a run's stored layers to a page and its figures."""

from __future__ import annotations

import json
from pathlib import Path

import arch_bench
import numpy as np
import pytest
from arch_bench.loaded import LoadedRun
from arch_harness.analysis.measures import Centred, linear_cka
from arch_harness.datasets.registry import open_dataset
from arch_harness.embeddings.geometry import effective_rank
from arch_harness.embeddings.store import EmbeddingStore
from arch_harness.results.run import RESULTS, Run, write_run
from numpy.typing import NDArray
from support.commands import arch, one_line
from support.made_data import touch
from support.pages import Page
from support.runs import layer_scores, run_of

CLIPS, SIZE, LAYERS = 60, 16, 3


def layers_of(model: str, dataset: str, clip: int) -> NDArray[np.float32]:
    """FP32 [1 + layers, size]: the two encoders see the same, one turned around, but for their last layer."""
    shared = np.random.default_rng((clip, len(dataset))).standard_normal((LAYERS, SIZE))
    if model == "turned":
        shared = 3 * shared[:, ::-1]
        shared[-1] = np.random.default_rng((clip, 99)).standard_normal(SIZE)
    shared[0, 4:] = 0  # the first layer uses four dimensions
    shared[-1] += 50 * (dataset == "speech")  # far apart at the last
    found: NDArray[np.float32] = np.stack([shared[-1], *shared]).astype(np.float32)
    return found


@pytest.fixture
def run(tmp_path: Path) -> LoadedRun:
    """Two models with layers and one without, on two datasets of one's own, as a run would leave them."""
    store = EmbeddingStore(tmp_path / "cache")
    references = []
    for name, domain in (("speech", "speech"), ("songs", "music")):
        touch(tmp_path / name, *(f"{label}/{clip}.wav" for label in "ab" for clip in range(CLIPS // 2)))
        (tmp_path / f"{name}.yaml").write_text(f"folder: {name}\ndomain: {domain}\n")
        references.append(str(tmp_path / f"{name}.yaml"))
    opened = [open_dataset(one, tmp_path) for one in references]
    made = run_of(("upright", "turned", "flat"), ("speech", "songs"))
    made.settings.layers = True
    for model in made.models:
        model.embedding_size = SIZE
        model.content_hash = f"sha256:{model.name}"
        model.layer_embeddings = 0 if model.name == "flat" else LAYERS
    for facts, dataset in zip(made.datasets, opened, strict=True):
        facts.reference, facts.listing, facts.max_seconds = dataset.reference, dataset.listing, 5
        facts.domain, facts.clips = dataset.declaration.domain, CLIPS
        for model in made.models:
            rows = slice(0, 1 + model.layer_embeddings)
            with store.open(model, dataset, layers=True) as entry:
                entry.append((clip, layers_of(model.name, facts.id, clip)[rows]) for clip in range(CLIPS))
    for result in made.results:
        result.clips = CLIPS
        result.layers = None if result.model == "flat" else layer_scores(LAYERS)
    (tmp_path / "run").mkdir()
    write_run(made, tmp_path / "run" / RESULTS)
    return LoadedRun(tmp_path / "run", Run.model_validate(made.model_dump()), tmp_path / "cache")


def test_the_figures_are_those_of_the_stored_layers(run: LoadedRun) -> None:
    found = arch_bench.analyse(run).found
    speech = found.datasets[0]
    assert (speech.dataset, speech.clips) == ("speech", CLIPS)
    assert [(layer.model, layer.layer) for layer in speech.layers] == [
        *(("upright", layer) for layer in range(LAYERS)),
        *(("turned", layer) for layer in range(LAYERS)),
        ("flat", None),
    ]
    of_upright = np.stack([layers_of("upright", "speech", clip) for clip in range(CLIPS)])
    assert [rank.rank for rank in speech.ranks[:LAYERS]] == pytest.approx(
        [effective_rank(of_upright[:, 1 + layer]) for layer in range(LAYERS)]
    )
    assert speech.ranks[0].rank < 4.001
    assert speech.ranks[1].rank > 12
    assert {rank.most for rank in speech.ranks} == {SIZE}
    expected = linear_cka(Centred.of(of_upright[:, 1]), Centred.of(of_upright[:, 2]))
    assert speech.cka[0][1] == speech.cka[1][0] == pytest.approx(expected)
    # Turned around and three times as large is the same; the last layer is another.
    assert speech.cka[1][LAYERS + 1] == pytest.approx(1, abs=1e-5)
    assert abs(speech.cka[2][LAYERS + 2]) < 0.2
    highest, one, other = speech.between("upright", "turned")
    assert highest == pytest.approx(1, abs=1e-5)
    assert one.layer == other.layer == 1


def test_neighbours_are_looked_for_over_datasets(run: LoadedRun) -> None:
    (upright, _, _) = arch_bench.analyse(run).found.neighbourhoods
    assert (upright.datasets, upright.domains, upright.clips) == (["speech", "songs"], ["speech", "music"], CLIPS)
    assert upright.shares == [[1, 0], [0, 1]]
    assert upright.same_dataset == upright.same_domain == 1


def test_the_page_the_figures_and_the_lines(run: LoadedRun) -> None:
    done = arch("analyse", str(run.folder), "--cache", str(run.cache))
    assert done.returncode == 0, done.stderr
    said = " ".join(done.stdout.split())
    assert "note: flat: no embeddings of layers, only the final one is analysed" in said
    assert "CKA of upright and turned" in said
    assert "upright: of the nearest neighbours, 100.0% are of the clip's own dataset" in said
    assert done.stdout.splitlines()[-1] == f"analysis: {run.folder / 'analysis.html'}"
    text = (run.folder / "analysis.html").read_text()
    page = Page(text)
    assert page.problems == []
    assert not page.tags & {"script", "link", "img", "image", "iframe"}
    for title in ("Layers", "Which layers are alike", "How many dimensions are used", "Neighbours across domains"):
        assert title in page.text
    assert text.count("<svg") == 2 + 2 + 2 + 3
    figures = json.loads((run.folder / "analysis.json").read_text())
    assert figures["datasets"][1]["dataset"] == "songs"
    assert figures["neighbourhoods"][0]["same_domain"] == 1
    assert len(figures["datasets"][0]["cka"]) == 2 * LAYERS + 1


def test_what_is_not_there_is_one_line(run: LoadedRun, tmp_path: Path) -> None:
    gone = arch("analyse", str(run.folder), "--cache", str(tmp_path / "empty"))
    assert gone.returncode == 2
    assert "60 of 60 embeddings of upright on speech are not in the store" in one_line(gone)
    assert "arch bench computes them again" in one_line(gone)
    run.run.settings.layers = False
    write_run(run.run, run.folder / RESULTS)
    without = arch("analyse", str(run.folder), "--cache", str(run.cache))
    assert without.returncode == 2
    assert one_line(without) == (
        "arch: the run has no embeddings of layers: export with --layers all, and run arch bench with --layers"
    )
    assert not (run.folder / "analysis.html").exists()
