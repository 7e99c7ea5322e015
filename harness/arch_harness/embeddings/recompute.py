"""What an entry remembers of a run that embeds all clips anew, so that one that was interrupted goes on."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from arch_common.files import whole_file

_FILE = "recomputed.json"


@dataclass(frozen=True)
class Recomputation:
    """A run, of which the files with a higher number than `after` are."""

    run: str
    after: int

    def save(self, folder: Path) -> None:
        """Keep it in the folder of an entry; there is one at a time.

        Raises:
            ArchError: if it cannot be written.
        """
        with whole_file(folder / _FILE) as file:
            file.write(json.dumps(asdict(self)).encode())


def read_recomputation(folder: Path) -> Recomputation | None:
    """What was saved last; None if there is nothing, or it is damaged: the run then embeds all of them."""
    try:
        found = json.loads((folder / _FILE).read_text(encoding="utf-8"))
        return Recomputation(str(found["run"]), int(found["after"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def forget_recomputation(folder: Path) -> None:
    """Delete what was saved.

    Raises:
        OSError: if it cannot be deleted.
    """
    (folder / _FILE).unlink(missing_ok=True)
