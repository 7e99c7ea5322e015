"""The sending process as the one that measures sees it: started, given runs, ended whatever happens."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from multiprocessing import Pipe
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING

import numpy as np
from arch_common import interrupt
from arch_common.errors import ArchError
from arch_common.temporary import temporary_folder

from arch_harness.datasets.audio import DecodeError, load_clip
from arch_harness.load.logs import Part, read_part
from arch_harness.load.sending.messages import Ended, Lost, Order, Setup
from arch_harness.streaming.shared_memory import SharedClips

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from arch_harness.datasets.dataset import Dataset
    from arch_harness.results.measurement import Transport
    from arch_harness.streaming.wire import Job
    from arch_harness.triton.endpoint import Endpoint

_LOOK_S = 0.2
_MOST_SAMPLES = 2**27  # half a gigabyte; a process that sends holds them too


@dataclass(frozen=True)
class Clips:
    """Clips that were decoded, in a file.

    Attributes:
        file: of all samples, FP32, one clip behind the other.
        lengths: samples of each.
        sample_rate: in Hz.
        unreadable: files that gave no clip.
    """

    file: Path
    lengths: Sequence[int]
    sample_rate: int
    unreadable: int

    @property
    def seconds(self) -> list[float]:
        """Of each clip."""
        return [length / self.sample_rate for length in self.lengths]


@contextmanager
def decoded(dataset: Dataset, sample_rate: int, count: int, seed: int, note: Callable[[str], None]) -> Iterator[Clips]:
    """Clips of a dataset, drawn at random, decoded and each as long as it is, while the block lasts.

    Raises:
        ArchError: if none can be decoded, or there is no place for them.
    """
    with temporary_folder("arch-load-") as folder:
        path = folder / "clips.f32"
        try:
            lengths, problems = _decode(dataset, sample_rate, count, seed, path)
        except OSError as error:
            raise ArchError(f"cannot keep the decoded clips in {folder}: {error.strerror or error}") from error
        if not lengths:
            raise ArchError(f"{dataset.id}: no clip can be decoded: {problems[0]}")
        if problems:
            note(f"warning: {dataset.id}: {len(problems)} clips are left out; the first: {problems[0]}")
        yield Clips(path, lengths, sample_rate, len(problems))


def _decode(dataset: Dataset, sample_rate: int, count: int, seed: int, path: Path) -> tuple[list[int], list[str]]:
    """Write clips into a file: the samples of each, and what is wrong with those that are left out."""
    lengths: list[int] = []
    problems: list[str] = []
    with path.open("wb") as file:
        for index in np.random.default_rng(seed).permutation(len(dataset.clips)):
            if len(lengths) == count or sum(lengths) >= _MOST_SAMPLES:
                break
            interrupt.check()
            name = dataset.clips[index].path
            try:
                clip = load_clip(dataset.folder / name, sample_rate, dataset.declaration.max_seconds)
            except DecodeError as error:
                problems.append(f"{name} {error}")
                continue
            clip.tofile(file)
            lengths.append(len(clip))
    return lengths, problems


@contextmanager
def writing_logs(folder: Path) -> Iterator[None]:
    """Say in one line why LoadGen's logs cannot be written into a folder.

    Raises:
        ArchError: if the block cannot.
    """
    try:
        yield
    except OSError as error:
        raise ArchError(f"cannot write LoadGen's logs into {folder}: {error.strerror}") from error


class Driver:
    """A process that sends clips to servers; a context manager that ends it.

    Args:
        endpoints: the servers.
        job: the model.
        clips: decoded.
        transport: `shared-memory` has servers on this machine read the audio there.

    Raises:
        ArchError: on entry, if a server cannot read shared memory.
    """

    def __init__(self, endpoints: Sequence[Endpoint], job: Job, clips: Clips, transport: Transport = "grpc") -> None:
        self._setup = Setup(endpoints, job, clips.file, clips.lengths)
        self._shared = transport == "shared-memory"
        self._stack = ExitStack()
        self._process: subprocess.Popen[bytes] | None = None
        self._errors: IO[bytes] | None = None

    def __enter__(self) -> Driver:
        setup = self._setup
        if self._shared:
            # Held here, not by the process that sends, which is killed in the end.
            memory = SharedClips(setup.endpoints, setup.clips, setup.lengths)
            setup = replace(setup, shared=self._stack.enter_context(memory))
        self._connection, theirs = Pipe()
        self._errors = tempfile.TemporaryFile()
        command = [sys.executable, "-m", "arch_harness.load.sending.driver", str(theirs.fileno())]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=self._errors,
            pass_fds=[theirs.fileno()],
        )
        theirs.close()
        self._connection.send(setup)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            if self._process.stdin is not None:
                self._process.stdin.close()
        if self._errors is not None:
            self._errors.close()
        self._stack.__exit__(kind, value, trace)

    def run(self, order: Order) -> Ended:
        """Have LoadGen run once.

        Raises:
            ArchError: if a server is lost, the process ends, or its logs have no place.
        """
        with writing_logs(order.folder):
            order.folder.mkdir(parents=True, exist_ok=True)
        try:
            self._connection.send(order)
            while not self._connection.poll(_LOOK_S):
                interrupt.check()
            answer = self._connection.recv()
        except (EOFError, OSError) as error:
            raise ArchError(f"the process that sends has ended: {self._last_words()}") from error
        if isinstance(answer, Lost):
            raise ArchError(answer.reason)
        assert isinstance(answer, Ended)  # noqa: S101
        return answer

    def parts(self, order: Order) -> list[Part]:
        """Have LoadGen run once, and read what it wrote.

        Raises:
            ArchError: as `run`.
        """
        return [read_part(order.folder, self.run(order))]

    def _last_words(self) -> str:
        if self._process is None or self._errors is None:
            return "it was not started"
        code = self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"exit code {code}"
