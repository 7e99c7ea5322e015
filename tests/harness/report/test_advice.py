"""What limited a measurement, in words, and each piece of advice: where it is given, and where it must not be."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
from arch_harness.report.text.speed import advice
from arch_harness.report.text.speed.advice import RULES, Situation, sentences_of
from arch_harness.results.measurement import Measurement
from arch_harness.results.run import ModelFacts
from support.measurements import load_point, measurement
from support.runs import model

STAGES = ("decode_ms", "resample_ms", "wait_ms", "network_ms", "queue_ms", "compute_ms")


def case(
    bottleneck: str = "server compute",
    *,
    cores: float = 3.0,
    busy: float | None = 40.0,
    measured: dict[str, Any] | None = None,
    facts: dict[str, Any] | None = None,
    together: bool = True,
    asked: bool = True,
    shared_memory: bool = False,
    **stages: float,
) -> Situation:
    """1,000 clips in 100 s, by 4 workers and with 8 places in flight, on a machine of 16 cores."""
    found = measurement(10.0, 200.0, 1000)
    found |= {"bottleneck": bottleneck, "workers": 4, "mean_concurrency": 8}
    found["stages"] = dict.fromkeys(STAGES, 10.0) | stages
    found["stages"]["latency_ms"] = sum(found["stages"][name] for name in STAGES[3:])
    found["utilisation"]["machine_cores"] = [cores] * 40
    if busy is None:
        found["stages"] |= dict.fromkeys(STAGES[3:])
        found["server"] = None
    else:
        found["server"]["busy_seconds"] = busy
    found |= measured or {}
    return Situation(
        Measurement.model_validate(found),
        ModelFacts.model_validate(model("a") | (facts or {})),
        16,
        together,
        asked,
        shared_memory,
    )


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (case(busy=93.6), "The server computes 94 % of the time: the harness is not the limit."),
        (
            case(compute_ms=180),
            "The server's execution takes 90 % of a request's latency, while the server computes 40 % of the time.",
        ),
        (
            case("server queue", queue_ms=80),
            "Waiting in the server's queue takes 80 % of a request's latency, while the server computes 40 % of the "
            "time.",
        ),
        (
            case("network", network_ms=80),
            "The way between client and server takes 80 % of a request's latency, while the server computes 40 % of "
            "the time: the network and the handling of messages are the limit.",
        ),
        (
            case("server or network", busy=None, compute_ms=780),
            "Requests under way take 100 % of the places for them: servers or network are the limit, which of them is "
            "not known without the servers' counters.",
        ),
        (case("decoding", decode_ms=900), "Decoding takes 76 % of the workers' time and is the limit."),
        (
            case("client"),
            "The client keeps 4 % of the places in flight taken, while the server computes 40 % of the time: making "
            "requests and taking answers is the limit.",
        ),
    ],
)
def test_the_limit_in_words(found: Situation, words: str) -> None:
    assert sentences_of(found)[0] == words


def loads(**changes: Any) -> dict[str, Any]:
    return {"loads": [load_point("paced", 80, 150, 7, rate=7.0, late_ms=0.1) | changes]}


FOUND = {"concurrency_found": True}
SHORT = {"steadiness": "too short"}
REPEATED = SHORT | {
    "repeats": [
        {"started": "2026-03-01T12:00:00Z", "clips_per_s": 10.0, "steadiness": "steady", "loads": []},
    ]
}
WAVERING = {"steadiness": "not steady", "window_clips_per_s": [8.0, 12.0, 9.0]}
STALLED = loads(stalls=7)
QUEUED: dict[str, Any] = {"facts": {"max_queue_delay_us": 60_000}}

GIVEN = [
    (advice._more_in_flight, case(compute_ms=180), "More requests in flight would keep it busier"),
    (advice._more_in_flight, case("server queue", queue_ms=80), "raise --concurrency"),
    (advice._not_found, case(compute_ms=180, asked=False), "too few clips to find"),
    (advice._no_more_helps, case(compute_ms=180, measured=FOUND, asked=False), "were tried and brought no more"),
    (advice._no_core_free, case(cores=15.9, compute_ms=180), "Every core of this machine is busy"),
    (advice._no_core_free, case("decoding", cores=14.5, decode_ms=900), "more workers would only wait"),
    (advice._more_workers, case("decoding", decode_ms=900), "Add workers"),
    (advice._more_workers, case("client"), "cores of this machine are free"),
    (advice._queue_delay, case("server queue", queue_ms=80, **QUEUED), "queue delay of the model, 60.0 ms"),
    (advice._shared_memory, case("network", network_ms=80), "--transport shared-memory"),
    (advice._too_short, case(measured=SHORT), "too few clips for a steady measurement (100 s)"),
    (advice._not_steady, case(measured=WAVERING), "not steady (8.00 to 12.0 clips/s)"),
    (advice._late, case(measured=loads(late_ms=9.0)), "At 7.00 clips/s the client sent clips 9.00 ms late"),
    (
        advice._late,
        case(measured=loads(late_ms=900.0, rate=100.0, answered_per_s=20.0)),
        "At 100 clips/s only 20.0 were answered: the rate is more than model and client keep up with",
    ),
    (
        advice._stalls,
        case(measured=STALLED, facts={"max_queue_size": 64}),
        "the bound on the model's queue (64 requests)",
    ),
    (advice._stalls, case(measured=STALLED), "look for a timeout or priorities"),
]
NOT_GIVEN = [
    # The server has no time left, what was tried brought nothing, or the machine has no core for it.
    (advice._more_in_flight, case(busy=93.6)),
    (advice._more_in_flight, case(compute_ms=180, measured=FOUND, asked=False)),
    (advice._more_in_flight, case(compute_ms=180, asked=False)),
    (advice._not_found, case(compute_ms=180)),
    (advice._not_found, case(compute_ms=180, measured=FOUND, asked=False)),
    (advice._not_found, case(busy=93.6, asked=False)),
    (advice._not_found, case(compute_ms=180, asked=False, cores=15.9)),
    (advice._not_found, case("decoding", decode_ms=900, asked=False)),
    (advice._not_found, case("client", asked=False)),
    (advice._more_in_flight, case(compute_ms=180, cores=15.9)),
    (advice._more_in_flight, case("network", network_ms=80)),
    (advice._no_more_helps, case(compute_ms=180)),
    (advice._no_more_helps, case(busy=93.6, measured=FOUND)),
    (advice._no_more_helps, case("client", measured=FOUND)),
    (advice._no_core_free, case(compute_ms=180)),
    (advice._no_core_free, case(cores=15.9, busy=93.6)),
    (advice._more_workers, case("client", cores=15.9)),
    (advice._more_workers, case(compute_ms=180)),
    # A bound on the queue makes a shorter delay worse; a wait that the delay does not explain; full batches.
    (
        advice._queue_delay,
        case("server queue", queue_ms=80, facts={"max_queue_delay_us": 60_000, "max_queue_size": 64}),
    ),
    (advice._queue_delay, case("server queue", queue_ms=80)),
    (advice._queue_delay, case("server queue", queue_ms=80, facts={"max_queue_delay_us": 60_000, "max_batch_size": 6})),
    (advice._queue_delay, case(compute_ms=180, **QUEUED)),
    (advice._shared_memory, case("network", network_ms=80, together=False)),
    (advice._shared_memory, case("network", network_ms=80, measured={"transport": "shared-memory"})),
    (advice._shared_memory, case("network", network_ms=80, shared_memory=True)),
    (advice._shared_memory, case(compute_ms=180)),
    (advice._too_short, case()),
    (advice._too_short, case(measured=REPEATED)),
    (advice._not_steady, case()),
    (advice._not_steady, case(measured=SHORT)),
    (advice._late, case(measured=loads(late_ms=7.0))),
    (advice._late, case()),
    (advice._stalls, case()),
    (advice._stalls, case(facts={"max_queue_size": 64})),
]


@pytest.mark.parametrize(("rule", "found", "words"), GIVEN)
def test_advice_is_given(rule: Callable[[Situation], str | None], found: Situation, words: str) -> None:
    sentence = rule(found)
    assert sentence is not None
    assert words in sentence
    assert sentence in sentences_of(found)


@pytest.mark.parametrize(("rule", "found"), NOT_GIVEN)
def test_advice_is_not_given(rule: Callable[[Situation], str | None], found: Situation) -> None:
    assert rule(found) is None


def test_every_rule_is_tested_both_ways() -> None:
    assert {rule for rule, *_ in GIVEN} == {rule for rule, _ in NOT_GIVEN} == set(RULES)


@pytest.mark.parametrize(("found", "asked"), [(True, False), (False, False), (False, True)])
@pytest.mark.parametrize("busy", [40.0, 93.6])
@pytest.mark.parametrize("cores", [3.0, 15.9])
@pytest.mark.parametrize("bottleneck", ["server compute", "server queue", "network", "decoding", "client"])
def test_no_two_pieces_of_advice_contradict(
    bottleneck: str, cores: float, busy: float, found: bool, asked: bool
) -> None:
    situation = case(bottleneck, cores=cores, busy=busy, measured={"concurrency_found": found}, asked=asked)
    given = {rule for rule in RULES if rule(situation)}
    more = {advice._more_in_flight, advice._not_found, advice._more_workers}
    enough = {advice._no_more_helps, advice._no_core_free}
    assert not (given & more and given & enough), sentences_of(situation)
    assert not (situation.saturated and given & {advice._more_in_flight, advice._not_found})


def test_two_instances_take_turns_and_are_not_blamed_on_the_bound() -> None:
    found = case(measured=STALLED, facts={"max_queue_size": 64, "instances": 2})
    assert "look for a timeout" in (advice._stalls(found) or "")
    assert advice._stalls(dataclasses.replace(found, measurement=case().measurement)) is None
