"""What stands between this machine and others."""

from __future__ import annotations

from collections.abc import Iterator

from arch_bench.health.finding import Finding
from arch_bench.health.surroundings import Surroundings

# As gRPC looks for them; it heeds no names in capitals.
_PROXIES = ("grpc_proxy", "https_proxy", "http_proxy")
_EXCEPTIONS = ("no_grpc_proxy", "no_proxy")
_OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")


def check_proxies(around: Surroundings) -> Iterator[Finding]:
    """A proxy of the environment catches gRPC too, and most cannot carry it."""
    name = next((one for one in _PROXIES if around.environ.get(one)), None)
    if name is None:
        yield Finding("proxy", "ok", "none for gRPC")
        return
    without = next((around.environ[one] for one in _EXCEPTIONS if around.environ.get(one)), "")
    if without.strip() == "*":
        yield Finding("proxy", "ok", "no_proxy excepts every host")
        return
    words = f"{name} is set: gRPC to servers on other machines goes through it" + (
        f", but to {without}" if without else ""
    )
    advice = f"export no_proxy={without + ',' if without else ''}HOST, the host of each --server that it cannot reach"
    yield Finding("proxy", "warning", words, advice)


def check_hub(around: Surroundings) -> Iterator[Finding]:
    """Whether checkpoints can be fetched from the Hugging Face Hub."""
    name = next((one for one in _OFFLINE if around.environ.get(one, "").upper() in ("1", "ON", "YES", "TRUE")), None)
    if name is None:
        yield Finding("Hugging Face Hub", "ok", "may be asked for checkpoints")
    else:
        words = f"{name} is set: arch export takes what is in the cache, or a folder"
        yield Finding("Hugging Face Hub", "absent", words, f"unset {name} to fetch checkpoints")
