"""What a model is: one hash over the files of its version, whatever its name, place and configuration.

One file for who writes the hash beside a model and for who serves it and so finds out whether it is still the one that
was exported: `arch_export` imports it, and `arch_serve` copies it beside the server's backend. So it needs nothing of
arch.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path


def content_hash(folder: Path) -> str:
    """`sha256:<hex>` over the names and contents of a model version's files.

    Hidden files and folders in it do not count: no export writes any, and a file manager may.

    Raises:
        OSError: if a file cannot be read.
    """
    digest = hashlib.sha256()
    files = [file for file in folder.iterdir() if not file.name.startswith(".") and file.is_file()]
    for file in sorted(files, key=lambda file: os.fsencode(file.name)):
        with file.open("rb") as stream:
            digest.update(os.fsencode(file.name) + b"\0" + hashlib.file_digest(stream, "sha256").digest())
    return f"sha256:{digest.hexdigest()}"
