"""What LoadGen writes of a run: its settings, its judgement, and every sample's times."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from arch_common.errors import ArchError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from arch_harness.load.sending.messages import Ended

DETAIL, SUMMARY, TRACE = "mlperf_log_detail.txt", "mlperf_log_summary.txt", "mlperf_log_trace.json"

_MARK = ":::MLLOG "
# The trace is no JSON as it stands: strings in it are quoted twice.
_SAMPLE = re.compile(
    r'"name":"Sample".*?"ph": ?"b".*?"ts":(-?[\d.]+).*?"sample_seq":(\d+),"query_seq":(\d+),"sample_idx":(\d+),'
    r'"issue_start_ns":(-?\d+),"complete_ns":(-?\d+)'
)


@dataclass(frozen=True)
class Log:
    """LoadGen's detail log.

    Attributes:
        values: by key, the last of each.
        errors: its messages of errors.
    """

    values: dict[str, Any]
    errors: list[str]

    def settings(self, kind: str) -> dict[str, Any]:
        """The settings, `requested` or `effective`, by their names without that word."""
        return {key.removeprefix(f"{kind}_"): value for key, value in self.values.items() if key.startswith(f"{kind}_")}


@dataclass(frozen=True)
class SampleTimes:
    """Every sample of a run, in the order in which they were issued; times in ms.

    Attributes:
        scheduled: since the run began.
        query: number of its query.
        clip: which was sent.
        issued: from the scheduled moment until LoadGen handed it over.
        done: from the scheduled moment until the answer.
    """

    scheduled: NDArray[np.float64]
    query: NDArray[np.int64]
    clip: NDArray[np.int64]
    issued: NDArray[np.float64]
    done: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.done)

    @property
    def seconds(self) -> float:
        """From the first scheduled moment to the last answer."""
        return float((self.scheduled + self.done).max() - self.scheduled.min()) / 1e3

    def latencies(self, failed: NDArray[np.bool_]) -> NDArray[np.float64]:
        """A latency in ms for each query, sorted: that of its last answer; infinite where one failed."""
        done = np.where(failed, np.inf, self.done)
        _, place = np.unique(self.query, return_inverse=True)
        latest = np.zeros(place.max() + 1)
        np.maximum.at(latest, place, done)
        return np.sort(latest)


def read_log(folder: Path) -> Log:
    """Read the detail log in a folder.

    Raises:
        ArchError: if there is none that LoadGen finished.
    """
    values: dict[str, Any] = {}
    errors = []
    try:
        lines = (folder / DETAIL).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise ArchError(f"LoadGen left no log in {folder}: {error.strerror}") from error
    for line in lines:
        try:
            entry = json.loads(line.removeprefix(_MARK))
        except ValueError:
            continue  # a message of several lines, which names no value
        values[entry["key"]] = entry["value"]
        if entry.get("metadata", {}).get("is_error"):
            errors.append(f"{entry['key']}: {entry['value']}")
    if "result_validity" not in values:
        raise ArchError(f"LoadGen did not finish: {folder / DETAIL} tells no result")
    return Log(values, errors)


def read_samples(folder: Path) -> SampleTimes:
    """Read every sample's times from the trace in a folder.

    Raises:
        ArchError: if it holds none.
    """
    try:
        text = (folder / TRACE).read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise ArchError(f"LoadGen left no trace in {folder}: {error.strerror}") from error
    found = [match.groups() for match in map(_SAMPLE.search, text.splitlines()) if match]
    if not found:
        raise ArchError(f"LoadGen's trace in {folder} holds no sample")
    # SampleTimes are numbered as they are issued, and logged as they are answered.
    rows = np.array(sorted(found, key=lambda row: int(row[1])), dtype=np.float64)
    return SampleTimes(
        rows[:, 0] / 1e3, rows[:, 2].astype(int), rows[:, 3].astype(int), rows[:, 4] / 1e6, rows[:, 5] / 1e6
    )


@dataclass(frozen=True)
class Part:
    """What one process sent of a run, and what its LoadGen judges of it.

    Attributes:
        log: LoadGen's.
        samples: that it sent.
        failed: which of them got no embedding.
        reasons: how often each reason was given.
        began: from when the samples' times count, in seconds since 1970: LoadGen has its queries to make then.
    """

    log: Log
    samples: SampleTimes
    failed: NDArray[np.bool_]
    reasons: dict[str, int]
    began: float

    @property
    def first(self) -> float:
        """When its first query was due, likewise: LoadGen's schedule begins with it."""
        return self.began + float(self.samples.scheduled[0]) / 1e3


def read_part(folder: Path, ended: Ended) -> Part:
    """Read a run that has ended from LoadGen's logs in a folder; those of single samples, which are long, are deleted.

    Raises:
        ArchError: if LoadGen did not finish it.
    """
    log, samples = read_log(folder), read_samples(folder)
    (folder / TRACE).unlink()
    (folder / "mlperf_log_accuracy.json").unlink(missing_ok=True)
    failed = np.zeros(len(samples), dtype=np.bool_)
    failed[ended.failed] = True
    began = ended.first - float(samples.scheduled[0] + samples.issued[0]) / 1e3
    return Part(log, samples, failed, ended.reasons, began)


def merged(parts: Sequence[Part]) -> tuple[SampleTimes, NDArray[np.bool_]]:
    """The samples of all parts of a run as one's, in the time of the first that began; and which of them failed."""
    if len(parts) == 1:
        return parts[0].samples, parts[0].failed
    first = min(part.began for part in parts)
    scheduled = [part.samples.scheduled + 1e3 * (part.began - first) for part in parts]
    queries, before = [], 0
    for part in parts:
        queries.append(part.samples.query + before)
        before = int(queries[-1].max()) + 1
    samples = SampleTimes(
        np.concatenate(scheduled),
        np.concatenate(queries),
        *(np.concatenate([getattr(part.samples, name) for part in parts]) for name in ("clip", "issued", "done")),
    )
    return samples, np.concatenate([part.failed for part in parts])


def percentile(latencies: NDArray[np.float64], share: float) -> float:
    """As LoadGen takes it: of n sorted latencies the one at n times the share, rounded down."""
    return float(latencies[min(len(latencies) - 1, int(len(latencies) * share))])
