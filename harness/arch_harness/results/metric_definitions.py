"""The one table of metrics: what each number of a run is called, its unit, which way is better, and what it means.

The columns, explanations and axes of the reports, the columns of `LoadedRun.to_pandas()`, the descriptions in the JSON
schema and the tables of docs/results.md are made of it. Beside it stand the columns of words, `ATTRIBUTES`.
"""

from __future__ import annotations

from arch_harness.results.metric_kinds import ATTRIBUTES, Metric, MetricPair

_TABLE = (
    Metric(
        "score", "Score", "%", "higher",
        "Of a probe, a small classifier trained on the embeddings that the server returned, the linear one of the "
        "ARCH protocol unless another was asked for: accuracy, the share of test clips that it labels correctly, or "
        "for clips with several labels macro mAP, the average precision of each class averaged over the classes; the "
        "mean over folds and seeds.",
        "probe", ".1f",
    ),
    Metric(
        "score_std", "± seeds", "%", "lower",
        "Standard deviation of the score over seeds: what other initial weights and another clip order change.",
        "probe", ".1f",
    ),
    Metric(
        "score_low", "Low", "%", "higher",
        "Lower end of the score's 95 % bootstrap percentile interval.",
        "probe", ".1f",
    ),
    Metric("score_high", "High", "%", "higher", "Upper end of the score's 95 % interval.", "probe", ".1f"),
    Metric("fold_low", "Lowest fold", "%", "higher", "The lowest score of a single fold.", "probe", ".1f"),
    Metric("fold_high", "Highest fold", "%", "higher", "The highest score of a single fold.", "probe", ".1f"),
    Metric(
        "macro_f1", "Macro F1", "%", "higher",
        "F1 of each class, averaged over the classes with equal weight; mean over folds and seeds.",
        "probe", ".1f",
    ),
    Metric(
        "balanced_accuracy", "Balanced accuracy", "%", "higher",
        "Recall of each class, averaged over the classes with equal weight; mean over folds and seeds.",
        "probe", ".1f",
    ),
    Metric(
        "map_weighted", "Weighted mAP", "%", "higher",
        "Average precision of each class, averaged over the classes by their test clips; mean over folds and seeds.",
        "probe", ".1f",
    ),
    Metric(
        "chance", "Chance", "%", "",
        "For accuracy, the score of always answering with the most frequent class of the test clips; for mAP, the mean "
        "share of test clips that bear a class; mean over the folds.",
        "probe", ".1f",
    ),
    Metric(
        "best_layer", "Best layer", "", "",
        "The layer on which the linear probe scores highest, of several the lowest; 0 enters the first transformer "
        "layer. Unknown where not every layer was asked for.",
        "probe",
    ),
    Metric(
        "best_layer_score", "Its score", "%", "higher",
        "The linear probe's score on the best layer; as it is the highest on the test clips, it flatters the layer a "
        "little.",
        "probe", ".1f",
    ),
    Metric(
        "last_layer_score", "Last layer", "%", "higher", "The linear probe's score on the last layer.", "probe", ".1f"
    ),
    Metric(
        "weighted_sum_score", "Weighted sum", "%", "higher",
        "The linear probe's score on a learned weighted sum of all layers.", "probe", ".1f",
    ),
    Metric(
        "probe_seconds", "Time", "s", "lower",
        "Time to train and score the probe, all folds and seeds.", "probe", ",.1f",
    ),
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
        "Clips embedded per second while the servers are saturated, reading and decoding included: once it is steady, "
        "without the search for the requests in flight and without the phases at lower loads; the mean over the "
        "repeats, where there are any. Unknown, here and in the other columns of speed, where every embedding was read "
        "from the store and the speed of the pass that made them is not kept there.",
        "client",
    ),
    Metric(
        "rtfx", "RTFx", "", "higher",
        "Seconds of real audio embedded per second while the servers are saturated; padding that a clip was filled up "
        "with does not count as audio.",
        "client",
    ),
    Metric(
        "p50_ms", "p50", "ms", "lower",
        "Median latency of single-clip requests with the servers saturated, measured at the client from the moment "
        "that the decoded clip has a place in flight to receiving its embedding; attempts that failed and the pauses "
        "after them count. It grows with the requests in flight: compare models at equal loads.",
        "client",
    ),
    Metric("p95_ms", "p95", "ms", "lower", "95th percentile of the latency with the servers saturated.", "client"),
    Metric("p99_ms", "p99", "ms", "lower", "99th percentile of the latency with the servers saturated.", "client"),
    Metric("latency_ms", "Latency", "ms", "lower", "Mean of the latency with the servers saturated.", "client"),
    Metric(
        "concurrency", "In flight", "", "",
        "Places for single-clip requests under way, over all workers and servers, in the measured phase. Where it says "
        "'found', they were raised until the throughput stopped growing, and these are the last.",
        "client",
    ),
    Metric(
        "mean_concurrency", "Mean in flight", "", "",
        "The mean over time of the places in flight, in the measured phase.", "client",
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
        "usual_batch_size", "Usual batch", "clips", "", "Size of the executions that served the most requests.",
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
    Metric(
        "dropped", "Dropped", "times", "lower",
        "Times that a server was taken for dead and its clips went elsewhere.", "client",
    ),
    Metric("parameter_count", "Parameters", "", "", "Parameters of the model, those cut off included.", "export"),
    Metric(
        "parity_max_relative_error", "Parity error", "", "lower",
        "Measured at export against the source checkpoint on the same inputs: the largest relative difference of an "
        "embedding.",
        "export", ".1e",
    ),
    Metric(
        "parity_min_cosine", "Parity cosine", "", "higher",
        "Measured as the parity error is: the smallest cosine similarity of an embedding to the original's; 1 is "
        "identical in direction.",
        "export", ".6f",
    ),
    Metric(
        "max_batch_size", "Max batch", "clips", "", "The largest batch of Triton's dynamic batching.", "configuration"
    ),
    Metric(
        "max_queue_delay_us", "Queue delay", "µs", "",
        "How long Triton's dynamic batching may let a request wait for others to join.", "configuration",
    ),
    Metric(
        "max_queue_size", "Queue bound", "requests", "",
        "How many requests may wait in the server; more are refused. Unknown where there is no bound.", "configuration",
    ),
    Metric(
        "instances", "Instances", "", "",
        "Of the model, which execute side by side: so many seconds of execution fit into one.", "configuration",
    ),
    Metric(
        "alone_p50_ms", "p50 alone", "ms", "lower",
        "Median latency with one request in flight, the next sent when it is answered.", "client",
    ),
    Metric("alone_p95_ms", "p95 alone", "ms", "lower", "95th percentile with one request in flight.", "client"),
    Metric(
        "alone_p99_ms", "p99 alone", "ms", "lower",
        "99th percentile with one request in flight; unknown for fewer than 100 requests.", "client",
    ),
    Metric(
        "paced_rate", "70 % load", "clips/s", "",
        "The rate of the paced load: 70 % of the model's own clips/s, sent at random moments (a Poisson process) "
        "whatever is answered.",
        "client",
    ),
    Metric(
        "paced_p50_ms", "p50 at 70 %", "ms", "lower",
        "Median latency at the paced load, from the moment that a clip is due.", "client",
    ),
    Metric("paced_p95_ms", "p95 at 70 %", "ms", "lower", "95th percentile at the paced load.", "client"),
    Metric(
        "paced_p99_ms", "p99 at 70 %", "ms", "lower",
        "99th percentile at the paced load; unknown for fewer than 100 requests.", "client",
    ),
    Metric(
        "equal_rate", "Equal rate", "clips/s", "",
        "A rate at which every model on the dataset is measured, so that their latencies can be compared: the one that "
        "was asked for, or else 70 % of the clips/s of the slowest.",
        "client",
    ),
    Metric("equal_p50_ms", "p50, equal rate", "ms", "lower", "Median latency at the equal rate.", "client"),
    Metric("equal_p95_ms", "p95, equal rate", "ms", "lower", "95th percentile at the equal rate.", "client"),
    Metric(
        "equal_p99_ms", "p99, equal rate", "ms", "lower",
        "99th percentile at the equal rate; unknown for fewer than 100 requests.", "client",
    ),
    Metric(
        "late_ms", "Late", "ms", "lower",
        "Mean time, part of the latency, by which clips were sent after they were due, where they are sent at a rate: "
        "the client was not ready.",
        "client",
    ),
    Metric(
        "stalls", "Stalls", "", "lower",
        "Requests that took about half a second more than the usual one though the model's executions are short: "
        "Triton's batcher slept.",
        "client",
    ),
    Metric(
        "speed_runs", "Runs", "", "",
        "Measurements of the speed, of which clips/s and latencies are the mean.", "client",
    ),
    Metric(
        "beyond_full_scale", "Beyond full scale", "", "",
        "Clips of those that were embedded in this run with samples beyond 4, where full scale is 1: files of "
        "floating-point samples that were never scaled. They are sent as they are, as the ARCH protocol has it.",
        "client",
    ),
    Metric(
        "memory_mib", "Peak memory", "MiB", "lower",
        "The most memory that the server's processes which run the model had resident since they started, those of all "
        "its instances together; neither Triton's own process nor a GPU's memory. Known where the backend of arch runs "
        "it.",
        "operating system",
    ),
    Metric(
        "disk_mib", "On disk", "MiB", "lower", "Size of the model's files that the server loaded.", "operating system"
    ),
    Metric(
        "load_seconds", "Load time", "s", "lower",
        "Time that an instance took to read the graph and to optimise it for the machine; the longest of them.",
        "operating system", ".1f",
    ),
    Metric(
        "price_per_million_clips", "Price per 1M clips", "", "lower",
        "Of a million such clips, at the price of an hour that was given for all servers together, with the servers "
        "saturated all the time.", "client",
    ),
    Metric(
        "price_per_1000_hours", "Price per 1,000 h", "", "lower", "Of 1,000 hours of such audio, likewise.", "client"
    ),
    Metric(
        "joules_per_clip", "Energy per clip", "J", "lower",
        "Mean power while the servers are saturated, less the power of the same hardware with nothing in flight, over "
        "clips/s. It is of the hardware that is named beside it (energy_source), whoever uses that, and of nothing "
        "else in the machines.",
        "operating system",
    ),
    Metric(
        "mean_power_w", "Power", "W", "lower",
        "Mean power of that hardware while the servers are saturated, the idle power included.", "operating system",
    ),
    Metric(
        "idle_power_w", "Idle power", "W", "",
        "Its mean power over some seconds before the run's first clip, with the models loaded and nothing in flight.",
        "operating system",
    ),
    Metric(
        "gpu_memory_mib", "Peak GPU memory", "MiB", "lower",
        "The most memory that was taken of all GPUs of the servers together while they were saturated, by whatever "
        "model or program.",
        "operating system",
    ),
    Metric(
        "server_memory_mib", "Server memory", "MiB", "lower",
        "The most memory that tritonserver and its child processes had resident while it was saturated, with all its "
        "models, pages that processes share counted for each. Known where every server runs on the client's machine as "
        "the same user.",
        "operating system",
    ),
    Metric("threads", "Threads", "", "", "Of one operator; unknown where the server chooses.", "configuration"),
)  # fmt: skip

METRICS: dict[str, Metric] = {metric.id: metric for metric in _TABLE}

METRIC_PAIRS: dict[str, MetricPair] = {
    pair.id: pair
    for pair in (
        MetricPair(
            "interval", "95 % interval", "%", "score_low", "score_high", "–",
            "The score's bootstrap percentile interval: what another draw of test clips would change or, where a "
            "dataset has several folds, another draw of folds and of clips within them. Few folds make it rough.",
        ),
        MetricPair(
            "fold_range", "Folds", "%", "fold_low", "fold_high", "–",
            "The lowest and the highest score of a single fold.",
        ),
        MetricPair(
            "batch_sizes", "Batch sizes", "", "mean_batch_size", "usual_batch_size", ", mostly ",
            "The mean over the executions, and the size of the executions that served the most requests.",
        ),
    )
}  # fmt: skip


def meaning(identifier: str, more: str = "") -> str:
    """What a metric, a pair of them or an attribute means, for the description of a field.

    Args:
        identifier: of the metric, pair or attribute.
        more: a sentence on what is special in this place.
    """
    found = METRICS.get(identifier) or METRIC_PAIRS.get(identifier) or ATTRIBUTES[identifier]
    return f"{found.meaning} {more}".rstrip()
