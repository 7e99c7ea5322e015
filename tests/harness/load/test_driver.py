"""What sends a load test's clips, without LoadGen, without Ray and without a server."""

from __future__ import annotations

import errno
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import numpy as np
import pytest
from arch_common.errors import ArchError, MissingExtraError
from arch_harness.load.sending import client, driver, fleet
from arch_harness.load.sending.messages import Order, Setup
from arch_harness.load.sending.remote import SenderMachine
from arch_harness.streaming.cluster.nodes import Place
from arch_harness.streaming.wire import Job
from arch_harness.triton.endpoint import Endpoint

Completed = list[tuple[tuple[int, int, int], list[int]]]


@pytest.fixture
def completed(monkeypatch: pytest.MonkeyPatch) -> Completed:
    """What LoadGen was told, each with what was known of failures then."""
    told: Completed = []
    known: list[driver._Sender] = []

    def complete(responses: list[tuple[int, int, int]]) -> None:
        told.extend((one, list(known[0].ended.failed)) for one in responses)

    loadgen = SimpleNamespace(QuerySamplesComplete=complete, QuerySampleResponse=lambda *what: what)
    monkeypatch.setattr(driver, "mlperf_loadgen", loadgen)
    begin = driver._Sender.begin

    def remembered(sender: driver._Sender, most: int | None) -> None:
        known.append(sender)
        begin(sender, most)

    monkeypatch.setattr(driver._Sender, "begin", remembered)
    return told


def sender_to(folder: Path, *addresses: str) -> driver._Sender:
    np.zeros(400, dtype=np.float32).tofile(folder / "clips")
    job = Job("model", folder, 16000, 1.0, 4, 0, 1)
    connection: Any = SimpleNamespace(send=lambda what: pytest.fail(str(what)))
    return driver._Sender(Setup([Endpoint(one) for one in addresses], job, folder / "clips", [400]), connection)


@pytest.mark.parametrize(("words", "reason"), [(" ", "INTERNAL"), ("", "INTERNAL"), ("no\nmemory", "no")])
def test_an_error_ends_its_clip_with_words_or_without(
    tmp_path: Path, completed: Completed, words: str, reason: str
) -> None:
    """LoadGen waits for every sample: one that is not completed holds the run up for ever.

    With its last sample a run ends, and what is known of it is sent: its failure must be known before.
    """
    sender = sender_to(tmp_path, "127.0.0.1:1")
    call = SimpleNamespace(code=lambda: grpc.StatusCode.INTERNAL, details=lambda: words)
    sender._done(sender._ways[0], 0, 7, call)
    assert completed == [((7, 0, 0), [0])]
    assert (sender.ended.failed, sender.ended.reasons) == ([0], {reason: 1})


def test_servers_with_as_many_under_way_are_taken_by_chance(tmp_path: Path, completed: Completed) -> None:
    """With one clip under way at a time all servers are equal at each: the first must not get them all."""
    sender = sender_to(tmp_path, "127.0.0.1:1", "127.0.0.1:2")
    sent: Counter[str] = Counter()
    for way in sender._ways:

        def future(*_: object, way: driver._Way = way, **__: object) -> Any:
            sent[way.endpoint.address] += 1
            failed = SimpleNamespace(code=lambda: grpc.StatusCode.INTERNAL, details=lambda: "no")
            return SimpleNamespace(add_done_callback=lambda done: done(failed))

        way.call = SimpleNamespace(future=future)
    sender._answered = 1  # so that failures alone end nothing
    for number in range(200):
        sender.issue([SimpleNamespace(id=number, index=0)])
    assert len(completed) == 200
    assert min(sent["127.0.0.1:1"], sent["127.0.0.1:2"]) > 50  # of 200; fewer by chance once in 10^13


def test_logs_that_have_no_place_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    order = Order("Server", {}, tmp_path / "file" / "loadgen", None)
    sending = client.Driver([], Job("model", tmp_path, 16000, 1.0, 4, 0, 1), client.Clips(tmp_path, [400], 16000, 0))
    with pytest.raises(ArchError, match=r"^cannot write LoadGen's logs into .*/loadgen: Not a directory$"):
        sending.run(order)
    with pytest.raises(ArchError, match=r"^cannot write LoadGen's logs into .*/loadgen: Not a directory$"):
        fleet._write(order.folder, {"log": b"text"})


def test_clips_that_have_no_place_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(client, "_decode", full)
    dataset: Any = SimpleNamespace(id="demo")
    words = r"^cannot keep the decoded clips in .*: No space left on device$"
    with pytest.raises(ArchError, match=words), client.decoded(dataset, 16000, 8, 0, print):
        pytest.fail("there are none")


@pytest.mark.parametrize("fails", [True, False])
def test_null_servers_end_whatever_becomes_of_the_others(fails: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second node lacks the extra: the first one's server would take its cores in all that is measured then."""
    ended: list[int] = []

    def actor(number: int) -> Any:
        def start() -> str:
            if fails and number == 1:
                raise MissingExtraError("arch-bench[serve] is not installed")
            return f"127.0.0.1:{number + 1}"

        null, end = (
            SimpleNamespace(remote=lambda _: start),
            SimpleNamespace(remote=lambda: lambda: ended.append(number)),
        )
        return SimpleNamespace(null=null, end_null=end)

    nodes = fleet.Fleet(2, None, [])
    nodes.senders = [
        fleet.SenderHandle(actor(number), SenderMachine(Place(1, "", machine=f"node{number}"), "", 1), None)
        for number in range(2)
    ]
    monkeypatch.setattr(nodes, "answers", lambda asked, *_: [answer() for answer in asked])
    opener: Any = object()
    if fails:
        with pytest.raises(MissingExtraError), nodes.null_servers(opener):
            pytest.fail("one server is missing")
        assert ended == [0]
        return
    addresses: list[Endpoint] = []

    def measure(servers: list[Endpoint]) -> None:
        addresses.extend(servers)
        raise ArchError("lost")

    with pytest.raises(ArchError, match=r"^lost$"), nodes.null_servers(opener) as servers:
        measure(servers)
    assert [one.address for one in addresses] == ["127.0.0.1:1", "127.0.0.1:2"]
    assert ended == [0, 1]
