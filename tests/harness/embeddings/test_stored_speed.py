"""The speed kept beside stored embeddings: which one stays, and what is taken for the same."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from arch_harness.bench.resuming.fingerprints import speed_fingerprint
from arch_harness.bench.speed import SpeedRuns
from arch_harness.embeddings.speed import StoredSpeed, keep_speed, read_speed
from arch_harness.results.measurement import Measurement
from support.measurements import consumption, load_point, measurement
from support.runs import origin, run_of, small
from support.store_writer import dataset_of, write_data

if TYPE_CHECKING:
    from pathlib import Path

    from arch_harness.results.run import Result
    from arch_harness.streaming.pool import WorkerPool


def speed(clips: int, fingerprint: str = "a") -> StoredSpeed:
    measured = Measurement.model_validate(measurement(20.0, 100.0, clips))
    return StoredSpeed(fingerprint=fingerprint, origin=origin(), measurement=measured)


def test_a_few_mended_clips_take_no_ones_place(tmp_path: Path) -> None:
    assert read_speed(tmp_path, "a") is None
    keep_speed(tmp_path, speed(1000))
    keep_speed(tmp_path, speed(499))
    assert read_speed(tmp_path, "a") == speed(1000)
    keep_speed(tmp_path, speed(500))
    assert read_speed(tmp_path, "a") == speed(500)
    keep_speed(tmp_path, speed(10, "b"))
    assert read_speed(tmp_path, "a") is None
    assert read_speed(tmp_path, "b") == speed(10, "b")
    assert [speed(1000).outweighs(clips) for clips in (0, 499, 500)] == [True, True, False]


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"fingerprint": "a"}'])
def test_what_is_damaged_is_as_good_as_none(tmp_path: Path, damage: str) -> None:
    (tmp_path / "speed.json").write_text(damage)
    assert read_speed(tmp_path, "a") is None
    keep_speed(tmp_path, speed(10))
    assert read_speed(tmp_path, "a") == speed(10)


def test_the_same_is_what_ran_alike_whatever_its_name(tmp_path: Path) -> None:
    dataset, run = dataset_of(write_data(tmp_path / "data")), small()
    model, settings, servers = run.models[0], run.settings, run.servers
    same = speed_fingerprint(model, dataset, settings, servers)
    assert speed_fingerprint(model.model_copy(update={"name": "other"}), dataset, settings, servers) == same
    moved = [servers[0].model_copy(update={"address": "localhost:9001", "version": "2.60.0"})]
    assert speed_fingerprint(model, dataset, settings, moved) == same
    for field, value in (
        *(("content_hash", "sha256:cd"), ("executed_by", "fp32 on CUDAExecutionProvider"), ("instances", 2)),
        *(("max_batch_size", 8), ("max_queue_delay_us", 0), ("max_queue_size", 9), ("threads", 5)),
    ):
        other = model.model_copy(update={field: value})
        assert speed_fingerprint(other, dataset, settings, servers) != same, field
    for field, value in (("transport", "shared-memory"), ("concurrency", 3), ("workers", 5), ("layers", True)):
        asked = settings.model_copy(update={field: value})
        assert speed_fingerprint(model, dataset, asked, servers) != same, field
    assert speed_fingerprint(model, dataset, settings, [*servers, *servers]) != same
    remote = [servers[0].model_copy(update={"same_machine": False})]
    assert speed_fingerprint(model, dataset, settings, remote) != same
    (tmp_path / "data" / dataset.clips[3].path).write_bytes(b"another file")
    assert speed_fingerprint(model, dataset_of(tmp_path / "data"), settings, servers) != same


@pytest.mark.parametrize(
    ("rates", "asked", "left"), [((5.0, 5.0), None, 2), ((5.0, 7.0), None, 0), ((5.0, 7.0), 7.0, 1)]
)
def test_taken_over_latencies_at_an_equal_rate_stay_where_they_are_at_one(
    tmp_path: Path, rates: tuple[float, float], asked: float | None, left: int
) -> None:
    """And nothing is measured again beside a speed that was taken over."""
    dataset = dataset_of(write_data(tmp_path / "data"))
    run = run_of(("a", "b"), (dataset.id,))
    run.settings = run.settings.model_copy(update={"repeat": 3, "rate": asked})
    for result, rate in zip(run.results, rates, strict=True):
        assert result.measurement is not None
        result.carried = origin()
        result.measurement.loads = [one for one in result.measurement.loads if one.load != "equal rate"] + [
            type(result.measurement.loads[0]).model_validate(load_point("equal rate", 30.0, 200, rate, rate=rate))
        ]

    def save(result: Result) -> None:
        run.results = [result if one.model == result.model else one for one in run.results]

    def pool() -> WorkerPool:
        raise AssertionError("nothing is to be measured")

    SpeedRuns(run, tmp_path, dataset, save).measure(pool, {"a": None, "b": None}, None)  # type: ignore[dict-item,arg-type]
    points = [one.measurement.at("equal rate") for one in run.results if one.measurement]
    assert len([one for one in points if one]) == left


def test_a_repeat_keeps_what_the_hardware_took(tmp_path: Path) -> None:
    dataset = dataset_of(write_data(tmp_path / "data"))
    run = run_of(("a",), (dataset.id,))
    run.settings = run.settings.model_copy(update={"repeat": 2})
    again = Measurement.model_validate(measurement(20.0, 100.0, 1000) | {"consumption": consumption(320.0)})
    pool = SimpleNamespace(measure=lambda *_: again)
    display = SimpleNamespace(measuring=lambda *_: nullcontext(lambda *_: None))

    def save(result: Result) -> None:
        run.results = [result]

    SpeedRuns(run, tmp_path, dataset, save).measure(lambda: pool, {"a": None}, display)  # type: ignore[arg-type,dict-item,return-value]
    assert run.results[0].measurement is not None
    assert [one.joules_per_clip for one in run.results[0].measurement.repeats] == [10.0]
