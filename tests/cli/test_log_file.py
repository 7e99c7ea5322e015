"""`arch bench --log-file`: what happens in a run, a JSON object a line."""

from __future__ import annotations

import json
import logging
import math
import shutil
import socket
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from arch_common import log
from arch_common.errors import ArchError, UsageError
from support.commands import arch, one_line

pytestmark = [pytest.mark.torch, pytest.mark.triton, pytest.mark.ray, pytest.mark.slow]


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory, repository: Path, demo_dataset: Path) -> list[dict[str, Any]]:
    """What a run tells in which one clip cannot be decoded, and then one whose server is not there."""
    folder = tmp_path_factory.mktemp("logged")
    data = folder / "demo"
    shutil.copytree(demo_dataset, data)
    broken = sorted((data / "audio").iterdir())[0]
    broken.write_bytes(b"no audio")
    options = ["bench", "--dataset", f"demo={data}", "--seeds", "1", "--log-file", str(folder / "logs" / "run.jsonl")]
    store = ["--cache", str(folder / "cache")]
    model = ["--repository", str(repository), "--model", "logmel"]
    done = arch(*options, *store, *model, "--output", str(folder / "one"), "--quiet")
    assert done.returncode == 1, done.stderr
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        lost = arch(*options, *store, "--server", address, "--output", str(folder / "two"))
    assert lost.returncode == 1
    return lines(folder / "logs" / "run.jsonl")


def of(told: list[dict[str, Any]], event: str) -> list[dict[str, Any]]:
    return [one for one in told if one["event"] == event]


def test_each_has_its_time_and_level(told: list[dict[str, Any]]) -> None:
    times = [datetime.fromisoformat(one["time"]) for one in told]
    assert times == sorted(times)
    assert {one["component"] for one in told} == {"arch"}
    assert {one["level"] for one in told} == {"info", "warning", "error"}


def test_the_start_tells_what_is_run(told: list[dict[str, Any]]) -> None:
    (start,) = of(told, "start")
    assert start["message"].startswith("arch bench --dataset demo=")
    assert start["settings"]["seeds"] == 1
    assert start["machine"]["packages"]["arch-bench"] == start["arch_version"]
    assert [one["name"] for one in start["models"]] == ["logmel"]
    assert [(one["id"], one["clips"]) for one in start["datasets"]] == [("demo", 100)]


def test_phases_and_speed_of_the_pass(told: list[dict[str, Any]]) -> None:
    phases = [one["phase"] for one in of(told, "phase") if one["doing"] == "embed"]
    assert phases[0] in ("idle power", "warm", "alone")  # the first on a machine that tells its power
    assert "ramp" in phases
    assert len(phases) >= 2
    begun = {(one["doing"], one["model"], one["dataset"]) for one in of(told, "begin")}
    assert begun == {(one["doing"], one["model"], one["dataset"]) for one in of(told, "done")}
    assert ("embed", "logmel", "demo") in begun
    assert ("probe", "logmel", "demo") in begun
    (measured,) = of(told, "measured")
    assert measured["clips"] == 99
    assert measured["clips_per_s"] > 0


def test_the_clip_that_failed_and_the_score(told: list[dict[str, Any]]) -> None:
    (failed,) = of(told, "failed_clip")
    assert (failed["level"], failed["stage"], failed["model"], failed["dataset"]) == (
        "warning",
        "decode",
        "logmel",
        "demo",
    )
    assert failed["clip"].startswith("audio/")
    (score,) = of(told, "score")
    assert (score["clips"], score["failed"]) == (100, 1)
    assert score["score"] == score["probes"]["linear"]


def test_how_each_run_ended(told: list[dict[str, Any]]) -> None:
    (end,) = of(told, "end")
    assert (end["exit_code"], end["failed"], end["problems"], end["level"]) == (1, 1, [], "warning")
    assert told[-1]["event"] == "failed"
    assert (told[-1]["exit_code"], told[-1]["level"]) == (1, "error")
    assert told[-1]["message"].startswith("no Triton answers at 127.0.0.1:")


def test_a_file_that_cannot_be_written_is_told_before_any_work(tmp_path: Path, demo_dataset: Path) -> None:
    (tmp_path / "file").touch()
    done = arch(
        *("bench", "--dataset", f"demo={demo_dataset}", "--output", str(tmp_path / "out")),
        *("--log-file", str(tmp_path / "file" / "run.jsonl")),
    )
    assert done.returncode == 2
    assert one_line(done) == f"arch: --log-file {tmp_path}/file/run.jsonl cannot be written: File exists"
    assert not (tmp_path / "out").exists()


def test_what_json_has_no_form_for() -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
    fields = {"speed": math.nan, "most": [math.inf, 1.5], "path": Path("/a"), "name": "b\udce4d\nline"}
    line = log.json_line(moment, "info", "arch", "words", **fields)
    assert "\n" not in line
    assert json.loads(line) == {
        "time": "2026-01-02T03:04:05.000006Z",
        "level": "info",
        "component": "arch",
        "message": "words",
        "speed": None,
        "most": [None, 1.5],
        "path": "/a",
        "name": "b?d\nline",
    }


@pytest.mark.parametrize(
    ("error", "event", "code"),
    [
        (ArchError("the disk is full"), "failed", 1),
        (UsageError("no such thing"), "failed", 2),
        (KeyboardInterrupt(), "interrupted", 130),
        (ZeroDivisionError("division by zero"), "failed", 1),
    ],
)
def test_how_a_block_ends(tmp_path: Path, error: BaseException, event: str, code: int) -> None:
    file = tmp_path / "log.jsonl"
    file.write_text('{"event": "earlier"}\n')

    @log.logged
    def work(*, log_file: Path) -> None:
        log.tell("note", f"begun for {log_file.name}")
        raise error

    with pytest.raises(type(error)):
        work(log_file=file)
    log.tell("note", "nobody listens any more")
    earlier, begun, ended = lines(file)
    assert (earlier["event"], begun["message"]) == ("earlier", "begun for log.jsonl")
    assert (ended["event"], ended["exit_code"]) == (event, code)
    assert ("ZeroDivisionError" in ended.get("traceback", "")) == isinstance(error, ZeroDivisionError)


def test_a_disk_that_is_full_ends_no_run(capfd: pytest.CaptureFixture[str]) -> None:
    with log.appended_log("/dev/full"):
        log.tell("note", "one")
        log.tell("note", "two")
    assert capfd.readouterr().err.splitlines() == [
        "warning: cannot write the log to /dev/full: [Errno 28] No space left on device"
    ]


def test_nobody_is_told_without_a_file(capfd: pytest.CaptureFixture[str]) -> None:
    log.tell("warning", "unheard", logging.WARNING)
    assert capfd.readouterr().err == ""
