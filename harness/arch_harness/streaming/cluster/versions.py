"""Whether each node of a cluster has the packages that this machine has."""

from __future__ import annotations

import platform
import sys
from collections.abc import Sequence

from arch_common.errors import ArchError, UsageError

from arch_harness.streaming.cluster.nodes import Node, Place, live_nodes, run_on

_PYTHON = "Python"
_PACKAGES = ("arch-bench", "ray", "numpy", "soundfile", "soxr", "tritonclient", "grpcio")
"""What workers and driver must have alike: what decodes, resamples and sends, and what they talk to each other by."""


def check_versions(nodes: Sequence[Node], more: Sequence[str] = ()) -> None:
    """See whether nodes have the same packages as this machine; `more` than those that all work takes.

    Raises:
        UsageError: if one has other versions, or lacks one.
        ArchError: if one does not answer.
    """
    import ray

    if not nodes:
        return
    packages = (*_PACKAGES, *more)
    here = _installed(packages)
    ours = sys.modules[__name__]
    # By value: a node on which arch is not installed could not even import the function that would tell so.
    ray.cloudpickle.register_pickle_by_value(ours)
    try:
        answers = run_on(nodes, _installed, packages)
    finally:
        ray.cloudpickle.unregister_pickle_by_value(ours)
    for node, there in zip(nodes, answers, strict=True):
        for name, version in here.items():
            if there[name] != version:
                what = f"{name} {there[name]}" if there[name] else f"no {name}"
                raise UsageError(
                    f"node {node.name} of the Ray cluster has {what}, and here is {name} {version or 'missing'}: "
                    f"install the same in both{'' if name == _PYTHON else ', as the image arch-bench does'}"
                )


def checked_node(place: Place, nodes: dict[str, Node], more: Sequence[str] = ()) -> Node:
    """The node that a process runs on; one that came later is put to `nodes`, and its versions are checked.

    Raises:
        UsageError: as `check_versions`.
        ArchError: if it does not answer.
    """
    if place.node not in nodes:
        nodes |= live_nodes()
        if place.node not in nodes:
            raise ArchError(f"node {place.host} of the Ray cluster does not answer")
        check_versions([nodes[place.node]], more)
    return nodes[place.node]


def _installed(packages: Sequence[str]) -> dict[str, str]:
    """The versions here, empty where there is none; Python's without its last number, which may differ."""
    from importlib.metadata import PackageNotFoundError, version

    found = {_PYTHON: ".".join(platform.python_version_tuple()[:2])}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = ""
    return found
