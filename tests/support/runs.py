"""Runs as `results.json` holds them, small and large, for the tests of whatever reads one."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from arch_harness.results.checks.ablations import Ablation
from arch_harness.results.measurement import ServerTimes
from arch_harness.results.run import Origin, Run, Unscored
from arch_harness.results.scores import Comparison, LayerScores
from support.measurements import measurement

HOSTILE = """<b>&"'|`$x$ *_[red]{{ 7 * 7 }}</script>"""
MODELS = ("wav2vec2-base", "hubert-base-ls960", "log-mel-statistics")
DATASETS = ("esc50", "gtzan")


def model(name: str) -> dict[str, Any]:
    return {
        "name": name,
        "source": f"example/{name}",
        "revision": "0123456789abcdef0123456789abcdef01234567",
        "family": "wav2vec2",
        "precision": "fp32",
        "sample_rate": 16000,
        "embedding_size": 768,
        "parameter_count": 94_371_712,
        "opset": 18,
        "content_hash": "sha256:" + "ab" * 32,
        "parity_max_relative_error": 1.24e-5,
        "parity_min_cosine": 0.99999712,
        "max_batch_size": 32,
        "max_queue_delay_us": 5000,
        "threads": 3,
    }


def dataset(name: str) -> dict[str, Any]:
    return {
        "id": name,
        "title": f"{name}: a collection of recordings",
        "domain": "events",
        "licence": "CC BY-NC 3.0",
        "citation": "Piczak. ESC: Dataset for Environmental Sound Classification. ACM Multimedia, 2015.",
        "path": f"/data/{name}",
        "classes": 50,
        "classes_used": 50,
        "classes_official": 50,
        "incomplete": False,
        "clips": 2000,
        "clips_official": 2000,
        "max_seconds": 5.0,
        "folds": 5,
        "notes": [],
        "reference": f"{name}=/data/{name}",
        "listing": "0" * 64,
    }


def interval(score: float) -> dict[str, Any]:
    return {"low": score - 0.021, "high": score + 0.019, "unit": "fold", "units": 5, "resamples": 1000}


def folds(score: float) -> list[dict[str, Any]]:
    return [
        {
            "fold": str(fold),
            "train": 1200,
            "validation": 400,
            "test": 400,
            "accuracy": score + 0.01 * (fold - 3),
            "macro_f1": score - 0.011 + 0.01 * (fold - 3),
        }
        for fold in range(1, 6)
    ]


def probe(name: str, score: float, std: float | None) -> dict[str, Any]:
    return {
        "probe": name,
        "score": score,
        "std": std,
        "seed_scores": [score],
        "interval": interval(score),
        "macro_f1": score - 0.011,
        "balanced_accuracy": score - 0.002,
        "folds": folds(score),
        "classes": [
            {"name": kind, "clips": clips, "precision": 0.7, "recall": 0.8, "f1": f1}
            for kind, clips, f1 in (("dog", 40, 0.61), ("rain", 40, 0.93), ("sea <waves>", 0, 0.0))
        ],
        "classes_without_test_clips": ["sea <waves>"],
        "confusion": [[90, 30, 0], [10, 110, 0], [0, 0, 0]],
        "seconds": 1.3,
    }


def comparison(data: str, model: str, other: str, low: float, high: float) -> dict[str, Any]:
    return {
        "dataset": data,
        "probe": "linear",
        "metric": "accuracy",
        "model": model,
        "other": other,
        "clips": 1947,
        "difference": (low + high) / 2,
        "low": low,
        "high": high,
        "more_than_noise": low > 0,
    }


def result(name: str, data: str, place: int = 0, failed: int = 0) -> dict[str, Any]:
    score = 0.913 - 0.037 * (place % 16)
    speed = 17.31 * 1.45 ** (place % 16)
    p50 = 212.7 / 1.3 ** (place % 16)
    return {
        "model": name,
        "dataset": data,
        "metric": "accuracy",
        "score": score,
        "std": 0.004,
        "interval": interval(score),
        "chance": 0.02,
        "macro_f1": score - 0.011,
        "folds": folds(score),
        "probes": [probe("linear", score, 0.004), probe("knn", score - 0.05, None)],
        "clips": 2000,
        "failed": failed,
        "failures": [
            {"clip": f"audio/{index:04d}.wav", "stage": "decode", "reason": "the file ends inside its header"}
            for index in range(failed)
        ],
        "stored": 0,
        "measurement": measurement(speed, p50, 2000 - failed, place),
        "probe_seconds": 4.2,
        "started": "2026-03-01T12:00:00Z",
        "fingerprint": "0f" * 16,
    }


