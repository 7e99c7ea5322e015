"""What executes a model, and which: as the server tells, or else as far as the model's configuration lets one know."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from arch_common.execution import told_executions, told_footprints
from tritonclient.grpc import model_config_pb2

from arch_harness.results.run import Footprint

# The name of a server that `arch serve` started, which ends in the port of its metrics.
_SERVER = re.compile(r"arch:[0-9a-f]+:(\d+)")
_MIB = 1024**2
_PLACES = {
    model_config_pb2.ModelInstanceGroup.KIND_CPU: "CPU",
    model_config_pb2.ModelInstanceGroup.KIND_GPU: "GPU",
}


@dataclass(frozen=True)
class Execution:
    """What a model is executed by, and what it is.

    Attributes:
        executed_by: precision and what computes in it, with a note in brackets if that is not as it should be.
        content_hash: of the files that were loaded.
    """

    executed_by: str
    content_hash: str


def metrics_addresses(address: str, guess: str | None, server: str) -> list[str]:
    """Where the metrics of a server may be, `host:port`, the likeliest first.

    Args:
        address: of its gRPC endpoint.
        guess: where else they may be.
        server: its name over gRPC.
    """
    found = _SERVER.fullmatch(server)
    told = [f"{address.rsplit(':', 1)[0]}:{found[1]}"] if found else []
    return list(dict.fromkeys(told + [guess] * bool(guess)))  # type: ignore[list-item]


def is_started_by_arch(server: str) -> bool:
    """Whether `arch serve` started the server that has this name over gRPC."""
    return _SERVER.fullmatch(server) is not None


def told_by(metrics: str, server: str, model: str, content_hash: str) -> Execution | None:
    """What the metrics say of a model; None where they do not, or are those of another server.

    Args:
        metrics: the text of a metrics endpoint.
        server: the name over gRPC of the one that is meant.
        model: its name.
        content_hash: of what was exported.
    """
    found = [told for told in told_executions(metrics) if _is_of(told, server, model, content_hash)]
    if not found:
        return None
    told = max(found, key=lambda one: int(one["version"]))  # the one that answers who names no version
    note = f" ({told['note']})" if told["note"] else ""
    return Execution(
        f"{told['precision']} on {told['execution_provider']}{note}", told.get("served_hash") or content_hash
    )


def _is_of(told: Mapping[str, str], server: str, model: str, content_hash: str) -> bool:
    """Whether labels are those of this model on this server.

    Several servers of one host may have models of one name. Without names of their own, the hash tells them apart.
    """
    here = server if is_started_by_arch(server) else ""
    return (told.get("server", ""), told["model"], told["content_hash"]) == (here, model, content_hash)


def footprint_by(metrics: str, server: str, model: str, content_hash: str) -> Footprint | None:
    """What the metrics say that a model takes; None where they do not, or are those of another server.

    Args:
        metrics: the text of a metrics endpoint.
        server: the name over gRPC of the one that is meant.
        model: its name.
        content_hash: of what was exported.
    """
    found: dict[str, list[float]] = {}
    for figure, told, value in told_footprints(metrics):
        if _is_of(told, server, model, content_hash):
            found.setdefault(figure, []).append(value)
    if not found:
        return None
    memory = sum(found.get("peak_memory_bytes", []))
    return Footprint(
        model=model,
        memory_mib=memory / _MIB if memory else None,
        disk_mib=max(found["disk_bytes"]) / _MIB if "disk_bytes" in found else None,
        load_seconds=max(found["load_seconds"]) if "load_seconds" in found else None,
    )


def runs_in_backend_of_arch(config: Any) -> bool:
    """Whether a model runs in the backend of `arch serve`: Triton names the file of one that is written in Python."""
    return bool(config.runtime == "model.py")


def untold(config: Any, precision: str, address: str) -> str:
    """What a model is executed by where the server does not tell: no two that differ are the same.

    Args:
        config: the model's configuration, from the server.
        precision: of the export.
        address: of the server.
    """
    if runs_in_backend_of_arch(config):
        why = "(no metrics of this server were found)"
        if precision == "bf16":  # which machines without AMX run as fp32: two servers may differ
            return f"an unknown precision by the backend of arch at {address} {why}"
        return f"{precision} by the backend of arch {why}"
    place = "/".join(sorted({_PLACES.get(group.kind, "CPU or GPU") for group in config.instance_group})) or "CPU or GPU"
    target = config.parameters["target"].string_value if "target" in config.parameters else ""
    note = ""
    if precision == "bf16" and target != "gpu":
        precision, note = "fp32", " (bf16 for CPUs is made by OpenVINO, which only the backend of arch has)"
    elif target == "auto" and place != "CPU":
        note = " (its products in TF32 on a GPU that has it: only --target gpu turns that off)"
    return f"{precision} on {place} by NVIDIA's backend{note}"
