"""Triton's metrics, which tell what a model is executed by and how busy GPUs are."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request

_MOST_BYTES = 4 * 1024**2


def read_metrics(address: str, timeout_s: float) -> str:
    """The text of the metrics at `host:port`; empty if nothing answers there in time."""
    # Not through a proxy of the environment: the clips do not go through it either.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://{address}/metrics", timeout=timeout_s) as answer:
            text: str = answer.read(_MOST_BYTES).decode("utf-8", errors="replace")
    except urllib.error.HTTPError as error:
        error.close()  # it holds the connection
        return ""
    except (OSError, ValueError, http.client.HTTPException):
        return ""
    return text
