"""Downloading a checkpoint, against a local server that speaks the part of the hub's protocol that is used."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

pytestmark = pytest.mark.torch

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REPOSITORY = "someone/tiny-hubert"


class Hub(BaseHTTPRequestHandler):
    """Serves `folder` as the only model of a hub; other ids are unknown."""

    folder: Path
    fetched: list[str]

    def do_GET(self) -> None:
        self._answer(True)

    def do_HEAD(self) -> None:
        self._answer(False)

    def _answer(self, body: bool) -> None:
        path = self.path.split("?")[0]
        if path.startswith(f"/api/models/{REPOSITORY}/tree/"):
            tree = [
                {"type": "file", "path": file.name, "size": file.stat().st_size, "oid": file.name}
                for file in sorted(self.folder.iterdir())
            ]
            self._send(json.dumps(tree).encode(), body)
        elif path.startswith(f"/api/models/{REPOSITORY}"):
            files = [{"rfilename": file.name} for file in sorted(self.folder.iterdir())]
            self._send(json.dumps({"id": REPOSITORY, "sha": COMMIT, "siblings": files}).encode(), body)
        elif path.startswith((f"/{REPOSITORY}/resolve/{COMMIT}/", f"/{REPOSITORY}/resolve/main/")):
            file = self.folder / path.rsplit("/", 1)[1]
            if body:
                self.fetched.append(file.name)
            self._send(file.read_bytes(), body)
        else:
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()

    def _send(self, content: bytes, body: bool) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub(tmp_path: Path, checkpoint: Path) -> Iterator[tuple[str, type[Hub]]]:
    # A copy: other tests may be reading the checkpoint.
    folder = shutil.copytree(checkpoint, tmp_path / "hub")
    handler = type("Handler", (Hub,), {"folder": folder, "fetched": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", handler
    server.shutdown()


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
