"""What is exported loads in the oldest ONNX Runtime that teams serve with, and says there what it says in today's.

A container of NVIDIA has the ONNX Runtime of its day: that of 24.10 has 1.19.2. Since then optimisers came and went,
and a graph that one of them rewrites into an operator without a kernel does not load.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from arch_export.encoder.precision import Precision
from arch_export.graph.variants import write_variant
from arch_export.pipeline import export
from arch_export.verify.signals import synthesise
from support import run_models
from support.checkpoints import DATA2VEC, GROUP_NORM, LAYER_NORM, WAVLM, write_checkpoint
from support.shared import made_once

pytestmark = [pytest.mark.torch, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
SAMPLE_RATE = 16000
OLDEST = "1.19.2"
VERSIONS = (OLDEST, "1.23.2")
# Of seven layers over the waveform those between are alike; three are traced in two thirds of the time.
SHORT: dict[str, Any] = {
    "conv_dim": (16,) * 3,
    "conv_kernel": (10, 8, 8),
    "conv_stride": (5, 8, 8),
    "num_feat_extract_layers": 3,
}
# Each family of transformers, and each kind of norm at the least twice.
FAMILIES: dict[str, dict[str, Any]] = {
    "hubert": GROUP_NORM | {"feat_proj_layer_norm": False, "conv_pos_batch_norm": True},
    "wav2vec2": LAYER_NORM,
    "wavlm": GROUP_NORM | WAVLM,
    "data2vec-audio": DATA2VEC,
    "unispeech": GROUP_NORM,
    "unispeech-sat": LAYER_NORM,
}
# The form for CUDA, whose operators ONNX Runtime has for CPUs too.
CUDA_FAMILIES = ("wavlm", "unispeech-sat")
MODELS = [f"{family}{lengths}" for family in FAMILIES for lengths in ("", "-exact")]
# What pip says where it does not get to the registry. Where that has no such release, it lists those that there are.
UNREACHABLE = re.compile(r"from versions: none|Connection|Max retries|timed out|HTTP error|SSLError|ProxyError")

Embeddings = dict[str, Any]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`logmel`, and every family padded and exact, with all layers, in fp32 and beside it in int8."""
    folder = tmp_path_factory.mktemp("of-runtimes")
    export("logmel", folder)
    for family, config in FAMILIES.items():
        mask = config.get("conv_bias", False)
        checkpoint = write_checkpoint(
            tmp_path_factory.mktemp("checkpoints") / family, family, config, return_attention_mask=mask, **SHORT
        )
        for lengths in ("padded", "exact"):
            path = export(str(checkpoint), folder, layers="all", lengths=lengths).folder / "1" / "model.onnx"
            write_variant(path, path.with_name("int8.onnx"), Precision.INT8)
        if family in CUDA_FAMILIES:
            export(str(checkpoint), folder, f"{family}-cuda", layers="all", lengths="exact", target="gpu")
    return folder


@pytest.fixture(scope="module")
def today(models: Path) -> Embeddings:
    """What the installed ONNX Runtime gives."""
    return embeddings(models, importlib.metadata.version("onnxruntime"))


@pytest.fixture(scope="module", params=VERSIONS)
def earlier(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, models: Path) -> Embeddings:
    """What an earlier one gives, which lies in a folder of its own, in front of the installed one."""

    def fetch(folder: Path) -> None:
        pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--retries=1"]
        # What it depends on is installed here.
        wanted = ["--no-deps", "--only-binary=:all:", f"--target={folder}", f"onnxruntime=={request.param}"]
        done = subprocess.run([*pip, *wanted], capture_output=True, text=True, check=False)
        if done.returncode and UNREACHABLE.search(done.stderr):  # and for no other reason
            pytest.skip(f"pip could not fetch onnxruntime {request.param}: {done.stderr.strip().splitlines()[-1]}")
        assert done.returncode == 0, done.stderr

    folder = made_once(tmp_path_factory, f"onnxruntime-{request.param}", fetch)
    return embeddings(models, request.param, folder)


def feeds() -> dict[str, Any]:
    """Three clips in a batch, two of them padded."""
    valid = (24000, 16001, 7000)
    clips = [synthesise(index, samples, SAMPLE_RATE, seed=31) for index, samples in enumerate(valid)]
    return {
        "waveform": np.stack([np.pad(clip, (0, valid[0] - len(clip))) for clip in clips]),
        "num_samples": np.array([[samples] for samples in valid]),
    }


def embeddings(models: Path, version: str, installed: Path | None = None) -> Embeddings:
    """All outputs of all models, by a process of its own: a process imports one ONNX Runtime only."""
    given, found = models / f"{version}-feeds.npz", models / f"{version}-found.npz"
    np.savez(given, **feeds())
    graphs = [f"logmel=fp32={models / 'logmel' / '1' / 'model.onnx'}"]
    for model in MODELS:
        graphs.append(f"{model}=fp32={models / model / '1' / 'model.onnx'}")
        graphs.append(f"{model}-int8=int8={models / model / '1' / 'int8.onnx'}")
    graphs += [f"{family}-cuda=fp32={models / f'{family}-cuda' / '1' / 'model.onnx'}" for family in CUDA_FAMILIES]
    done = subprocess.run(
        [sys.executable, run_models.__file__, given, found, *graphs],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | ({"PYTHONPATH": str(installed)} if installed else {}),
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == version
    return dict(np.load(found))


def difference(ours: Any, expected: Any) -> float:
    """The largest relative one of a clip's and, where there are several, a layer's embedding."""
    return float(np.max(np.linalg.norm(ours - expected, axis=-1) / np.linalg.norm(expected, axis=-1)))


def test_fp32_is_the_same(today: Embeddings, earlier: Embeddings) -> None:
    names = [name for name in today if "-int8/" not in name]
    assert {"logmel/embedding", "wavlm-exact/embedding", "wavlm-exact/layer_embeddings"} <= set(names)
    assert len(names) == 1 + 2 * len(MODELS) + 2 * len(CUDA_FAMILIES)
    found = {name: difference(earlier[name], today[name]) for name in names}
    assert max(found.values()) < 1e-5, found


def test_int8_is_as_near_as_int8_is_to_itself(today: Embeddings, earlier: Embeddings) -> None:
    """Sums in another order put an activation near the edge of a step on its other side, which later layers spread.

    Of a base encoder's many activations some always are, and another version differs as much as the same one does from
    itself when the clip is louder by 1e-7; of these small nets few or none are.
    """
    names = [name for name in today if "-int8/" in name]
    assert len(names) == 2 * len(MODELS)
    found = {name: difference(earlier[name], today[name]) for name in names}
    assert max(found.values()) < 0.01, found


def test_the_server_may_be_the_oldest_that_is_tested() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert f"onnxruntime>={OLDEST}" in extras["serve"]
