"""A pass through the servers as it stands in `results.json`, for the tests of the report."""

from __future__ import annotations

import math
from typing import Any


def server_times(p50: float, place: int, seconds: float) -> dict[str, Any]:
    return {
        "requests": 2200,
        "queue_ms": 0.23 * p50,
        "compute_ms": 0.61 * p50,
        "batch_sizes": {1: 40, 4: 35, 8: 60 + place, 16: 10 * place, 32: place},
        "mean_batch_size": 6.1 + place / 3,
        "busy_seconds": 0.94 * seconds,
        "instances": 1,
        "foreign_requests": 0,
    }


def utilisation(seconds: float, speed: float, samples: int = 40) -> dict[str, Any]:
    waves = [0.7 + 0.3 * math.sin(index / 3) for index in range(samples)]
    return {
        "seconds": [seconds * (index + 1) / samples for index in range(samples)],
        "client_cores": [1.1 * wave for wave in waves],
        "machine_cores": [9 + 3 * wave for wave in waves],
        "gpu": [None, *(0.9 * wave for wave in waves[1:])],
        "clips_per_s": [speed * wave for wave in waves],
    }


def load_point(load: str, p50: float, requests: int, speed: float, **changes: Any) -> dict[str, Any]:
    return {
        "load": load,
        "in_flight": None,
        "rate": None,
        "requests": requests,
        "answered_per_s": speed,
        "latency_ms": {"p50": p50, "p95": 1.31 * p50, "p99": 1.87 * p50},
        "late_ms": None,
        "stalls": 0,
    } | changes


def loads(speed: float, p50: float, clips: int) -> list[dict[str, Any]]:
    return [
        load_point("alone", 0.2 * p50, 200, 1e3 / (0.2 * p50 or 1), in_flight=1),
        load_point("paced", 0.4 * p50, 150, 0.69 * speed, rate=0.7 * speed, late_ms=0.001 * p50),
        load_point("equal rate", 0.3 * p50, 120, 5.0, rate=5.0, late_ms=0.002 * p50),
        load_point("saturated", p50, clips, speed, in_flight=16),
    ]


def measurement(speed: float, p50: float, clips: int, place: int = 0) -> dict[str, Any]:
    seconds = clips / speed
    times = server_times(p50, place, seconds)
    return {
        "clips": clips,
        "failed": 0,
        "seconds": seconds,
        "audio_seconds": 5.0 * clips,
        "phases": [
            {"name": "alone", "start": 0.0, "end": 0.1 * seconds, "clips": 200, "in_flight": 1},
            {"name": "measured", "start": 0.1 * seconds, "end": seconds, "clips": max(0, clips - 200), "in_flight": 16},
        ],
        "clips_per_s": speed,
        "rtfx": 5.0 * speed,
        "measured_clips": max(0, clips - 200),
        "measured_seconds": seconds,
        "steadiness": "steady",
        "window_clips_per_s": [speed] * 3,
        "loads": loads(speed, p50, max(0, clips - 200)),
        "concurrency": 16,
        "mean_concurrency": 16.0,
        "concurrency_found": False,
        "workers": 2,
        "server": times,
        "servers": [{"address": "localhost:8001", "clips": clips, "times": times, "dropped": 0}],
        "transport": "grpc",
        "faults": {},
        "stages": {
            "decode_ms": 3.1,
            "resample_ms": 1.9,
            "wait_ms": 0.4 * p50,
            "latency_ms": p50,
            "network_ms": 0.16 * p50,
            "queue_ms": 0.23 * p50,
            "compute_ms": 0.61 * p50,
        },
        "utilisation": utilisation(seconds, speed),
        "bottleneck": "server compute",
    }


def consumption(mean_w: float = 350.0, idle_w: float = 120.0, source: str = "GPU, by Triton") -> dict[str, Any]:
    """Of a machine with one source of power."""
    return {
        "power": [{"source": source, "mean_w": mean_w, "idle_w": idle_w}],
        "untold": ["CPU: a server is on another machine"],
        "gpu_memory_mib": 3073.0,
        "server_memory_mib": 812.5,
    }


NO_POWER = {
    "power": [],
    "untold": ["GPU: the servers' metrics name none", "CPU: there is no /sys/class/powercap"],
    "server_memory_mib": 812.5,
}
"""The consumption of a machine that tells of none."""
