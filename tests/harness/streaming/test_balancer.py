"""Which server a request goes to, and who is woken when a place becomes free; no server is needed for that."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator

import pytest
from arch_harness.streaming.balancer import Balancer
from arch_harness.triton.endpoint import Endpoint


@pytest.fixture
def balancer() -> Iterator[Balancer]:
    made = Balancer([Endpoint("localhost:1"), Endpoint("localhost:2")])
    yield made
    made.close()


def test_ties_do_not_all_go_to_the_first(balancer: Balancer) -> None:
    """As many workers with one place each would have them."""
    balancer.allow(1)
    chosen: Counter[int] = Counter()
    for _ in range(200):
        connection = balancer.acquire(0)
        assert connection is not None
        chosen[connection.position] += 1
        balancer.release(connection)
    assert min(chosen[0], chosen[1]) > 50


def test_the_fewest_outstanding_first(balancer: Balancer) -> None:
    balancer.allow(4)
    connections = [balancer.acquire(0) for _ in range(4)]
    assert sorted(connection.position for connection in connections if connection is not None) == [0, 0, 1, 1]
    assert balancer.acquire(0) is None


def test_a_free_place_wakes_who_waits_for_it(balancer: Balancer) -> None:
    """The thread that checks the servers waits too, and must not take the wake-up."""
    balancer.allow(1)
    held = balancer.acquire(0)
    assert held is not None
    got: list[object] = []
    # Without a wake-up, the place is not found before the time is over.
    waiting = threading.Thread(target=lambda: got.append(balancer.acquire(600)), daemon=True)
    waiting.start()
    threading.Timer(0.2, balancer.answered, [held]).start()
    waiting.join(10)
    assert len(got) == 1
    assert got[0] is not None
