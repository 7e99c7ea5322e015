"""The terminal: what was asked for goes to `OUT`; progress, notes and errors go to `ERR`."""

from __future__ import annotations

import io
import os
import sys
from typing import Any

from arch_common.errors import ArchError
from rich.console import Console


class _Output(Console):
    def print(self, *objects: Any, **options: Any) -> None:
        """As a console does it.

        Raises:
            BrokenPipeError: if nobody reads it any more, as after `| head`.
            ArchError: if it cannot be written, as on a full disk.
        """
        try:
            super().print(*objects, **options)
        except BrokenPipeError:
            raise
        except OSError as error:
            # Else Python tries once more when it ends, and shows a traceback then.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, sys.stdout.fileno())
            os.close(nowhere)
            raise ArchError(f"cannot write the output: {error.strerror}") from error


# Names of files, labels and models are shown as they are: `[cel]` in one is no markup, and `:dog:` no picture.
OUT = _Output(markup=False, emoji=False, highlight=False)
ERR = Console(markup=False, emoji=False, highlight=False, stderr=True)


def show_what_it_can() -> None:
    """Let the terminal put a `?` where it has no such letter, or a name is not UTF-8, instead of an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
