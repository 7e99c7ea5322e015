"""The speed of the pass that made the embeddings of an entry, kept beside them for runs that compute none."""

from __future__ import annotations

from pathlib import Path

from arch_common.files import whole_file

from arch_harness.results.measurement import Measurement
from arch_harness.results.run import Origin
from arch_harness.results.schema import StrictModel

_FILE = "speed.json"


class StoredSpeed(StrictModel):
    """A measurement, and of what it is."""

    fingerprint: str
    origin: Origin
    measurement: Measurement

    def outweighs(self, clips: int) -> bool:
        """Whether a measurement of so many clips says little beside this one: it is of a few that were mended."""
        return 2 * clips < self.measurement.clips


def keep_speed(folder: Path, speed: StoredSpeed) -> None:
    """Keep it in the folder of an entry, in the place of an earlier one that does not outweigh it.

    Raises:
        ArchError: if it cannot be written.
    """
    earlier = read_speed(folder, speed.fingerprint)
    if earlier is not None and earlier.outweighs(speed.measurement.clips):
        return
    if folder.is_dir():  # else another process has just pruned it
        with whole_file(folder / _FILE) as file:
            file.write(speed.to_json() + b"\n")


def read_speed(folder: Path, fingerprint: str) -> StoredSpeed | None:
    """What was kept; None if there is nothing, as an earlier arch left it, or it is damaged or of another pass."""
    try:
        found = StoredSpeed.from_json((folder / _FILE).read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return found if found.fingerprint == fingerprint else None
