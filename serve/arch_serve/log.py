"""What a tritonserver says: its lines as they are in a file, or each as a JSON object."""

from __future__ import annotations

import json
import os
import re
import sys
import threading
from collections import deque
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, Self

from arch_common.errors import ServeUsageError
from arch_common.log import json_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

LogFormat = Literal["text", "json"]

_ERROR_LINE = re.compile(r"E\d{4} |error|[^ ]*: error ", re.IGNORECASE)
_LOG_PREFIX = re.compile(r"^E\d{4} \S+ \d+ \S+\] ")
# What Triton says on every machine without a GPU, whatever else is wrong.
_WITHOUT_GPU = re.compile(r"Failed to initialize NVML|CudaDriverHelper has not been initialized")
_KEPT_LINES = 1000
_END_S = 2.0

_LEVELS = {"I": "info", "W": "warning", "E": "error", "F": "critical", "V": "debug", "D": "debug"}
# I1126 18:40:12.345678 12345 model_lifecycle.cc:472] "loading: logmel:1", in UTC
_TRITON = re.compile(
    r"(?P<level>[IWEF])(?P<month>\d\d)(?P<day>\d\d) (?P<clock>\d\d:\d\d:\d\d\.\d{6}) +(?P<process>\d+) "
    r"(?P<source>[^\s:\]]+:\d+)\] (?P<message>.*)",
    re.DOTALL,
)
# 2026-11-26 18:40:12.345678901 [W:onnxruntime:, graph.cc:123 Function] words, in the time zone of the machine
_ONNXRUNTIME = re.compile(
    r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+ \[(?P<level>[VIWEF]):onnxruntime:[^,]*, (?P<source>\S+:\d+) [^\]]*\] "
    r"(?P<message>.*)"
)
# [Error] File: /build/otlp_http_client.cc:200 [OTLP HTTP Client] words
_OPENTELEMETRY = re.compile(r"\[(?P<level>Error|Warning|Info|Debug)\] File: (?P<source>\S+:\d+) ?(?P<message>.*)")
# A message that begins in the line after: Triton draws tables of models and options.
_TABLE_LINE = re.compile(r"[+|]")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class ServerLog:
    """Where the output of a tritonserver and its stubs goes; a context manager that closes it.

    Args:
        file: for it; None takes one in `workdir`, or standard error for JSON.
        workdir: a folder that lives as long as the server.
        form: text leaves the lines as they are, json makes an object of each.
        said: puts the user's paths in the place of ours.

    Raises:
        ServeUsageError: on entry, if the file cannot be written.
    """

    def __init__(self, file: Path | None, workdir: Path, form: LogFormat, said: Callable[[str], str]) -> None:
        self._path = file or (workdir / "server.log" if form == "text" else None)
        self._form = form
        self._said = said
        self._file: BinaryIO | None = None
        self._end = -1
        self._reader: threading.Thread | None = None
        self._lines: deque[str] = deque(maxlen=_KEPT_LINES)

    def __enter__(self) -> Self:
        if self._path is not None:
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._file = self._path.open("wb")
            except OSError as error:
                raise ServeUsageError(f"cannot write the log to {self._path}: {error.strerror}") from error
        if self._form == "json":
            ours, self._end = os.pipe()
            # A daemon: a stub that outlives its server must not keep this process from ending.
            self._reader = threading.Thread(target=self._read, args=(ours,), name="arch-serve-log", daemon=True)
            self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.handed_over()
        self._wait()
        if self._file is not None and not (self._reader and self._reader.is_alive()):
            self._file.close()

    def fileno(self) -> int:
        """What the server writes to."""
        return self._end if self._file is None or self._form == "json" else self._file.fileno()

    def handed_over(self) -> None:
        """The server has its end of the pipe: without ours, the pipe ends with the server."""
        if self._end >= 0:
            os.close(self._end)
            self._end = -1

    def last_error(self, mention: str = "") -> str:
        """The last error that mentions something, in one line; empty when there is none."""
        errors = [
            line
            for line in self._all()
            if _ERROR_LINE.match(line) and mention in line and not _WITHOUT_GPU.search(line)
        ]
        if not errors:
            return ""
        # Triton writes a message of many lines as one, with the line breaks escaped.
        message = self._said(_LOG_PREFIX.sub("", errors[-1])).split("\\n")
        return next(part for part in message if mention in part).strip(' "')

    def _all(self) -> Iterable[str]:
        """The lines so far; of a log in JSON the last thousand."""
        if self._form == "json":
            self._wait(_END_S / 4)  # for what a server said before it ended
            return list(self._lines)
        if self._path is None or not self._path.is_file():
            return []
        return self._path.read_text(errors="replace").splitlines()

    def _wait(self, seconds: float = _END_S) -> None:
        if self._reader is not None:
            self._reader.join(seconds)

    def _read(self, descriptor: int) -> None:
        """Make records of lines until the last process that writes has ended, whatever becomes of the records."""
        with open(descriptor, "rb") as pipe:
            for message in messages(self._kept(pipe)):
                self._write(f"{record(self._said(message), datetime.now(UTC))}\n")

    def _kept(self, pipe: Iterable[bytes]) -> Iterator[str]:
        for raw in pipe:
            line = raw.decode(errors="replace").rstrip("\r\n")
            self._lines.append(line)
            yield line

    def _write(self, line: str) -> None:
        try:
            if self._file is None:
                sys.stderr.write(line)
                sys.stderr.flush()
            else:
                self._file.write(line.encode())
                self._file.flush()
        except (OSError, ValueError):  # a full disk, a terminal that is gone: the server must not wait for us
            pass


