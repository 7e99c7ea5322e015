"""`arch bench --ablate` on a real Triton, with sounds that differ in nothing but their level."""

from __future__ import annotations

from pathlib import Path

import arch_bench
import numpy as np
import pytest
import soundfile
from arch_harness.embeddings.store import EmbeddingStore
from arch_harness.results.checks.ablations import Ablation
from arch_serve.server import LocalServer
from support.commands import arch

pytestmark = [pytest.mark.torch, pytest.mark.ray, pytest.mark.triton, pytest.mark.slow]

RATE = 16000
CLIPS = 40


@pytest.fixture(scope="module")
def levels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noise of half a second, loud or quiet: who hears no level can only guess."""
    folder = tmp_path_factory.mktemp("data") / "levels"
    random = np.random.default_rng(3)
    for label, level in (("loud", 0.3), ("quiet", 0.1)):
        (folder / label).mkdir(parents=True)
        for index in range(CLIPS):
            noise = level * random.uniform(0.8, 1.25) * random.uniform(-1, 1, RATE // 2)
            soundfile.write(folder / label / f"{index}.wav", noise, RATE, subtype="FLOAT")
    path = folder.parent / "levels.yaml"
    path.write_text("folder: levels\nmax_seconds: 1\n")
    return path


def of(run: arch_bench.LoadedRun) -> dict[tuple[str, str], Ablation]:
    return {(one.model, one.setting): one for one in run.run.ablations}


def test_what_hears_levels_loses_them_and_the_rest_does_not(
    tmp_path: Path, cache: Path, server: LocalServer, levels: Path
) -> None:
    def bench(*ablate: str) -> arch_bench.LoadedRun:
        return arch_bench.bench(
            levels,
            servers=[server.grpc_url],
            output=tmp_path / "out",
            probes="logreg",
            seeds=1,
            ablate=ablate,
            workers=1,
        )

    run = bench("loudness=peak,resampler=soxr-vhq")
    found = of(run)
    assert run.problems == ()
    scores = {result.model: result.score for result in run.run.results}
    assert scores["logmel"] > 0.95

    # Log-mel hears the level, and nothing else tells the classes apart.
    peak = found["logmel", "loudness=peak"]
    assert peak.more_than_noise
    assert peak.high < -0.25
    assert peak.score == pytest.approx(scores["logmel"] + peak.difference)
    assert peak.largest_change > 0.1
    # A graph that normalises undoes it: its embeddings stay, and with them its score.
    peak = found["tiny-hubert", "loudness=peak"]
    assert not peak.more_than_noise
    assert peak.mean_cosine > 0.999
    # The clips have the models' rate: there is nothing to resample.
    for name in scores:
        assert found[name, "resampler=soxr-vhq"].largest_change < 1e-5
        assert found[name, "resampler=soxr-vhq"].difference == pytest.approx(0, abs=1e-9)

    entries = EmbeddingStore(cache).entries()
    assert sorted(one.preprocessing for one in entries) == ["", "", *["loudness peak"] * 2, *["quality VHQ"] * 2]
    assert {one.clips for one in entries} == {2 * CLIPS}

    # What is done is kept; what is asked for besides is added.
    before = {one.folder: sorted(one.folder.glob("*.parquet")) for one in entries}
    again = bench("loudness")
    assert {key: one for key, one in of(again).items() if one.setting != "loudness=rms"} == found
    assert of(again)["logmel", "loudness=rms"].high < -0.25
    assert {folder: sorted(folder.glob("*.parquet")) for folder in before} == before
    assert [result.measurement for result in again.run.results] == [result.measurement for result in run.run.results]

    # A run of its own has the embeddings from the store, and the same figures.
    other = arch_bench.bench(
        levels,
        servers=[server.grpc_url],
        output=tmp_path / "other",
        probes="logreg",
        seeds=1,
        ablate="loudness=peak",
        workers=1,
    )
    assert of(other)["logmel", "loudness=peak"] == found["logmel", "loudness=peak"]
    # Other probes' scores do not stand beside these.
    probed = arch_bench.probe(tmp_path / "other", probes=["knn"], seeds=1)
    assert probed.run.ablations == []


def test_what_no_model_served_has_is_one_line(tmp_path: Path, server: LocalServer, levels: Path) -> None:
    done = arch(
        *("bench", "--server", server.grpc_url, "--dataset", str(levels), "--output", str(tmp_path / "out")),
        *("--ablate", "padding"),
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("arch: --ablate padding: logmel has no form that leaves padding out")
