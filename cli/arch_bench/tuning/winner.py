"""What a tuning writes: models of its own while it measures, and in the end the winner beside those that are there."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from arch_common.errors import UsageError
from arch_common.temporary import temporary_folder

from arch_bench.tuning.forms import FORMS

if TYPE_CHECKING:
    from arch_harness.tuning.space import Configuration

    from arch_bench.tuning.forms import FormModel

MODELS = "models"
"""Folder of a tuning's own models, in its output."""
CALIBRATION = "calibration.json"


def check_apart(output: Path, repository: Path) -> None:
    """Models of a tuning are replaced and removed: its folder of them must be its own.

    Raises:
        UsageError: if it may be somebody else's.
    """
    from arch_harness.tuning.journal import JOURNAL

    own = output / MODELS
    if own.resolve() == repository.resolve():
        raise UsageError(f"{own} is the repository, and a tuning keeps models of its own there: give another --output")
    began = any((output / name).exists() for name in (FORMS, JOURNAL, CALIBRATION))
    if own.is_dir() and any(own.iterdir()) and not began:
        raise UsageError(f"{own} holds models that are no tuning's, which it would replace: give another --output")


def install(model: FormModel, won: Configuration, repository: Path, notes: list[str]) -> Path:
    """Write the winner into a repository, under a name that nothing else has there.

    Args:
        model: whose graph it is.
        won: how it is served.
        repository: made if it is not there.
        notes: a line is added for each name that is taken.

    Returns:
        Its folder; that of an earlier command if it is the same.

    Raises:
        ArchError: if it cannot be written.
    """
    from arch_export.repository.variant import write_reconfigured
    from arch_export.serving import ServingOptions

    options = ServingOptions(won.max_batch, won.instances, won.queue_delay_us, won.threads, conv_search=won.conv_search)
    with temporary_folder("arch-tune-") as made:
        for number in itertools.count(1):
            name = f"{model.name}-{won.suffix}" + (f"-{number}" if number > 1 else "")
            there = repository / name
            if not there.exists():
                break
            if _config(there) == _config(write_reconfigured(model.folder, made, name, options)):
                return there
            notes.append(f"{name} is another model of {repository}, and stays as it is")
    return write_reconfigured(model.folder, repository, name, options)


def _config(model: Path) -> str | None:
    try:
        return (model / "config.pbtxt").read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None


def made_by(checkpoint: str, facts: Mapping[str, str], won: Configuration, name: str, repository: Path) -> list[str]:
    """The words after `arch` that export a checkpoint as the winner."""
    from arch_harness.tuning.space import delay_text

    made = ["export", checkpoint, "--repository", str(repository), "--name", name]
    made += ["--precision", won.form.precision, "--target", facts["target"], "--layers", won.form.layers]
    made += ["--lengths", won.form.lengths, "--max-batch", str(won.max_batch), "--instances", str(won.instances)]
    made += ["--threads", str(won.threads), "--queue-delay", delay_text(won.queue_delay_us)]
    return [*made, "--conv-search", won.conv_search] if won.conv_search else made
