"""Which checkpoint is meant, and its files on this disk: an alias, a Hugging Face hub id or a local folder."""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Callable
from pathlib import Path

from arch_common.errors import ExportUsageError, reason_of

from arch_export.checkpoint.aliases import ALIASES, LOGMEL
from arch_export.checkpoint.configuration import read_config
from arch_export.checkpoint.files import Checkpoint, licence_of, weight_files
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
    check_reference(reference)
    if reference in ALIASES:
        return download(ALIASES[reference].checkpoint, reference, on_warning)
    folder = Path(reference).expanduser()
    return _local(folder) if folder.is_dir() else download(reference, reference.split("/")[1], on_warning)


def check_reference(reference: str) -> None:
    """See to it that `reference` can mean a checkpoint, without any look at the hub.

    Raises:
        ExportUsageError: if it is neither an alias, nor a folder, nor written as a hub id is.
    """
    try:
        if reference in ALIASES:
            return
        folder = Path(reference).expanduser()
        if folder.is_dir():
            str(folder).encode()
            return
    except UnicodeEncodeError as error:  # safetensors opens no such file
        raise ExportUsageError(
            f"the path {reference!r} is not UTF-8: rename the folder, or make a link to it"
        ) from error
    except (OSError, RuntimeError) as error:  # RuntimeError: the home of a user who does not exist
        raise ExportUsageError(f"{reference} cannot be read ({reason_of(error)})") from error
    if re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", reference, re.ASCII):
        return
    if "/" in reference:
        raise ExportUsageError(f"{reference} is neither a folder nor a hub id (organisation/name)")
    near = difflib.get_close_matches(reference, [*ALIASES, LOGMEL], n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known aliases: {', '.join([*ALIASES, LOGMEL])}"
    raise ExportUsageError(f"unknown checkpoint {reference!r}: {hint}")


def model_name(checkpoint_name: str) -> str:
    """What a model is called after its checkpoint: letters, digits, dots, dashes and underscores of ASCII.

    Raises:
        ExportUsageError: if too little of the name would be left to tell it from others.
    """
    found = re.sub(r"[^A-Za-z0-9._-]+", "-", checkpoint_name).lstrip(".")
    if not checkpoint_name.isascii() or not re.search(r"[A-Za-z0-9]", found):
        raise ExportUsageError(
            f"no model can be called {checkpoint_name!r}, which is not of ASCII letters and digits: choose a name with "
            "--name"
        )
    return found


def _local(folder: Path) -> Checkpoint:
    config = read_config(folder, str(folder))
    files = weight_files(folder)
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    name = folder.resolve().name
    # A name need not be UTF-8 on this disk, but what stands in a configuration must be.
    source = "local:" + name.encode("utf-8", "backslashreplace").decode()
    return Checkpoint(folder, source, f"sha256:{digest.hexdigest()}", name, config, licence_of(folder))
