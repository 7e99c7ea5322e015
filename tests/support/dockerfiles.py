"""What stands in docker/."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"


def documents(path: Path) -> list[Any]:
    """The documents of a YAML file."""
    return [one for one in yaml.safe_load_all(path.read_text(encoding="utf-8")) if one is not None]


def compose() -> Any:
    """compose.yaml, without what `docker compose` would put in for variables: their defaults stand there."""
    text = (DOCKER / "compose.yaml").read_text(encoding="utf-8")
    return yaml.safe_load(re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text))


def queries() -> Iterator[str]:
    """Every expression that is asked of Prometheus: of the dashboard's panels, and of the alerts."""
    board = json.loads((DOCKER / "monitoring" / "dashboard.json").read_text(encoding="utf-8"))
    for panel in board["panels"]:
        for target in panel["targets"]:
            yield target["expr"]
    (alerts,) = documents(DOCKER / "monitoring" / "alerts.yml")
    for group in alerts["groups"]:
        for rule in group["rules"]:
            yield rule["expr"]
