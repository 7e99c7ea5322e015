"""What limited a measurement, and what can be done about it: one rule a sentence, each from what was measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from arch_harness.measuring.bottleneck import SATURATED
from arch_harness.report.text.numbers import number, plural
from arch_harness.results.repeats import runs_of, stalls_of

if TYPE_CHECKING:
    from arch_harness.results.measurement import LoadPoint, Measurement, Occupancy, Stages
    from arch_harness.results.run import ModelFacts

_CORES_BUSY = 0.9
"""Share of the machine's cores from which on nothing that is added finds one that is free."""

_MOSTLY_DELAY = 0.5
"""Share of the time in the server's queue from which on the queue delay explains it."""

_FULL_BATCH = 0.9
"""Share of the largest batch from which on a longer wait would not fill it more."""

_KEEPS_UP = 0.9
"""Share of the clips that are sent at a rate from which on those that are answered are as many but for chance."""

_LATE = 0.1
"""Share of the median latency from which on what the client was late by counts."""


@dataclass(frozen=True)
class Situation:
    """One measurement, and what it was made with.

    Attributes:
        measurement: of one model on one dataset.
        model: its facts.
        cores: of the client's machine.
        same_machine: whether the servers run on it too.
        asked: whether the number of requests in flight was asked for.
        shared_memory: whether it was asked for.
    """

    measurement: Measurement
    model: ModelFacts
    cores: int
    same_machine: bool
    asked: bool
    shared_memory: bool = False

    @property
    def crowded(self) -> bool:
        """Whether hardly a core of the client's machine is free."""
        busy = self.measurement.use()["machine_cores"]
        return busy is not None and busy >= _CORES_BUSY * self.cores

    @property
    def saturated(self) -> bool:
        """Whether the servers computed nearly all the time."""
        full = self.measurement.occupancy
        return full is not None and full.server is not None and full.server >= SATURATED


def sentences_of(case: Situation) -> list[str]:
    """What limited the throughput, and what follows from it."""
    one = case.measurement
    stages, full = one.stages, one.occupancy
    if stages is None or full is None or one.bottleneck is None:
        return ["No clip was answered."]
    found = [_limit(case, stages, full)]
    return found + [sentence for rule in RULES if (sentence := rule(case)) is not None]


def _limit(case: Situation, stages: Stages, full: Occupancy) -> str:
    def part(milliseconds: float | None) -> str:
        return _whole((milliseconds or 0.0) / (stages.latency_ms or 1.0))

    computes = "" if full.server is None else f", while the server computes {_whole(full.server)} of the time"
    match case.measurement.bottleneck:
        case "server compute" if case.saturated:
            return f"The server computes {_whole(full.server or 0.0)} of the time: the harness is not the limit."
        case "server compute":
            return f"The server's execution takes {part(stages.compute_ms)} of a request's latency{computes}."
        case "server queue":
            return f"Waiting in the server's queue takes {part(stages.queue_ms)} of a request's latency{computes}."
        case "network":
            return (
                f"The way between client and server takes {part(stages.network_ms)} of a request's latency{computes}: "
                "the network and the handling of messages are the limit."
            )
        case "decoding":
            return f"Decoding takes {_whole(full.decoding)} of the workers' time and is the limit."
        case "client":
            return (
                f"The client keeps {_whole(full.in_flight)} of the places in flight taken{computes}: making requests "
                "and taking answers is the limit."
            )
        case _:
            return (
                f"Requests under way take {_whole(full.in_flight)} of the places for them: servers or network are the "
                "limit, which of them is not known without the servers' counters."
            )


def _more_in_flight(case: Situation) -> str | None:
    """Only where the number was asked for: the search stops where more brought nothing."""
    one = case.measurement
    waits = one.bottleneck in ("server compute", "server queue") and not case.saturated
    if not waits or not case.asked or case.crowded:
        return None
    return "More requests in flight would keep it busier: raise --concurrency, or leave it out to have it found."


def _not_found(case: Situation) -> str | None:
    if case.asked or case.measurement.concurrency_found or case.saturated or case.crowded:
        return None
    if case.measurement.bottleneck in ("decoding", "client"):  # the places that there are stood empty
        return None
    return "There were too few clips to find how many requests in flight are best: more may bring more (--concurrency)."


def _no_more_helps(case: Situation) -> str | None:
    one = case.measurement
    waits = one.bottleneck in ("server compute", "server queue") and not case.saturated
    if not waits or not one.concurrency_found or case.crowded:
        return None
    return "More requests in flight were tried and brought no more."


