"""The joules of this machine's CPU packages, as Linux tells them: RAPL, of Intel's and AMD's processors.

Source: the kernel's Documentation/power/powercap/powercap.rst. A zone `intel-rapl:N`, on AMD's processors too, with the
name `package-N` is a socket (or a die of it); its parts (`intel-rapl:N:M`: cores, graphics, memory) are not counted
beside it, nor is `psys`, the whole platform, which holds the packages.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

POWERCAP = Path("/sys/class/powercap")

_MOST_W = 1000.0  # of a package, more than any takes: how soon its counter may come round


@dataclass
class _Package:
    counter: Path
    range_uj: int
    last_uj: int
    total_uj: int = 0

    def joules(self) -> float:
        """Used since the first reading."""
        now = _number(self.counter)
        self.total_uj += (now - self.last_uj) % self.range_uj
        self.last_uj = now
        return self.total_uj / 1e6


class RaplReader:
    """Reads the counters of all CPU packages, which start at 0 when it is made.

    Args:
        folder: that has the zones; by default `POWERCAP`.

    Attributes:
        why_not: why nothing is known; empty where it is.
        sure_s: the longest time between two readings in which no counter can come round twice.
    """

    def __init__(self, folder: Path | None = None) -> None:
        folder = folder or POWERCAP
        self.why_not = ""
        self.sure_s = 0.0
        self._packages: dict[str, _Package] = {}
        zones = [zone for zone in folder.glob("intel-rapl:*") if zone.name.count(":") == 1]
        try:
            packages = [zone for zone in sorted(zones) if (zone / "name").read_text().startswith("package")]
            for zone in packages:
                counter = zone / "energy_uj"
                # The counter's highest value is followed by 0.
                span = _number(zone / "max_energy_range_uj") + 1
                self._packages[zone.name] = _Package(counter, span, _number(counter))
        except PermissionError as error:
            self.why_not = f"{error.filename} may be read by root alone"
        except (OSError, ValueError) as error:
            self.why_not = f"{folder} cannot be read: {error}"
        if not self.why_not and not packages:
            self.why_not = f"{folder} names no CPU package" if folder.is_dir() else f"there is no {folder}"
        if self.why_not:
            self._packages = {}
        else:
            self.sure_s = min(one.range_uj for one in self._packages.values()) / 1e6 / _MOST_W

    def read(self) -> dict[str, float]:
        """Joules of each package since this was made; empty if they cannot be read now."""
        try:
            return {name: package.joules() for name, package in self._packages.items()}
        except (OSError, ValueError):
            return {}


def _number(path: Path) -> int:
    return int(path.read_text())
