"""A model of the repository once more, under another name and served in another way: the same graph, not copied."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from arch_common.content import content_hash
from arch_common.errors import ExportError, ExportUsageError

from arch_export.repository.installation import building
from arch_export.repository.model_card import MODEL_CARD, model_card
from arch_export.repository.triton_config import as_text, read_config, reconfigured
from arch_export.serving import ServingOptions


def write_reconfigured(model: Path, repository: Path, name: str, options: ServingOptions) -> Path:
    """Install a model once more with another `config.pbtxt`, as a whole or not at all; the first one stays as it is.

    Its files are hard links to those of the first where the file system has such, and copies elsewhere. So its content
    hash is the same, and with it its embeddings in the store.

    Args:
        model: the folder of an exported model.
        repository: where the new one goes; made if it is not there.
        name: of the new one.
        options: how it is served; what they leave to the target is the target's.

    Returns:
        Its folder.

    Raises:
        ExportUsageError: if the first is no model of `arch export`, was exported by an earlier one, was changed since,
            or has that name itself.
        ExportError: if the new one cannot be written.
    """
    target = repository / name
    if target.resolve() == model.resolve():
        raise ExportUsageError(f"{model} would be replaced by its own variant: give that another name")
    config = read_config(model)
    again = f"export {model.name} again"
    if config is None or "content_hash" not in config.parameters:
        raise ExportUsageError(f"{model} is no model of arch export: it has no config.pbtxt of one")
    try:
        new = reconfigured(config, name, options)
        card = model_card(new)
    except (KeyError, ValueError) as error:
        raise ExportUsageError(f"{model} lacks facts that arch export writes ({error}): {again}") from error
    version = model / "1"
    try:
        files = [file for file in version.iterdir() if file.is_file() and not file.name.startswith(".")]
        if content_hash(version) != new.parameters["content_hash"].string_value:
            raise ExportUsageError(f"{model} is not what was exported, its files were changed since: {again}")
    except OSError as error:
        raise ExportError(f"cannot read {version}: {error.strerror or error}") from error
    with building(repository, name, 0) as folder:  # links take no space
        (folder / "1").mkdir()
        for file in files:
            _link(file, folder / "1" / file.name)
        (folder / "config.pbtxt").write_text(as_text(new), encoding="utf-8")
        (folder / MODEL_CARD).write_text(card, encoding="utf-8")
    return target


def _link(file: Path, to: Path) -> None:
    try:
        os.link(file.resolve(), to)
    except OSError:  # another file system, one without hard links, or too many
        shutil.copyfile(file, to)
