"""What came of a few clips: embeddings with their times, and failures."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


Stage = Literal["decode", "infer"]


@dataclass
class Answer:
    """A clip that was embedded; times in milliseconds, as `Stages` and `Percentiles` define them.

    Attributes:
        index: position in the dataset.
        embedding: FP32 [1 + layers, embedding size]; row 0 is the embedding, the others are those of the layers.
        seconds: of audio, padding not counted.
        beyond_full_scale: whether it holds samples that were never scaled.
        server: position of the server that it came from.
        late_ms: from when it was due to when it was sent, part of the latency; 0 where it was due when it could be.
        sent_in: number of the window in which it was sent first.
        answered_in: number of the window in which it was answered.
    """

    index: int
    embedding: NDArray[np.float32]
    seconds: float
    beyond_full_scale: bool
    server: int
    decode_ms: float
    resample_ms: float
    wait_ms: float
    latency_ms: float
    late_ms: float
    sent_in: int
    answered_in: int = -1


@dataclass
class Chunk:
    """What came of a few clips.

    Attributes:
        answers: the clips that succeeded.
        failures: (index, stage, reason) of those that did not.
        lost: why the servers must be taken for gone; None while one answers.
    """

    answers: list[Answer] = field(default_factory=list)
    failures: list[tuple[int, Stage, str]] = field(default_factory=list)
    lost: str | None = None

    @property
    def embeddings(self) -> list[tuple[int, NDArray[np.float32]]]:
        """(index, FP32 [1 + layers, embedding size]) of each clip that succeeded."""
        return [(answer.index, answer.embedding) for answer in self.answers]

    @property
    def clips(self) -> int:
        """Clips that are done, in whichever way."""
        return len(self.answers) + len(self.failures)
