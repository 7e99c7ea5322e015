"""How long it takes, and how much memory, to list, split and fingerprint all twelve datasets at their full size.

The folders, names and tables are the official ones; the audio files are empty, since none is read.

    python benchmarks/dataset_index.py
"""

from __future__ import annotations

import resource
import tempfile
import time
from pathlib import Path
from typing import Any

from arch_harness.datasets import load_dataset
from arch_harness.datasets.catalog import ARCH
from arch_harness.datasets.fixtures.layouts import LAYOUTS
from arch_harness.datasets.fixtures.writer import FixtureWriter

# Where no count is published: what the release's tables list.
LISTED = {"mtt": 25_863, "slurp": 72_396}


class EmptyFiles(FixtureWriter):
    """Writes the tables and empty files."""

    def write(self, path: str, kind: int, **_: Any) -> None:  # noqa: ARG002
        """Create the file."""
        target = self.folder / path
        try:
            target.touch()
        except FileNotFoundError:
            target.parent.mkdir(parents=True)
            target.touch()


def main() -> None:
    """Print a line for each dataset and the sum."""
    clips_together, seconds_together = 0, 0.0
    print("dataset            clips  list and split  fingerprint")
    with tempfile.TemporaryDirectory() as root:
        for declaration in ARCH:
            folder = Path(root, declaration.id)
            folder.mkdir()
            clips = declaration.clips_official or LISTED[declaration.id]
            LAYOUTS[declaration.id](EmptyFiles(folder, clips, quirks=False, seed=0))
            started = time.perf_counter()
            dataset = load_dataset(declaration, folder)
            listed = time.perf_counter()
            dataset.fingerprint  # noqa: B018 - taken when it is first asked for
            done = time.perf_counter()
            print(f"{declaration.id:15} {len(dataset.clips):8,} {listed - started:13.2f} s {done - listed:10.2f} s")
            clips_together += len(dataset.clips)
            seconds_together += done - started
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"together        {clips_together:8,} {seconds_together:13.2f} s; at most {memory:.0f} MiB of memory")


if __name__ == "__main__":
    main()
