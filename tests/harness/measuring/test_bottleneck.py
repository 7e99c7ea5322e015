"""What limits the throughput: clear cases, and ties."""

from __future__ import annotations

import pytest
from arch_harness.measuring.bottleneck import FULL, MOSTLY, SATURATED, find_bottleneck
from arch_harness.results.measurement import Occupancy, ServerTimes, Stages, occupancy


def stages(*, decode: float = 5, network: float = 1, queue: float = 1, compute: float = 1) -> Stages:
    return Stages(
        decode_ms=decode,
        resample_ms=0,
        wait_ms=3,
        latency_ms=network + queue + compute,
        network_ms=network,
        queue_ms=queue,
        compute_ms=compute,
    )


LOST = Stages(decode_ms=5, resample_ms=0, wait_ms=3, latency_ms=9, network_ms=None, queue_ms=None, compute_ms=None)


def shares(server: float | None = 0.2, in_flight: float = 1.0, decoding: float = 0.1) -> Occupancy:
    return Occupancy(server, in_flight, decoding)


@pytest.mark.parametrize(
    ("times", "full", "expected"),
    [
        (stages(), shares(server=0.94), "server compute"),
        # A busy server is the limit, even if places are empty and the workers do nothing but decode.
        (stages(decode=50), shares(server=0.94, in_flight=0.3, decoding=0.9), "server compute"),
        (stages(queue=9), shares(), "server queue"),
        (stages(network=9), shares(), "network"),
        # Places are full and the server is not: too few are in flight for its instances.
        (stages(compute=9), shares(), "server compute"),
        (stages(), shares(in_flight=0.3, decoding=0.9), "decoding"),
        (stages(), shares(in_flight=0.3, decoding=0.3), "client"),
        # The server's counters are lost.
        (LOST, shares(server=None), "server or network"),
        (LOST, shares(server=None, in_flight=0.3), "client"),
    ],
)
def test_clear_cases(times: Stages, full: Occupancy, expected: str) -> None:
    assert find_bottleneck(times, full) == expected


def test_ties_go_to_what_is_nearer_to_the_model() -> None:
    assert find_bottleneck(stages(network=4, queue=4, compute=4), shares()) == "server compute"
    assert find_bottleneck(stages(network=4, queue=4), shares()) == "server queue"


def test_the_bounds_count_as_reached() -> None:
    assert find_bottleneck(stages(network=9), shares(server=SATURATED)) == "server compute"
    assert find_bottleneck(stages(network=9), shares(in_flight=FULL)) == "network"
    assert find_bottleneck(stages(), shares(in_flight=0, decoding=MOSTLY)) == "decoding"


def server(busy: float, instances: int) -> ServerTimes:
    return ServerTimes(
        requests=100,
        queue_ms=1,
        compute_ms=1,
        batch_sizes={1: 100},
        mean_batch_size=1,
        busy_seconds=busy,
        instances=instances,
        foreign_requests=0,
    )


def test_occupancy_is_a_share_of_what_there_is_room_for() -> None:
    times = Stages(decode_ms=30, resample_ms=10, wait_ms=0, latency_ms=80, network_ms=20, queue_ms=20, compute_ms=40)
    found = occupancy(times, server(6, 2), clips_per_s=10, seconds=10, concurrency=4, workers=2)
    assert found.server == pytest.approx(6 / 2 / 10)
    assert found.in_flight == pytest.approx(100 / 10 * 0.080 / 4)
    assert found.decoding == pytest.approx(100 / 10 * 0.040 / 2 / 3)  # three threads in each worker


def test_occupancy_is_never_more_than_everything() -> None:
    times = stages(decode=900, network=900, queue=900, compute=900)
    assert occupancy(times, server(99, 1), clips_per_s=10, seconds=10, concurrency=4, workers=1) == Occupancy(1, 1, 1)
    assert occupancy(times, None, clips_per_s=0, seconds=0, concurrency=4, workers=1) == Occupancy(None, 0, 0)
