"""A process of its own that opens graphs as the server does, in whichever ONNX Runtime it finds first, and runs them.

    python run_models.py FEEDS.npz FOUND.npz NAME=PRECISION=PATH...

FOUND holds each output as `NAME/OUTPUT`. What is printed is the version of ONNX Runtime.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from arch_common.session import open_on_cpu, session_options


def main() -> None:
    """Run every graph on the same inputs."""
    feeds = dict(np.load(sys.argv[1]))
    found: dict[str, Any] = {}
    for model in sys.argv[3:]:
        name, precision, path = model.split("=", 2)
        session = open_on_cpu(Path(path), precision, session_options()).session
        outputs = [one.name for one in session.get_outputs()]
        found |= {f"{name}/{output}": value for output, value in zip(outputs, session.run(None, feeds), strict=True)}
    np.savez(sys.argv[2], **found)
    sys.stdout.write(onnxruntime.__version__)


if __name__ == "__main__":
    main()
