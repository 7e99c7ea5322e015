"""What a configuration's speed is measured with: what is its own fault, and what ends the command."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from arch_bench.tuning import speed
from arch_bench.tuning.forms import FormModel
from arch_bench.tuning.speed import Scene, SpeedMeter
from arch_common.errors import ArchError, ExportError, ServeError
from arch_harness.load.asked import Slo
from arch_harness.load.sending.client import Clips
from arch_harness.tuning.halving import RUNGS
from arch_harness.tuning.journal import JOURNAL, Journal
from arch_harness.tuning.results import TuneRun
from arch_harness.tuning.space import Configuration, Form
from support.tunings import run_of, settings_of

ONE = Configuration(Form("fp32"), 8, 1, 2, 0)
LAST = len(RUNGS) - 1


class Served:
    """A server that keeps any promise below 50 clips/s, until something fails."""

    def __init__(self, error: BaseException | None = None, after: int = 0) -> None:
        self._error, self._after = error, after
        self.runs = 0

    @contextmanager
    def __call__(self, *_: object) -> Iterator[Served]:
        if self._error is not None and self.runs >= self._after:
            raise self._error
        yield self

    def first_rate(self, _: Configuration) -> float:
        return 20.0

    def run(self, configuration: Configuration, rung: int, seconds: float, rate: float, _: int) -> TuneRun:
        self.runs += 1
        over = 0 if rate < 50 else 50
        return run_of(configuration.key, rate, rung=rung, seconds=seconds, over=over, answered=min(rate, 50.0))


def meter_of(folder: Path, served: Served, monkeypatch: pytest.MonkeyPatch) -> SpeedMeter:
    monkeypatch.setattr(speed, "_live", served)
    model = FormModel(folder / "m", "sha256:0", True, {})
    clips = Clips(folder / "clips.f32", [16_000], 16_000, 0)
    scene = Scene(Slo(0.99, 100), clips, {ONE.form: model}, folder / "models", 2, 0)
    return SpeedMeter(scene, Journal(folder / "out", settings_of()), 0.1, 1e9, lambda _: None)


def test_every_run_is_kept_and_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    served = Served()
    meter = meter_of(tmp_path, served, monkeypatch)
    first = meter(ONE, 0)
    found = meter(ONE, LAST)
    assert list(found.runs[: len(first.runs)]) == list(first.runs)
    assert 40 < found.rate < 60
    assert served.runs == len(found.runs)
    again = Served()
    assert meter_of(tmp_path, again, monkeypatch)(ONE, LAST) == found
    assert again.runs == 0


def test_a_server_that_fails_is_the_configurations_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    meter = meter_of(tmp_path, Served(ArchError("it does not load: no memory"), after=1), monkeypatch)
    first = meter(ONE, 0)
    assert (first.fault, first.rung) == ("", 0)
    later = meter(ONE, LAST)
    assert (later.fault, later.rate) == ("it does not load: no memory", 0)
    assert list(later.runs) == list(first.runs)


def test_a_journal_that_takes_no_more_ends_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    meter = meter_of(tmp_path, Served(), monkeypatch)
    path = tmp_path / "out" / JOURNAL
    path.rename(tmp_path / "kept")
    path.mkdir()  # nothing can be appended to it, root or not
    with pytest.raises(ArchError, match=r"^cannot write .*runs\.jsonl: Is a directory$"):
        meter(ONE, 0)


def caused(error: ArchError, number: int) -> ArchError:
    error.__cause__ = OSError(number, "of the disk")
    return error


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ExportError("cannot write models/m-b8: No space left on device"), r"^cannot write models/m-b8: No space left"),
        (caused(ServeError("cannot put a server together in /tmp/x"), errno.ENOSPC), "cannot put a server together"),
        (OSError(errno.ENOSPC, "No space left on device"), r"^fp32-b8-i1-t2-d0 cannot be measured: No space left"),
    ],
)
def test_a_disk_that_is_full_ends_the_command(
    error: Any, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    meter = meter_of(tmp_path, Served(error), monkeypatch)
    with pytest.raises(ArchError, match=said):
        meter(ONE, 0)
    # What is no disk's stays the configuration's.
    other = caused(ServeError("Triton cannot list the models"), errno.EPIPE)
    assert meter_of(tmp_path, Served(other), monkeypatch)(ONE, 0).fault == "Triton cannot list the models"
