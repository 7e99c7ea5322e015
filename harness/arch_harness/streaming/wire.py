"""One clip's request to Triton and its answer, close to the wire: what is spent here is spent on every clip."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import grpc
import numpy as np
from tritonclient.grpc import service_pb2

from arch_harness.datasets.preprocessing import USUAL, Preprocessing

if TYPE_CHECKING:
    from numpy.typing import NDArray

INFER = "/inference.GRPCInferenceService/ModelInfer"

Trouble = Literal["queue_full", "unreachable", "cut_off", "stopping", "timed_out", "shared_memory_lost", "refused"]
"""Why an attempt gave no answer.

queue_full: the server has more than it takes; it works.
unreachable: no connection.
cut_off: the connection broke under the request.
stopping: the server is being stopped and takes nothing on.
timed_out: no answer within the time limit, ours or the server's own for requests in its queue.
shared_memory_lost: it knows the shared memory no longer, so it was restarted.
refused: anything else; another attempt there would give the same.
"""


@dataclass(frozen=True)
class Job:
    """What is the same for all clips of one model on one dataset."""

    model: str
    folder: Path
    sample_rate: int
    max_seconds: float
    embedding_size: int
    layers: int
    """Rows of the output `layer_embeddings` to ask for; 0 does not ask for it."""
    max_batch_size: int
    """Of the server's dynamic batching."""
    preprocessing: Preprocessing = USUAL
    """What is done to a clip before it is sent."""

    @property
    def samples(self) -> int:
        """Of a clip as sent, padding included."""
        return round(self.max_seconds * self.sample_rate)

    @property
    def outputs(self) -> dict[str, tuple[int, ...]]:
        """The outputs to ask for, with the shapes that they must have."""
        outputs: dict[str, tuple[int, ...]] = {"embedding": (1, self.embedding_size)}
        if self.layers:
            outputs["layer_embeddings"] = (1, self.layers, self.embedding_size)
        return outputs


class MalformedError(Exception):
    """An answer without a finite embedding of the right shape; the message says what is wrong."""


@functools.lru_cache(maxsize=4096)
def request_head(job: Job, region: str | None = None, start: int = 0) -> bytes:
    """The serialised request of a clip, but for its audio.

    Args:
        job: what is asked for.
        region: name of the registered shared memory that holds the audio and, after it, the number of samples. None
            where `request_tail` is to follow.
        start: of the audio in it, in bytes, a multiple of 8.
    """
    request = service_pb2.ModelInferRequest(model_name=job.model)
    offset = start
    for name, datatype, size, itemsize in (("waveform", "FP32", job.samples, 4), ("num_samples", "INT64", 1, 8)):
        tensor = request.inputs.add(name=name, datatype=datatype, shape=[1, size])
        if region is not None:
            tensor.parameters["shared_memory_region"].string_param = region
            tensor.parameters["shared_memory_byte_size"].int64_param = size * itemsize
            tensor.parameters["shared_memory_offset"].int64_param = offset
            offset += -(-size * itemsize // 8) * 8
    for name in job.outputs:
        request.outputs.add(name=name)
    serialised: bytes = request.SerializeToString()
    return serialised


# Field 7, raw_input_contents, as a run of bytes.
_RAW = bytes([7 << 3 | 2])


def request_body(head: bytes, waveform: NDArray[np.float32], num_samples: int) -> bytes:
    """A whole request: `head`, then the audio FP32 [samples], padding included, of which `num_samples` are audio.

    Protocol buffers that are joined are one message, and the later repeated fields follow the earlier. That saves the
    two copies of the audio which building the message would make.
    """
    audio = waveform.data.cast("B")
    return b"".join((head, _RAW, _varint(len(audio)), audio, _RAW, _varint(8), num_samples.to_bytes(8, "little")))


def _varint(number: int) -> bytes:
    digits = bytearray()
    while number > 0x7F:
        digits.append(number & 0x7F | 0x80)
        number >>= 7
    digits.append(number)
    return bytes(digits)


def read_answer(job: Job, message: bytes) -> NDArray[np.float32]:
    """The embedding and those of the layers in a serialised answer: FP32 [1 + layers, embedding size].

    Raises:
        MalformedError: if one is missing, has another shape or type, or holds NaN or infinity.
    """
    try:
        answer = service_pb2.ModelInferResponse.FromString(message)
        found = dict(zip((tensor.name for tensor in answer.outputs), answer.raw_output_contents, strict=True))
    except Exception as error:  # what protobuf raises depends on its implementation
        raise MalformedError(f"the server's answer cannot be read: {error}") from error
    described = {tensor.name: tensor for tensor in answer.outputs}
    rows = np.empty((1 + job.layers, job.embedding_size), dtype=np.float32)
    start = 0
    for name, shape in job.outputs.items():
        tensor = described.get(name)
        if tensor is None or tuple(tensor.shape) != shape or tensor.datatype != "FP32":
            got = "nothing" if tensor is None else f"{tensor.datatype} {list(tensor.shape)}"
            raise MalformedError(f"the server answered {got} for {name}, not FP32 {list(shape)}")
        values = np.frombuffer(found[name], dtype="<f4") if len(found[name]) % 4 == 0 else np.empty(0)
        if values.size != np.prod(shape):
            raise MalformedError(f"the server's answer cannot be read: {len(found[name])} bytes for {name}")
        count = values.size // job.embedding_size
        rows[start : start + count] = values.reshape(count, job.embedding_size)
        start += count
    if not np.isfinite(rows).all():
        raise MalformedError("the embedding holds NaN or infinity")
    return rows


def classify(code: grpc.StatusCode, words: str) -> Trouble:
    """What an error of the call means for the clip and for the server. Triton's words were read in its 2.51 sources."""
    if "shared memory region" in words:
        return "shared_memory_lost"
    if code is grpc.StatusCode.UNAVAILABLE:
        if "Exceeds maximum queue size" in words:
            return "queue_full"
        if "Request timeout expired" in words:  # the server's own limit on the time in its queue
            return "timed_out"
        if "stopping" in words or "stopped accepting" in words:
            return "stopping"
        # Which words the client library has for it depends on the system; "connect" stands in all of them.
        return "unreachable" if "onnect" in words and "reset" not in words else "cut_off"
    if code is grpc.StatusCode.CANCELLED:
        return "cut_off"
    return "timed_out" if code is grpc.StatusCode.DEADLINE_EXCEEDED else "refused"
