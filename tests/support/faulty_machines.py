"""Machines with a fault, for `arch doctor`: installed packages, programs, limits, control groups."""

from __future__ import annotations

import importlib.metadata
import os
from pathlib import Path

import arch_bench.health.surroundings as health

DISTRIBUTION = "arch-bench"


def packages(folder: Path, **versions: str) -> Path:
    """A folder of packages as pip leaves them, by their metadata alone; `_` in a name is a dash."""
    for name, version in versions.items():
        package(folder, name.replace("_", "-"), version)
    return folder


def package(folder: Path, name: str, version: str, requires: tuple[str, ...] = ()) -> None:
    """One of them."""
    home = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    home.mkdir(parents=True)
    lines = [
        "Metadata-Version: 2.1",
        f"Name: {name}",
        f"Version: {version}",
        *(f"Requires-Dist: {one}" for one in requires),
    ]
    (home / "METADATA").write_text("\n".join(lines) + "\n")


def arch_itself(folder: Path) -> Path:
    """The metadata of arch as it is installed here, and with them what each part wants."""
    found = importlib.metadata.distribution(DISTRIBUTION)
    home = folder / f"arch_bench-{found.version}.dist-info"
    home.mkdir(parents=True)
    (home / "METADATA").write_text(found.read_text("METADATA") or "")
    return folder


def program(folder: Path, name: str, script: str) -> Path:
    """A program that a shell runs; gives the folder that it is in."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)
    return folder


def disk(free: int, total: int = 100 * 2**30, names: int = 1000) -> os.statvfs_result:
    """What the system tells of a file system with so many bytes and names of files free."""
    return os.statvfs_result((4096, 4096, total // 4096, free // 4096, free // 4096, 10_000, names, names, 0, 255))


def tree(root: Path, **files: str) -> health.Surroundings:
    """A machine with these files below its root; `__` in a name is a slash, `_dot_` a dot."""
    for name, content in files.items():
        path = root / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return health.Surroundings(root=root)
