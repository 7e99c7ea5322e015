"""The keys of the file: each is an option of a command, which alone says its type, its default and what it means.

Here stands only which option has which key, and how an option's facts are read from the signature of its command.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from typer.models import OptionInfo

BENCH: Mapping[str, tuple[str, ...]] = {
    "dataset": ("datasets",),
    "data_root": ("data-root",),
    "splits": ("splits",),
    "model": ("models",),
    "server": ("servers", "addresses"),
    "tls": ("servers", "tls"),
    "tls_ca": ("servers", "tls-ca"),
    "tls_cert": ("servers", "tls-cert"),
    "tls_key": ("servers", "tls-key"),
    "header": ("servers", "headers"),
    "repository": ("servers", "repository"),
    "probe": ("probes", "names"),
    "seeds": ("probes", "seeds"),
    "seed": ("probes", "seed"),
    "layers": ("probes", "layers"),
    "ablate": ("ablate",),
    "repeat": ("speed", "repeat"),
    "rate": ("speed", "rate"),
    "concurrency": ("speed", "concurrency"),
    "transport": ("speed", "transport"),
    "workers": ("speed", "workers"),
    "ray_address": ("speed", "ray-address"),
    "recompute": ("speed", "recompute"),
    "price": ("price",),
    "output": ("output",),
    "cache": ("cache",),
    "log_file": ("log-file",),
    "verbose": ("verbose",),
    "quiet": ("quiet",),
}
"""Every option of `arch bench` but those that are about the file, in the order in which a file has them."""

LOAD: Mapping[str, str] = {
    "slo": "slo",
    "rate": "rate",
    "scenario": "scenario",
    "dataset": "dataset",
    "model": "models",
    "min_duration": "min-duration",
    "min_queries": "min-queries",
    "full": "full",
    "samples_per_query": "samples-per-query",
    "clips": "clips",
    "repeats": "repeats",
    "seed": "seed",
    "transport": "transport",
    "hop": "hop",
    "workers": "workers",
}
"""Those options of `arch load` that are not the run's own: its servers, its folder, where its data is."""

GATE: Mapping[str, str] = {
    "baseline": "baseline",
    "max_drop": "max-drop",
    "min_speed": "min-speed",
    "max_p99": "max-p99",
    "max_failed": "max-failed",
    "min_cosine": "min-cosine",
    "pair": "pairs",
    "model": "models",
    "dataset": "datasets",
    "strict": "strict",
    "baseline_cache": "baseline-cache",
    "junit": "junit",
    "markdown": "markdown",
    "json": "json",
}
"""Those options of `arch gate` that are not the run's own; a file of thresholds is what stands here already."""

THRESHOLDS = ("max_drop", "min_speed", "max_p99", "max_failed", "min_cosine")


@dataclass(frozen=True)
class CommandOption:
    """An option of a command.

    Attributes:
        name: of the parameter.
        kind: str, Path, int, float, bool or an enumeration.
        several: whether it may be repeated.
        default: as it would stand in a file; None where there is none.
        required: whether the command wants it.
        help: what it means.
        least: the smallest number that it may be; None for any.
    """

    name: str
    kind: Any
    several: bool
    default: Any
    required: bool
    help: str
    least: float | None


def options_of(command: Callable[..., Any]) -> dict[str, CommandOption]:
    """The options in a command's signature, by the names of its parameters."""
    hints = get_type_hints(command, include_extras=True)
    found = {}
    for name, parameter in inspect.signature(command).parameters.items():
        base, *extras = get_args(hints[name]) if get_origin(hints[name]) is Annotated else (hints[name],)
        info = next((one for one in extras if isinstance(one, OptionInfo)), None)
        if info is None:
            continue
        union = get_origin(base) in (Union, types.UnionType)
        (kind,) = [one for one in (get_args(base) if union else (base,)) if one is not types.NoneType]
        several = get_origin(kind) is list
        (kind,) = get_args(kind) if several else (kind,)
        required = parameter.default is inspect.Parameter.empty
        default = None if required else parameter.default
        default = str(default.value) if isinstance(default, Enum) else str(default) if kind is Path else default
        found[name] = CommandOption(
            name,
            kind,
            several,
            None if default in ("None", None) else default,
            required,
            " ".join((info.help or "").split()),
            info.min,
        )
    return found
