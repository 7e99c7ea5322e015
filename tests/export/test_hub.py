"""Downloading a checkpoint, against a local server that speaks the part of the hub's protocol that is used."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.hub_site import COMMIT, Hub, serve_hub

pytestmark = pytest.mark.torch

REPOSITORY = "someone/tiny-hubert"


@pytest.fixture
def hub(tmp_path: Path, checkpoint: Path) -> Iterator[tuple[str, type[Hub]]]:
    # A copy: other tests may be reading the checkpoint.
    folder = shutil.copytree(checkpoint, tmp_path / "hub")
    with serve_hub(folder, REPOSITORY) as served:
        yield served


def locate(reference: str, endpoint: str, home: Path) -> tuple[int, str]:
    """`locate` in a process of its own: the hub's client reads its environment once."""
    program = (
        "import sys\n"
        "from arch_export.checkpoint.locate import locate\n"
        "from arch_common.errors import ExportError\n"
        "try: c = locate(sys.argv[1])\n"
        "except ExportError as error: print(error); sys.exit(error.exit_code)\n"
        "print(c.source, c.revision, c.name, c.family, sorted(p.name for p in c.folder.iterdir()))\n"
    )
    environment = os.environ | {"HF_ENDPOINT": endpoint, "HF_HOME": str(home), "NO_PROXY": "127.0.0.1"}
    done = subprocess.run(
        [sys.executable, "-c", program, reference], env=environment, capture_output=True, text=True, check=False
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout.strip()


def test_download_then_offline_then_unknown(tmp_path: Path, hub: tuple[str, type[Hub]]) -> None:
    endpoint, handler = hub
    (handler.folder / "pytorch_model.bin").write_bytes(b"not wanted: there are safetensors")
    code, text = locate(REPOSITORY, endpoint, tmp_path)
    assert code == 0, text
    files = ["config.json", "model.safetensors", "preprocessor_config.json"]
    assert text == f"{REPOSITORY} {COMMIT} tiny-hubert hubert {files}"
    assert sorted(handler.fetched) == files

    # Nothing answers at this address: what was downloaded before serves.
    assert locate(REPOSITORY, "http://127.0.0.1:9", tmp_path) == (0, text)

    code, text = locate("someone/else", endpoint, tmp_path)
    assert (code, text) == (2, "the hub has no model someone/else, or it is private: set HF_TOKEN")
    code, text = locate("someone/else", "http://127.0.0.1:9", tmp_path)
    assert code == 1
    assert text.startswith("downloading someone/else failed (")
    assert "\n" not in text


def test_an_unsupported_architecture_costs_no_download_of_weights(tmp_path: Path, hub: tuple[str, type[Hub]]) -> None:
    endpoint, handler = hub
    folder = tmp_path / "whisper"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "whisper"}')
    for name in ("preprocessor_config.json", "model.safetensors"):
        (folder / name).write_text("{}")
    handler.folder = folder
    code, text = locate(REPOSITORY, endpoint, tmp_path)
    assert (code, text) == (
        2,
        f"{REPOSITORY} is of the architecture 'whisper'; supported: data2vec-audio, hubert, unispeech, unispeech-sat, "
        "wav2vec2, wavlm",
    )
    assert handler.fetched == ["config.json"]


def test_the_size_of_a_download_is_told_without_one(tmp_path: Path, hub: tuple[str, type[Hub]]) -> None:
    endpoint, handler = hub
    (handler.folder / "pytorch_model.bin").write_bytes(b"not wanted: there are safetensors")
    program = (
        "import sys\n"
        "from arch_export.checkpoint.hub import download_size, earlier_download\n"
        "print(download_size(sys.argv[1]), earlier_download(sys.argv[1]))\n"
    )
    expected = (handler.folder / "model.safetensors").stat().st_size
    for hub_id, address, size in (
        (REPOSITORY, endpoint, expected),
        ("someone/else", endpoint, None),
        (REPOSITORY, "http://127.0.0.1:9", None),
    ):
        environment = os.environ | {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path), "NO_PROXY": "127.0.0.1"}
        done = subprocess.run(
            [sys.executable, "-c", program, hub_id], env=environment, capture_output=True, text=True, check=True
        )
        assert done.stdout == f"{size} None\n"
    assert handler.fetched == []
