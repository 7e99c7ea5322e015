"""Triton's log as JSON: each form of a line, and the real server's."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from arch_common.errors import ServeError, ServeUsageError
from arch_serve.log import messages, record
from arch_serve.server import LocalServer
from support.commands import ARCH, arch
from support.serve_models import add_model
from support.waiting import until

pytestmark = [pytest.mark.torch, pytest.mark.triton]

NOW = datetime(2026, 11, 26, 18, 50, tzinfo=UTC)


def parsed(line: str, now: datetime = NOW) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(record(line, now))
    return found


def test_a_line_of_triton() -> None:
    assert parsed('E1126 18:49:37.067729 7049 server.cc:241] "Driver \\"x\\" is missing\\nwhat"') == {
        "time": "2026-11-26T18:49:37.067729Z",
        "level": "error",
        "component": "triton",
        "message": 'Driver "x" is missing\nwhat',
        "source": "server.cc:241",
        "process": 7049,
    }


def test_a_line_of_a_model_and_one_without_quotes() -> None:
    found = parsed('I1126 18:49:37.526276 7049 model.py:140] "logmel runs in fp32 on CPUExecutionProvider"')
    assert (found["component"], found["level"], found["source"]) == ("backend", "info", "model.py:140")
    assert parsed("W1126 18:49:37.526276 7 a.cc:1] plain words")["message"] == "plain words"


@pytest.mark.parametrize(
    ("now", "time"),
    [
        (datetime(2027, 1, 1, 0, 5, tzinfo=UTC), "2026-12-31T23:59:59.000001Z"),
        (datetime(2026, 12, 31, 23, 59, 59, 5, tzinfo=UTC), "2026-12-31T23:59:59.000001Z"),
    ],
)
def test_a_line_does_not_tell_its_year(now: datetime, time: str) -> None:
    assert parsed("I1231 23:59:59.000001 7 a.cc:1] x", now)["time"] == time


def test_the_29th_of_february() -> None:
    line = "I0229 12:00:00.000000 7 a.cc:1] x"
    assert parsed(line, datetime(2028, 2, 29, 13, tzinfo=UTC))["time"].startswith("2028-02-29T12")
    # It was in no year that it can be of: the moment at which it was read.
    assert parsed(line, datetime(2027, 3, 1, tzinfo=UTC))["time"].startswith("2027-03-01T00")


def test_lines_of_libraries() -> None:
    found = parsed(
        "\x1b[1;31m2026-11-26 18:49:37.784630423 [E:onnxruntime:, sequential_executor.cc:677 ExecuteKernel] "
        "Non-zero status code\x1b[m"
    )
    assert (found["component"], found["level"]) == ("onnxruntime", "error")
    assert (found["source"], found["message"]) == ("sequential_executor.cc:677", "Non-zero status code")
    found = parsed("[Error] File: /build/otlp/src/otlp_http_client.cc:200 [OTLP HTTP Client] connection failed.")
    assert (found["component"], found["level"]) == ("opentelemetry", "error")
    assert (found["source"], found["message"]) == ("otlp_http_client.cc:200", "[OTLP HTTP Client] connection failed.")


@pytest.mark.parametrize(
    ("line", "level"),
    [
        ("Signal (15) received.", "info"),
        ("tritonserver: error while loading shared libraries: libx.so: cannot open", "error"),
        ("Error: Failed to initialize NVML", "info"),  # on every machine without a GPU
        ("E1126 not a line of Triton", "error"),
        ("I1399 99:99:99.000000 7 a.cc:1] no date", "info"),
        ("{}[]\x00\x1b\udce4", "info"),
    ],
)
def test_a_line_of_another_form_is_all_message(line: str, level: str) -> None:
    found = parsed(line)
    assert found["level"] == level
    assert found["time"] == "2026-11-26T18:50:00.000000Z"
    if found["component"] == "server":
        assert found["message"] == line.replace("\udce4", "?")


def test_a_table_is_one_message() -> None:
    head = "I1126 18:49:37.682402 7049 server.cc:674] "
    lines = [
        head,
        "+---+",
        "| Model | Status |",
        "+---+",
        "",
        "other",
        "+ not of a table",
        head,
        "I1126 18:49:38.000000 7 a.cc:1] x",
    ]
    found = list(messages(lines))
    assert found == [f"{head}\n+---+\n| Model | Status |\n+---+", "other", "+ not of a table", head, lines[-1]]
    assert parsed(found[0])["message"] == "+---+\n| Model | Status |\n+---+"
    assert list(messages([head, "+---+"])) == [f"{head}\n+---+"]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("repository")
    add_model(folder, "plain")
    add_model(folder, "broken")
    (folder / "broken" / "config.pbtxt").write_text('backend: "onnx')
    return folder


@pytest.fixture(scope="module")
def said(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], list[str]]:
    """The lines of `arch serve --log-format json` on both outputs, until it is stopped."""
    folder = tmp_path_factory.mktemp("outputs")
    ports = [f"--{one}-port=0" for one in ("grpc", "http", "metrics")]
    command = [*ARCH, "serve", "--repository", str(repository), "--log-format", "json", *ports]
    with (folder / "out").open("wb") as out, (folder / "err").open("wb") as err:
        # A time zone that would show in times that are not in UTC.
        running = subprocess.Popen(command, stdout=out, stderr=err, env=os.environ | {"TZ": "Asia/Tokyo"})
        until(lambda: b"serving" in (folder / "out").read_bytes(), deadline_s=60)
        running.send_signal(signal.SIGINT)
        assert running.wait(timeout=60) == 0
    out_lines, err_lines = ((folder / name).read_text().splitlines() for name in ("out", "err"))
    return out_lines, err_lines


def test_every_line_is_an_object(said: tuple[list[str], list[str]]) -> None:
    out, err = said
    now = datetime.now(UTC)
    for line in (*out, *err):
        found = json.loads(line)
        assert {"time", "level", "component", "message"} <= found.keys(), line
        assert timedelta() <= now - datetime.fromisoformat(found["time"]) < timedelta(minutes=5), line


def test_the_command_says_models_and_where_it_serves(said: tuple[list[str], list[str]]) -> None:
    broken, plain, serving = map(json.loads, said[0])
    assert {one["component"] for one in (broken, plain, serving)} == {"arch"}
    assert (plain["model"], plain["state"], plain["level"]) == ("plain", "READY", "info")
    assert (broken["model"], broken["state"], broken["level"]) == ("broken", "UNAVAILABLE", "warning")
    # Found in the log, though that is not kept in a file.
    assert "failed to read text proto" in broken["reason"]
    assert serving["grpc"].startswith("127.0.0.1:")
    assert serving["tls"] is False


def test_the_log_of_triton_and_of_the_models(said: tuple[list[str], list[str]]) -> None:
    found = [json.loads(line) for line in said[1]]
    assert (found[0]["component"], found[0]["message"]) == ("arch", "starting Triton and loading the models")
    assert any(one["component"] == "arch" and one["message"] == "stopping" for one in found)
    loaded = [one for one in found if one["message"] == "successfully loaded 'plain'"]
    assert [(one["component"], one["level"]) for one in loaded] == [("triton", "info")]
    assert loaded[0]["source"].startswith("model_lifecycle.cc:")
    (runs,) = [one for one in found if one["component"] == "backend"]
    assert runs["message"] == "plain runs in its own precision on CPUExecutionProvider"
    tables = [one for one in found if one["message"].startswith("+-")]
    assert any("| plain " in one["message"] and "READY" in one["message"] for one in tables)
    # After the request to end, too.
    assert found[-1]["message"] != "stopping"


def test_errors_of_the_command_are_objects_too(tmp_path: Path) -> None:
    done = arch("serve", "--repository", str(tmp_path / "none"), "--log-format", "json")
    found = [json.loads(line) for line in done.stderr.splitlines()]
    assert (done.returncode, done.stdout) == (2, "")
    assert (found[-1]["level"], found[-1]["exit_code"]) == ("error", 2)
    assert found[-1]["message"].startswith(f"no model repository at {tmp_path}/none")


def test_a_file_of_objects_and_why_a_server_ended(repository: Path, tmp_path: Path) -> None:
    log = tmp_path / "logs" / "triton.jsonl"
    ports = {"grpc_port": 0, "http_port": 0, "metrics_port": 0}
    with LocalServer(repository, ["plain"], **ports, log_file=log, log_format="json") as server:  # type: ignore[arg-type]
        assert "successfully loaded 'plain'" in [json.loads(line)["message"] for line in log.read_text().splitlines()]
        server.kill()
        with pytest.raises(ServeError, match=r"^tritonserver was killed by SIGKILL$"):
            server.wait()
    (tmp_path / "folder.jsonl").mkdir()
    with pytest.raises(ServeUsageError, match=r"cannot write the log to .*folder\.jsonl: Is a directory"):
        LocalServer(repository, **ports, log_file=tmp_path / "folder.jsonl", log_format="json").start()  # type: ignore[arg-type]
