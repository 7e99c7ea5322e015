"""Which checkpoint is meant, and its files on this disk: an alias, a Hugging Face hub id or a local folder."""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Callable
from pathlib import Path

from arch_common.errors import ExportUsageError

from arch_export.checkpoint.aliases import ALIASES
from arch_export.checkpoint.files import Checkpoint, read_config, weight_files
from arch_export.checkpoint.hub import download


def locate(reference: str, on_warning: Callable[[str], None] = lambda _: None) -> Checkpoint:
    """Find the checkpoint that `reference` means and bring its files to this disk.

    Args:
        reference: an alias such as `hubert-large`, a hub id such as `facebook/hubert-large-ll60k`, or a folder.
        on_warning: told if the hub could not be reached and an earlier download is taken.

    Raises:
        ExportUsageError: if there is no such alias or folder, or it is no checkpoint of a supported architecture.
        ExportError: if the hub does not have it or cannot be reached.
    """
    if reference in ALIASES:
        return download(ALIASES[reference].checkpoint, reference, on_warning)
    folder = Path(reference).expanduser()
    if folder.is_dir():
        return _local(folder)
    if re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", reference):
        return download(reference, reference.split("/")[1], on_warning)
    if "/" in reference:
        raise ExportUsageError(f"{reference} is neither a folder nor a hub id (organisation/name)")
    near = difflib.get_close_matches(reference, [*ALIASES, "logmel"], n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known aliases: {', '.join([*ALIASES, 'logmel'])}"
    raise ExportUsageError(f"unknown checkpoint {reference!r}: {hint}")


def _local(folder: Path) -> Checkpoint:
    config = read_config(folder, str(folder))
    files = weight_files(folder)
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    name = folder.resolve().name
    return Checkpoint(folder, f"local:{name}", f"sha256:{digest.hexdigest()}", name, config)
