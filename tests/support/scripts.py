"""The scripts of the project, as modules."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

_GENERATE_DOCS = Path(__file__).parents[2] / "scripts" / "generate_docs.py"


def generate_docs() -> ModuleType:
    """The script that writes parts of the documentation."""
    spec = importlib.util.spec_from_file_location(_GENERATE_DOCS.stem, _GENERATE_DOCS)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
