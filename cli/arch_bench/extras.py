"""The parts that may be missing: which packages each extra brings, by the metadata of the installed package."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator
from contextlib import contextmanager

from arch_common.errors import MissingExtraError

DISTRIBUTION = "arch-bench"


@contextmanager
def needs(extra: str) -> Iterator[None]:
    """Say which extra to install where the block cannot import a package that it brings.

    Raises:
        MissingExtraError: if a package of the extra, or one that such a package needs, is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        module = (error.name or "").partition(".")[0]
        # One of ours, or one that nothing wants although all is there, is a fault: that is worth a traceback.
        if module.startswith("arch_") or not missing(extra):
            raise
        raise MissingExtraError(
            f"this needs the package {module!r}, which is not installed: pip install '{DISTRIBUTION}[{extra}]' (in a "
            f"clone: pip install '.[{extra}]')"
        ) from error


def missing(extra: str) -> list[str]:
    """The distributions that an extra brings, directly or by way of others, and that are not installed."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    absent: list[str] = []
    seen: set[tuple[str, str]] = set()
    waiting = [(DISTRIBUTION, extra)]
    while waiting:
        name, wanted = waiting.pop()
        if (name, wanted) in seen:
            continue
        seen.add((name, wanted))
        try:
            requirements = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            absent.append(name)
            continue
        for requirement in map(Requirement, requirements):
            if requirement.marker is None or requirement.marker.evaluate({"extra": wanted}):
                needed = canonicalize_name(requirement.name)
                waiting += [(needed, one) for one in requirement.extras or {""}]
    return sorted(set(absent))