def run_of(models: tuple[str, ...], datasets: tuple[str, ...], failed: int = 0, **changes: Any) -> Run:
    results = [
        result(name, data, place + shift, failed if place == 0 else 0)
        for shift, data in enumerate(datasets)
        for place, name in enumerate(models)
    ]
    document = {
        "arch_version": "0.1.0",
        "command": f"arch bench --model {models[0]} --dataset {datasets[0]}",
        "created": datetime(2026, 3, 1, 12, 34, tzinfo=UTC),
        "machine": {
            "cpu": "AMD EPYC 7B13",
            "cores": 16,
            "memory_gib": 62.8,
            "gpus": ["NVIDIA H100 80GB HBM3"],
            "os": "Linux 6.1",
            "python": "3.11.9",
            "packages": {"numpy": "1.26.4", "ray": "2.40.0"},
        },
        "servers": [
            {
                "address": "localhost:8001",
                "name": "triton",
                "version": "2.51.0",
                "started_by_arch": True,
                "same_machine": True,
            }
        ],
        "settings": {
            "seed": 1,
            "seeds": 3,
            "probes": ["linear", "knn"],
            "epochs": 100,
            "concurrency": 16,
            "workers": 2,
        },
        "models": [model(name) for name in models],
        "datasets": [dataset(data) for data in datasets],
        "results": results,
    }
    return Run.model_validate(document | changes)


def small() -> Run:
    return run_of(MODELS[:1], DATASETS[:1])


def origin(cpu: str = "AMD EPYC 7B13", hour: int = 9) -> Origin:
    """Of a speed that was measured two days before the runs here, on such a machine."""
    run = small()
    return Origin(
        started=datetime(2026, 2, 27, hour, 5, tzinfo=UTC),
        arch_version=run.arch_version,
        machine=run.machine.model_copy(update={"cpu": cpu}),
        servers=run.servers,
    )


def server_of(run: Run, index: int) -> ServerTimes:
    """Triton's statistics of a result that was measured."""
    found = run.results[index].measurement
    assert found is not None
    assert found.server is not None
    return found.server


def usual() -> Run:
    """3 models on 2 datasets with failures, a partial dataset, and requests of others."""
    run = run_of(MODELS, DATASETS, failed=53)
    run.datasets[0].clips_official, run.datasets[0].incomplete = 2500, True
    run.datasets[1].notes = ["Clips of one artist may be in several folds."]
    server_of(run, 1).foreign_requests = 7
    run.comparisons = [
        Comparison.model_validate(comparison(DATASETS[0], MODELS[0], MODELS[1], -0.004, 0.031)),
        Comparison.model_validate(comparison(DATASETS[0], MODELS[0], MODELS[2], 0.052, 0.097)),
    ]
    return run


def unscored() -> Run:
    """2 models on 2 datasets; one of them has no score on the first one, where every clip failed."""
    run = run_of(MODELS[:2], DATASETS)
    lost = run.results.pop(1)
    failures = [
        {"clip": f"audio/{index:04d}.wav", "stage": "decode", "reason": "is empty"} for index in range(lost.clips)
    ]
    reason = "none of its 2,000 clips gave an embedding; audio/0000.wav: is empty"
    run.unscored = [
        Unscored.model_validate(
            {"model": lost.model, "dataset": lost.dataset, "reason": reason, "clips": lost.clips, "failures": failures}
        )
    ]
    return Run.model_validate(run.model_dump())


def stress() -> Run:
    models = tuple(f"an-encoder-with-a-long-name-{index:02d}-of-the-large-family" for index in range(16))
    return run_of(models, tuple(f"dataset-{index:02d}" for index in range(12)), failed=3)


def hostile() -> Run:
    run = run_of((f"m{HOSTILE}", "名前_α", "_leading"), (f"d{HOSTILE}", "d-b"), failed=1)
    run.results[0].failures[0].clip = f"c{HOSTILE}\n\x1b[31m.wav"
    run.results[0].failures[0].reason = f"r{HOSTILE}"
    run.datasets[0].notes = [f"n{HOSTILE}"]
    return run


RUNS = {"small": small, "usual": usual, "unscored": unscored, "stress": stress, "hostile": hostile}


def layer_scores(layers: int = 7) -> LayerScores:
    """Of a model whose best layer is the one before the last but one."""
    scores = [0.5 + 0.05 * min(layer, 2 * (layers - 3) - layer) for layer in range(layers)]
    return LayerScores.model_validate(
        {
            "layers": [
                {"layer": layer, "score": score, "std": 0.01, "interval": interval(score)}
                for layer, score in enumerate(scores)
            ],
            "weighted_sum": 0.72,
            "weighted_sum_std": 0.01,
            "weighted_sum_interval": interval(0.72),
            "weights": [1 / layers] * layers,
        }
    )


def ablation(run: Run, setting: str, low: float = -0.05, high: float = -0.01, **changes: Any) -> Ablation:
    """Of the run's first result, which changes by the middle of the interval."""
    result = run.results[0]
    difference = (low + high) / 2
    document = {
        "model": result.model,
        "dataset": result.dataset,
        "setting": setting,
        "probe": "linear",
        "metric": result.metric,
        "score": result.score + difference,
        "clips": 2000,
        "difference": difference,
        "low": low,
        "high": high,
        "more_than_noise": low > 0 or high < 0,
        "mean_cosine": 0.98,
        "largest_change": 0.3,
        "failed": 0,
        "fingerprint": "0f" * 16,
    }
    return Ablation.model_validate(document | changes)
