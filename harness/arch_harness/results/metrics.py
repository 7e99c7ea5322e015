"""The one table of metrics: what each number of a run is called, its unit, which way is better, and what it means.

The columns of the reports and of `LoadedRun.to_pandas()`, the descriptions in the JSON schema and docs/results.md are
made of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Metric:
    """One number.

    Attributes:
        id: its name in data frames, and where it stands in `results.json`, there too.
        header: its name in tables.
        unit: in tables; `%` is stored as a share, from 0 to 1.
        better: which way is better; empty where neither is.
        meaning: one sentence, or two.
        source: who measured it.
    """

    id: str
    header: str
    unit: str
    better: Literal["higher", "lower", ""]
    meaning: str
    source: Literal["probe", "client", "Triton's statistics", "operating system", "export", "configuration"]

    @property
    def label(self) -> str:
        """Header and unit in one line, for a drawing's axis."""
        return f"{self.header} ({self.unit})" if self.unit else self.header


_TABLE = (
    Metric(
        "score", "Score", "%", "higher",
        "Of a probe, a small classifier trained on the embeddings that the server returned: accuracy, the share of "
        "test clips that it labels correctly, or for clips with several labels macro mAP, the average precision of "
        "each class averaged over the classes; the mean over folds and seeds.",
        "probe",
    ),
    Metric(
        "score_std", "± seeds", "%", "lower",
        "Standard deviation of the score over seeds: what other initial weights and another clip order change.",
        "probe",
    ),
    Metric(
        "score_low", "Low", "%", "higher",
        "Lower end of the 95 % bootstrap percentile interval of the score: what another draw of test clips would "
        "change or, where a dataset has several folds, another draw of folds and of clips within them. Few folds make "
        "it rough.",
        "probe",
    ),
    Metric("score_high", "High", "%", "higher", "Upper end of the 95 % interval of the score.", "probe"),
    Metric("fold_low", "Lowest fold", "%", "higher", "The lowest score of a single fold.", "probe"),
    Metric("fold_high", "Highest fold", "%", "higher", "The highest score of a single fold.", "probe"),
    Metric(
        "macro_f1", "Macro F1", "%", "higher",
        "F1 of each class, averaged over the classes with equal weight; mean over folds and seeds.",
        "probe",
    ),
    Metric(
        "balanced_accuracy", "Balanced accuracy", "%", "higher",
        "Recall of each class, averaged over the classes with equal weight; mean over folds and seeds.",
        "probe",
    ),
    Metric(
        "map_weighted", "Weighted mAP", "%", "higher",
        "Average precision of each class, averaged over the classes by their test clips; mean over folds and seeds.",
        "probe",
    ),
    Metric(
        "chance", "Chance", "%", "",
        "For accuracy, the score of always answering with the most frequent class of the test clips; for mAP, the mean "
        "share of test clips that bear a class; mean over the folds.",
        "probe",
    ),
    Metric("probe_seconds", "Time", "s", "lower", "Time to train and score the probe, all folds and seeds.", "probe"),
    Metric("clips", "Clips", "", "", "Clips of the dataset, failed ones included.", "client"),
    Metric(
        "failed", "Failed", "", "lower", "Clips that gave no embedding; such a clip takes part in no score.", "client"
    ),
    Metric(
        "stored", "Stored", "", "",
        "Clips whose embedding came from the store instead of the measured pass.", "client",
    ),
    Metric(
        "clips_per_s", "Clips/s", "", "higher",
        "Clips embedded per second of wall time, from the first clip read to the last embedding received; reading and "
        "decoding count. Unknown where every embedding was read from the store: nothing was measured.",
        "client",
    ),
    Metric(
        "rtfx", "RTFx", "", "higher",
        "Seconds of real audio embedded per second of that wall time; padding that a clip was filled up with does not "
        "count as audio.",
        "client",
    ),
    Metric(
        "p50_ms", "p50", "ms", "lower",
        "Median latency of single-clip requests, measured at the client from the moment that the decoded clip has a "
        "place in flight to receiving its embedding; attempts that failed and the pauses after them count.",
        "client",
    ),
    Metric("p95_ms", "p95", "ms", "lower", "95th percentile of that latency.", "client"),
    Metric("p99_ms", "p99", "ms", "lower", "99th percentile of that latency.", "client"),
    Metric("latency_ms", "Latency", "ms", "lower", "Mean of that latency.", "client"),
    Metric(
        "concurrency", "In flight", "", "",
        "Places for single-clip requests under way, over all workers and servers, at the end; 'found' says that they "
        "were raised until the throughput stopped growing.",
        "client",
    ),
    Metric(
        "mean_concurrency", "Mean in flight", "", "",
        "The mean over time of the places in flight: where they are found, they begin low.", "client",
    ),
    Metric("decode_ms", "Decode", "ms", "lower", "A clip's mean time for reading and decoding its file.", "client"),
    Metric("resample_ms", "Resample", "ms", "lower", "A clip's mean time for resampling.", "client"),
    Metric(
        "wait_ms", "Wait", "ms", "",
        "A clip's mean time in a worker, decoded, waiting for a free place in flight.", "client",
    ),
    Metric(
        "network_ms", "Network", "ms", "lower",
        "The mean latency less queue and compute: both ways between client and server, making and taking apart the "
        "messages, and back-off after a refusal. Unknown where the counters of a server are lost.",
        "client",
    ),
    Metric(
        "queue_ms", "Queue", "ms", "lower", "Mean time that a request waited in the server's queue.",
        "Triton's statistics",
    ),
    Metric(
        "compute_ms", "Compute", "ms", "lower",
        "Mean time of a request's input, inference and output in the server, that of its whole batch included.",
        "Triton's statistics",
    ),
    Metric(
        "mean_batch_size", "Batch", "mean", "",
        "Mean number of clips that Triton's dynamic batching put into one execution of the model.",
        "Triton's statistics",
    ),
    Metric(
        "in_flight_taken", "Taken", "%", "", "Share of the places in flight that were taken, on average.", "client"
    ),
    Metric(
        "decoding_busy", "Decoding", "%", "",
        "Share of the time of the workers' threads that went into reading, decoding and resampling.", "client",
    ),
    Metric(
        "server_busy", "Server busy", "%", "",
        "Share of the time in which the model's instances executed.", "Triton's statistics",
    ),
    Metric(
        "client_cores", "Client", "cores", "lower",
        "Cores of this machine that driver and workers kept busy, on average; workers on other machines are not among "
        "them.",
        "operating system",
    ),
    Metric(
        "machine_cores", "Machine", "cores", "",
        "Cores of this machine that anything kept busy, on average.", "operating system",
    ),
    Metric(
        "gpu_busy", "GPU", "%", "",
        "Share of the time in which the servers' GPUs computed, the mean over GPUs, from Triton's metrics or the "
        "driver; unknown where there is none or it cannot be read.",
        "operating system",
    ),
    Metric("retries", "Retries", "", "lower", "Attempts beyond a clip's first.", "client"),
    Metric("queue_full", "Queue full", "", "lower", "Attempts refused because the server's queue was full.", "client"),
    Metric(
        "unreachable", "Unreachable", "", "lower",
        "Attempts without a connection: the server is not there, or not yet.", "client",
    ),
    Metric(
        "cut_off", "Cut off", "", "lower",
        "Attempts whose connection broke under the request: the server died.", "client",
    ),
    Metric("stopping", "Stopping", "", "lower", "Attempts refused because the server was being stopped.", "client"),
    Metric("timed_out", "Timed out", "", "lower", "Attempts without an answer within their time limit.", "client"),
    Metric(
        "late", "Late answers", "", "lower", "Answers that came after their attempt had been given up.", "client"
    ),
    Metric(
        "refused", "Refused", "", "lower",
        "Attempts that ended in any other error of the server: made once more, at another one if there is.", "client",
    ),
    Metric(
        "malformed", "Malformed", "", "lower",
        "Answers without a finite embedding of the right shape; such a clip has failed.", "client",
    ),
    Metric(
        "workers_lost", "Workers lost", "", "lower", "Worker processes that died and were replaced.", "client"
    ),
    Metric("parameter_count", "Parameters", "", "", "Parameters of the model, those cut off included.", "export"),
    Metric(
        "parity_max_relative_error", "Parity error", "", "lower",
        "Measured at export against the source checkpoint on the same inputs: the largest relative difference of an "
        "embedding.",
        "export",
    ),
    Metric(
        "parity_min_cosine", "Parity cosine", "", "higher",
        "Measured likewise: the smallest cosine similarity of an embedding to the original's; 1 is identical in "
        "direction.",
        "export",
    ),
    Metric(
        "max_batch_size", "Max batch", "clips", "", "The largest batch of Triton's dynamic batching.", "configuration"
    ),
    Metric(
        "max_queue_delay_us", "Queue delay", "µs", "",
        "How long Triton's dynamic batching may let a request wait for others to join.", "configuration",
    ),
)  # fmt: skip

METRICS: dict[str, Metric] = {metric.id: metric for metric in _TABLE}


def meaning(identifier: str) -> str:
    """What a metric means, for the description of a field."""
    return METRICS[identifier].meaning
