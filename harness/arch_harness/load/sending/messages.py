"""What the process that measures and those that send tell each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from arch_harness.streaming.shared_memory import SharedPlaces
from arch_harness.streaming.wire import Job
from arch_harness.triton.endpoint import Endpoint


@dataclass(frozen=True)
class Setup:
    """What is sent, and where to.

    Attributes:
        endpoints: the servers; each clip goes to the one with the fewest requests under way.
        job: the model; its `max_seconds` does not count, each clip is sent as long as it is.
        clips: file of all samples, FP32, one clip behind the other.
        lengths: samples of each clip.
        shared: where the servers read the clips; None where each request holds its audio.
    """

    endpoints: Sequence[Endpoint]
    job: Job
    clips: Path
    lengths: Sequence[int]
    shared: SharedPlaces | None = None


@dataclass(frozen=True)
class Order:
    """One run.

    Attributes:
        scenario: as LoadGen names it.
        settings: fields of LoadGen's TestSettings.
        folder: for its logs.
        most_in_flight: requests under way at once; further ones wait here. None, as in an open loop, for no bound.
        begin: when to begin, in seconds since 1970 by the clock of the machine that sends; 0 for at once.
    """

    scenario: str
    settings: dict[str, float | int | bool]
    folder: Path
    most_in_flight: int | None
    begin: float = 0.0


@dataclass
class Ended:
    """What LoadGen does not know of a run.

    Attributes:
        failed: numbers of the samples that got no embedding, in the order in which they were issued.
        reasons: how often each reason was given.
        first: when the first was issued, in seconds since 1970 by the clock of the machine that sends.
    """

    failed: list[int] = field(default_factory=list)
    reasons: dict[str, int] = field(default_factory=dict)
    first: float = 0.0


@dataclass(frozen=True)
class Lost:
    """Why the servers must be given up."""

    reason: str
