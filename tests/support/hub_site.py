"""A server on this machine that speaks the part of the hub's protocol that is used, and has one model."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(BaseHTTPRequestHandler):
    """Serves `folder` as the only model of a hub, called `repository`; other ids are unknown."""

    folder: Path
    repository: str
    fetched: list[str]

    def do_GET(self) -> None:
        self._answer(True)

    def do_HEAD(self) -> None:
        self._answer(False)

    def _answer(self, body: bool) -> None:
        path, _, query = self.path.partition("?")
        if path.startswith(f"/api/models/{self.repository}/tree/"):
            tree = [
                {"type": "file", "path": file.name, "size": file.stat().st_size, "oid": file.name}
                for file in sorted(self.folder.iterdir())
            ]
            self._send(json.dumps(tree).encode(), body)
        elif path.startswith(f"/api/models/{self.repository}"):
            files = [
                {"rfilename": file.name} | ({"size": file.stat().st_size} if "blobs" in query else {})
                for file in sorted(self.folder.iterdir())
            ]
            self._send(json.dumps({"id": self.repository, "sha": COMMIT, "siblings": files}).encode(), body)
        elif path.startswith(tuple(f"/{self.repository}/resolve/{which}/" for which in (COMMIT, "main"))):
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


@contextmanager
def serve_hub(folder: Path, repository: str) -> Iterator[tuple[str, type[Hub]]]:
    """Its address, and the handler, whose `fetched` names the files that were downloaded."""
    handler = type("Handler", (Hub,), {"folder": folder, "repository": repository, "fetched": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", handler
    server.shutdown()
    server.server_close()
