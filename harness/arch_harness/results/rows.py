"""A run as rows, one for each model, dataset and probe: what data frames and tables are made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from arch_harness.results.metric_definitions import METRICS
from arch_harness.results.metric_kinds import ATTRIBUTES
from arch_harness.results.price import prices
from arch_harness.results.repeats import (
    LATENCIES,
    POWER_FIGURES,
    is_of_this_hardware,
    mean_of,
    point_of,
    powered_run,
    rtfx_of,
    runs_of,
    stalls_of,
)

if TYPE_CHECKING:
    from arch_harness.results.measurement import Measurement, ServerTimes
    from arch_harness.results.run import DatasetFacts, Footprint, ModelFacts, Result, Run
    from arch_harness.results.scores import LayerScores, ProbeScore

_OF_MODEL = (
    "precision",
    "executed_by",
    "parameter_count",
    "parity_max_relative_error",
    "parity_min_cosine",
    "max_batch_size",
    "max_queue_delay_us",
    "max_queue_size",
    "instances",
    "threads",
)
_OF_PROBE = ("macro_f1", "balanced_accuracy", "map_weighted")
_OF_STAGES = ("latency_ms", "decode_ms", "resample_ms", "wait_ms", "network_ms", "queue_ms", "compute_ms")
_OF_FAULTS = (
    *("retries", "queue_full", "unreachable", "cut_off", "stopping", "timed_out", "late", "refused", "malformed"),
    "workers_lost",
)

COLUMNS = (*ATTRIBUTES, *METRICS)
"""The columns of a row, in their order; new ones may come behind, none is renamed."""


def rows(run: Run) -> list[dict[str, Any]]:
    """Of all results, in their order; a value that is not known is None.

    The speed of a model on a dataset is repeated in the row of each probe.
    """
    return [row_of(run, result, probe) for result in run.results for probe in (result.probes or (None,))]


def row_of(run: Run, result: Result, probe: ProbeScore | None = None) -> dict[str, Any]:
    """A row with all that a run knows of a result: the model, the dataset, what the server takes, prices.

    Args:
        run: of which it is.
        result: of a model and dataset.
        probe: as for `row`.
    """
    model = next(one for one in run.models if one.name == result.model)
    dataset = next(one for one in run.datasets if one.id == result.dataset)
    found = row(result, probe, model, dataset)
    for footprint in run.footprints:
        if footprint.model == result.model:
            found |= footprint_row(footprint)
    # The price is of the run's servers: of a speed that was carried over from other hardware it says nothing.
    if run.settings.price and result.measurement is not None and is_of_this_hardware(run, result):
        found |= prices(result.measurement, run.settings.price)
    return found


def row(
    result: Result, probe: ProbeScore | None, model: ModelFacts | None = None, dataset: DatasetFacts | None = None
) -> dict[str, Any]:
    """The values of one row by column, as they are stored: shares from 0 to 1, times in the metric's unit.

    Args:
        result: of a model and dataset.
        probe: one of its probes; None takes the headline that the result repeats.
        model: its facts, if they are wanted.
        dataset: likewise.
    """
    found: dict[str, Any] = dict.fromkeys(COLUMNS)
    found |= {"model": result.model, "dataset": result.dataset, "score_metric": result.metric}
    found |= {"chance": result.chance, "clips": result.clips, "failed": result.failed, "stored": result.stored}
    found |= _score(result, probe)
    if result.layers is not None:
        found |= layer_row(result.layers)
    if model is not None:
        found |= model_row(model)
    if dataset is not None:
        found["incomplete"] = dataset.incomplete
    if result.measurement is not None:
        found |= speed(result.measurement)
    if result.carried is not None:
        found["carried_from"] = result.carried.started.isoformat(timespec="seconds")
    return found


def model_row(model: ModelFacts) -> dict[str, Any]:
    """What the export and the server say of a model, by column."""
    return {name: getattr(model, name) for name in _OF_MODEL}


def footprint_row(footprint: Footprint) -> dict[str, Any]:
    """What a model takes of its server, by column."""
    return footprint.model_dump(exclude={"model"})


def layer_row(scores: LayerScores) -> dict[str, Any]:
    """How the layers of a model score, by column."""
    return {
        "best_layer": scores.best.layer,
        "best_layer_score": scores.best.score,
        "last_layer_score": scores.layers[-1].score,
        "weighted_sum_score": scores.weighted_sum,
    }


def _score(result: Result, probe: ProbeScore | None) -> dict[str, Any]:
    one = probe or result
    folds = [fold.score for fold in one.folds]
    found: dict[str, Any] = {
        "probe": probe.probe if probe else None,
        "trained_on": probe.trained_on if probe else None,
        "score": one.score,
        "score_std": one.std,
        "score_low": one.interval.low if one.interval else None,
        "score_high": one.interval.high if one.interval else None,
        "fold_low": min(folds, default=None),
        "fold_high": max(folds, default=None),
        "macro_f1": one.macro_f1,
        "probe_seconds": probe.seconds if probe else result.probe_seconds,
    }
    return found | ({name: getattr(probe, name) for name in _OF_PROBE} if probe else {})


def speed(measurement: Measurement) -> dict[str, Any]:
    """What was measured on the way through the servers, by column."""
    found: dict[str, Any] = {
        "transport": measurement.transport,
        "bottleneck": measurement.bottleneck,
        "concurrency_found": measurement.concurrency_found,
        "steadiness": runs_of(measurement)[0].steadiness,
        "speed_runs": len(runs_of(measurement)),
        "stalls": stalls_of(measurement),
        "clips_per_s": mean_of(measurement, "clips_per_s"),
        "rtfx": rtfx_of(measurement),
        "concurrency": measurement.concurrency,
        "mean_concurrency": measurement.mean_concurrency,
        "dropped": sum(server.dropped for server in measurement.servers),
        "beyond_full_scale": measurement.beyond_full_scale,
        **{name: getattr(measurement.faults, name) for name in _OF_FAULTS},
        **measurement.use(),
        **{figure: mean_of(measurement, figure) for figure in LATENCIES},
    }
    found |= consumption_row(measurement)
    paced, equal = point_of(measurement, "paced"), point_of(measurement, "equal rate")
    found |= {"paced_rate": paced.rate if paced else None, "equal_rate": equal.rate if equal else None}
    found["late_ms"] = paced.late_ms if paced else None
    if measurement.stages is not None:
        found |= {name: getattr(measurement.stages, name) for name in _OF_STAGES}
    if measurement.server is not None:
        found |= server_row(measurement.server)
    if measurement.occupancy is not None:
        full = measurement.occupancy
        found |= {"in_flight_taken": full.in_flight, "decoding_busy": full.decoding, "server_busy": full.server}
    return found


def consumption_row(measurement: Measurement) -> dict[str, Any]:
    """Energy, power and memory, by column: power as the mean over the runs, of memory the most."""
    taken = [run.consumption for run in runs_of(measurement) if run.consumption is not None]
    shown = powered_run(measurement).consumption
    found: dict[str, Any] = {figure: mean_of(measurement, figure) for figure in POWER_FIGURES}
    for name in ("gpu_memory_mib", "server_memory_mib"):
        found[name] = max((value for one in taken if (value := getattr(one, name)) is not None), default=None)
    return found | {"energy_source": shown.source if shown else "not told: measured by an earlier arch"}


def server_row(times: ServerTimes) -> dict[str, Any]:
    """What Triton's statistics say, by column."""
    requests = {size: size * count for size, count in times.batch_sizes.items()}
    return {
        "queue_ms": times.queue_ms,
        "compute_ms": times.compute_ms,
        "mean_batch_size": times.mean_batch_size,
        "usual_batch_size": max(requests, key=lambda size: (requests[size], size), default=None),
    }
