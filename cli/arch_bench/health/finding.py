"""What a check finds."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

Level = Literal["ok", "absent", "warning", "fault"]
"""How it stands with a thing.

ok: as it should be.
absent: not there, and needed for a part of what arch can do only.
warning: arch works, but slowly, or not with everything.
fault: what stops arch, or makes it answer wrongly.
"""


@dataclass(frozen=True)
class Finding:
    """How it stands with one thing.

    Attributes:
        topic: what was looked at.
        level: how it is.
        found: what there is, in words.
        advice: what to do about it; empty where nothing is to be done.
    """

    topic: str
    level: Level
    found: str
    advice: str = ""

    @property
    def is_trouble(self) -> bool:
        """Whether something should be done."""
        return self.level in ("warning", "fault")

    @property
    def line(self) -> str:
        """All of it, in one line."""
        return f"{self.level}: {self.topic}: {self.found}" + (f": {self.advice}" if self.advice else "")

    def to_dict(self) -> dict[str, str]:
        """For JSON."""
        return asdict(self)
