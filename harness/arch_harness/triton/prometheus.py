"""Triton's metrics, which also tell what a model is executed by and how busy GPUs are."""

from __future__ import annotations

import http.client
import re
import urllib.request

_MOST_BYTES = 4 * 1024**2
_EXECUTION = re.compile(r"^arch_execution_info\{(.*)\} 1$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


def read_metrics(address: str, timeout_s: float) -> str:
    """The text of the metrics at `host:port`; empty if nothing answers there in time."""
    # Not through a proxy of the environment: the clips do not go through it either.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://{address}/metrics", timeout=timeout_s) as answer:
            text: str = answer.read(_MOST_BYTES).decode("utf-8", errors="replace")
    except (OSError, ValueError, http.client.HTTPException):
        return ""
    return text


def executed_by(metrics: str, model: str, content_hash: str) -> str:
    """What the metrics say that a model runs on; empty where they do not say, as with NVIDIA's own backend."""
    for match in _EXECUTION.finditer(metrics):
        labels = dict(_LABEL.findall(match[1]))
        # The hash tells this server's model from one of the same name on another server of the host.
        if (labels.get("model"), labels.get("content_hash")) == (model, content_hash):
            note = f" ({labels['note']})" if labels.get("note") else ""
            return f"{labels['precision']} on {labels['execution_provider']}{note}"
    return ""
