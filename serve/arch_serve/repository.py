"""What a Triton model repository on disk offers to load."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from arch_common.errors import ServeUsageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def select_models(repository: Path, models: Sequence[str] | None = None) -> list[str]:
    """Choose the models of a repository to load.

    Args:
        repository: The model repository's folder.
        models: Names to load; None takes every model that is there.

    Returns:
        The names, each of a folder that holds a `config.pbtxt`. Triton itself would also take hidden folders, such
        as an export in progress.

    Raises:
        ServeUsageError: There is no such folder, it cannot be read, it holds no model or a link that leads nowhere, or
            a requested model is not in it.
    """
    if not repository.is_dir():
        raise ServeUsageError(f"no model repository at {repository}: run `arch export` to make one")
    try:
        links = sorted(entry.name for entry in os.scandir(repository) if entry.is_symlink())
    except OSError as error:
        raise ServeUsageError(f"cannot read {repository}: {error.strerror}") from error
    # With one that leads nowhere, Triton loads the models, and then lists none of them to anybody.
    dead = [name for name in links if not os.path.exists(repository / name)]  # noqa: PTH110 - no OSError of a circle
    if dead:
        raise ServeUsageError(f"{repository} holds links that lead nowhere: remove or mend {', '.join(dead)}")
    present = sorted(
        path.parent.name for path in repository.glob("*/config.pbtxt") if not path.parent.name.startswith(".")
    )
    if not present:
        raise ServeUsageError(f"{repository} holds no model: run `arch export` to add one")
    if models is None:
        return present
    if not models:
        raise ServeUsageError(f"no model is named; {repository} holds {', '.join(present)}")
    unknown = [name for name in models if name not in present]
    if unknown:
        raise ServeUsageError(f"{repository} holds no model {', '.join(unknown)}; it holds {', '.join(present)}")
    return list(dict.fromkeys(models))
