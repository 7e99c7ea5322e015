"""`arch doctor`: what of this machine stops arch, or slows it, and what to do about it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from arch_bench import api
from arch_bench.health.checks import examine
from arch_bench.health.finding import Finding
from arch_bench.health.surroundings import Surroundings

__all__ = ["Finding", "doctor"]


def doctor(
    *,
    repository: str | Path = api.REPOSITORY,
    output: str | Path = Path("reports"),
    cache: str | Path | None = None,
    ports: Sequence[int] = (8001, 8000, 8002),
) -> list[Finding]:
    """Look at this machine: Python and packages, server, GPU, room, limits, ports and network.

    Args:
        repository: where models are or are to be.
        output: where reports go.
        cache: the embedding store; by default `$ARCH_CACHE` or a folder in the user's cache.
        ports: of gRPC, HTTP and metrics, as `arch serve` would take them.

    Returns:
        How it stands with each thing. A `fault` stops arch or makes it answer wrongly.
    """
    names = dict(zip(("grpc", "http", "metrics"), ports, strict=True))
    around = Surroundings(Path(repository), Path(output), None if cache is None else Path(cache), names)
    return list(examine(around))