def _no_core_free(case: Situation) -> str | None:
    if not case.crowded or case.saturated:
        return None
    return "Every core of this machine is busy: more requests in flight or more workers would only wait."


def _more_workers(case: Situation) -> str | None:
    if case.measurement.bottleneck not in ("decoding", "client") or case.crowded:
        return None
    return "Add workers (--workers): cores of this machine are free."


def _queue_delay(case: Situation) -> str | None:
    """Not where there is a bound on the queue: the batcher sleeps then, the more often the shorter the delay."""
    one, model = case.measurement, case.model
    if one.bottleneck != "server queue" or case.saturated or model.max_queue_size is not None or one.server is None:
        return None
    delayed = model.max_queue_delay_us / 1e3 >= _MOSTLY_DELAY * one.server.queue_ms > 0
    full = one.server.mean_batch_size >= _FULL_BATCH * model.max_batch_size
    if not delayed or full:
        return None
    return (
        f"The queue delay of the model, {number(model.max_queue_delay_us / 1e3)} ms, explains the wait, and batches do "
        "not fill: a shorter one would help (max_queue_delay_microseconds in its config.pbtxt)."
    )


def _shared_memory(case: Situation) -> str | None:
    one = case.measurement
    if one.bottleneck != "network" or not case.same_machine or one.transport != "grpc" or case.shared_memory:
        return None
    return "Client and server share this machine: --transport shared-memory keeps the audio out of the messages."


def _too_short(case: Situation) -> str | None:
    if runs_of(case.measurement)[0].steadiness != "too short":
        return None
    return (
        f"There were too few clips for a steady measurement ({number(case.measurement.measured_seconds)} s): the "
        "speed is rough. --repeat 2 measures it with the same clips sent again."
    )


def _not_steady(case: Situation) -> str | None:
    if runs_of(case.measurement)[0].steadiness != "not steady":
        return None
    rates = case.measurement.window_clips_per_s
    return (
        f"The throughput was not steady ({number(min(rates))} to {number(max(rates))} clips/s): something else ran on "
        "the machine, or it slows down as it warms; measure again when it is idle."
    )


def _late(case: Situation) -> str | None:
    worst = max(
        filter(_is_late, runs_of(case.measurement)[0].loads), key=lambda point: point.late_ms or 0.0, default=None
    )
    if worst is None:
        return None
    if worst.answered_per_s < _KEEPS_UP * (worst.rate or 0.0):
        return (
            f"At {number(worst.rate or 0.0)} clips/s only {number(worst.answered_per_s)} were answered: the rate is "
            "more than model and client keep up with, and the latency there grows as long as it lasts."
        )
    return (
        f"At {number(worst.rate or 0.0)} clips/s the client sent clips {number(worst.late_ms or 0.0)} ms late on "
        "average, which is part of the latency there: it was not ready in time, so more workers or cores would show "
        "the servers' own."
    )


def _is_late(point: LoadPoint) -> bool:
    return bool(point.late_ms and point.latency_ms and point.late_ms >= _LATE * point.latency_ms.p50)


def _stalls(case: Situation) -> str | None:
    one, model = case.measurement, case.model
    stalled = stalls_of(one)
    if not stalled:
        return None
    seen = f"{plural(stalled, 'request')} took half a second more than the others, though an execution is short"
    if model.max_queue_size is not None and model.instances == 1:
        return (
            f"{seen}: the bound on the model's queue ({plural(model.max_queue_size, 'request')}) stops Triton from "
            "taking requests ahead, and its batcher sleeps up to 500 ms when one comes at the wrong moment. Take "
            "default_queue_policy out of its config.pbtxt (arch export writes none unless --max-queue-size asks for "
            "it), or give it two instances. A shorter queue delay makes it worse."
        )
    return (
        f"{seen}: that is how it looks when Triton's batcher sleeps for 500 ms and nothing wakes it. No bound on the "
        "model's queue with a single instance explains it here: look for a timeout or priorities in the "
        "dynamic_batching of its config.pbtxt."
    )


RULES: tuple[Callable[[Situation], str | None], ...] = (
    _more_in_flight,
    _not_found,
    _no_more_helps,
    _no_core_free,
    _more_workers,
    _queue_delay,
    _shared_memory,
    _too_short,
    _not_steady,
    _late,
    _stalls,
)
"""In the order in which their sentences stand."""


def _whole(share: float) -> str:
    return f"{100 * share:.0f} %"
