"""What the backend of `arch serve` tells of each model that it runs, as the labels of a metric of Triton."""

from __future__ import annotations

import re

# The backend, which writes it, imports nothing of arch.
_METRIC = re.compile(r"^arch_execution_info\{(.*)\} 1$", re.MULTILINE)
_FIGURE = re.compile(r"^arch_instance_(\w+)\{(.*)\} (\S+)$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_ESCAPED = re.compile(r"\\(.)")


def told_executions(metrics: str) -> list[dict[str, str]]:
    """The labels of each model that is running, from the text of Triton's metrics.

    Returns:
        For each `model`, `version`, `server` (the name that the server has over gRPC), `content_hash` (of what was
        exported), `served_hash` (of what was loaded), `execution_provider`, `precision` and `note`; of an earlier arch
        without `server` and `served_hash`.
    """
    return [_labels(match[1]) for match in _METRIC.finditer(metrics)]


def told_footprints(metrics: str) -> list[tuple[str, dict[str, str], float]]:
    """What each instance of a model takes, from the text of Triton's metrics.

    Returns:
        (figure, labels, value): the figure is `peak_memory_bytes`, `disk_bytes` or `load_seconds`; the labels are
        `model`, `version`, `instance`, `server` and `content_hash`, as those of `told_executions`.
    """
    return [(match[1], _labels(match[2]), float(match[3])) for match in _FIGURE.finditer(metrics)]


def _labels(text: str) -> dict[str, str]:
    return {
        name: _ESCAPED.sub(lambda found: {"n": "\n"}.get(found[1], found[1]), value)
        for name, value in _LABEL.findall(text)
    }