def messages(lines: Iterable[str]) -> Iterator[str]:
    """Lines as they come, a table together with the line before it, without blank ones."""
    open_table: list[str] = []
    for line in lines:
        if open_table and _TABLE_LINE.match(line):
            open_table.append(line)
            continue
        if open_table:
            yield "\n".join(open_table)
            open_table = []
        found = _TRITON.fullmatch(line)
        if found and not found["message"]:
            open_table = [line]
        elif line.strip():
            yield line
    if open_table:
        yield "\n".join(open_table)


def record(line: str, now: datetime) -> str:
    """A message of the server's output as a JSON object.

    Args:
        line: from `messages`.
        now: when it was read, which is the moment of a line that does not tell its own.

    Returns:
        The object: `time`, `level`, `component` and `message`; of Triton's own lines and those of its backends also
        `source` (file:line) and `process`. The component is `triton`, `backend` (a model's Python), `onnxruntime`,
        `opentelemetry`, or `server` for a line of another form, which is all message.
    """
    plain = _COLOUR.sub("", line)
    if found := _TRITON.fullmatch(plain):
        source = found["source"]
        fields: dict[str, Any] = {"source": source, "process": int(found["process"])}
        component = "backend" if source.partition(":")[0].endswith(".py") else "triton"
        return json_line(_moment(found, now), _LEVELS[found["level"]], component, _words(found["message"]), **fields)
    if found := _ONNXRUNTIME.fullmatch(plain):
        return json_line(now, _LEVELS[found["level"]], "onnxruntime", found["message"], source=found["source"])
    if found := _OPENTELEMETRY.fullmatch(plain):
        source = found["source"].rpartition("/")[2]  # of the machine that it was built on
        return json_line(now, found["level"].lower(), "opentelemetry", found["message"], source=source)
    failed = _ERROR_LINE.match(plain) and not _WITHOUT_GPU.search(plain)
    return json_line(now, "error" if failed else "info", "server", plain)


def _moment(found: re.Match[str], now: datetime) -> datetime:
    """Of a line of Triton, which does not tell the year."""
    for year in (now.year, now.year - 1):
        try:
            moment = datetime.fromisoformat(f"{year}-{found['month']}-{found['day']}T{found['clock']}+00:00")
        except ValueError:  # the 29th of February of another year, or no date at all
            continue
        if moment <= now + timedelta(days=1):
            return moment
    return now


def _words(message: str) -> str:
    """A message, which Triton quotes as JSON does."""
    if message.startswith('"'):
        try:
            return str(json.loads(message, strict=False))
        except ValueError:
            pass
    return message.strip("\n")
