"""A real HTTP server on this machine that misbehaves as asked."""

from __future__ import annotations

import http.server
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Site:
    """What the server has and how it behaves.

    Attributes:
        files: name -> content.
        cut_after: name -> bytes after which the connection is closed, once for each number.
        ranges: whether parts of a file are given.
        most: bytes of a range that are given at once.
        if_range: whether a range is refused where the file is another version.
        length: whether the length is told.
        log: (name, Range header) of each request.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    cut_after: dict[str, list[int]] = field(default_factory=dict)
    ranges: bool = True
    most: int = 1 << 30
    if_range: bool = True
    length: bool = True
    etag: str = '"1"'
    status: int = 0
    slow: bool = False
    log: list[tuple[str, str | None]] = field(default_factory=list)
    url: str = ""


@contextmanager
def serve() -> Iterator[Site]:
    """A site on a free port of this machine."""
    served = Site()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            name = self.path.rsplit("/", 1)[1]
            asked = self.headers.get("Range")
            served.log.append((name, asked))
            if served.status or name not in served.files:
                self.send_error(served.status or 404)
                return
            content, start, end = served.files[name], 0, len(served.files[name])
            same = not served.if_range or self.headers.get("If-Range", served.etag) == served.etag
            if asked and served.ranges and same:
                start = int(asked.removeprefix("bytes=").removesuffix("-"))
                if start >= len(content):
                    self.send_response(416)
                    self.send_header("Content-Range", f"bytes */{len(content)}")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                end = min(start + served.most, len(content))
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(content)}")
            else:
                self.send_response(200)
            body = content[start:end]
            if served.length:
                self.send_header("Content-Length", str(len(body)))
            else:
                self.close_connection = True
            if served.etag:
                self.send_header("ETag", served.etag)
            self.end_headers()
            cuts = served.cut_after.get(name)
            if cuts:
                body = body[: cuts.pop(0)]
                self.close_connection = True
            if served.slow:
                for place in range(0, len(body), 1000):
                    self.wfile.write(body[place : place + 1000])
                    time.sleep(0.01)
            else:
                self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    served.url = f"http://127.0.0.1:{server.server_port}"
    yield served
    server.shutdown()
    server.server_close()
