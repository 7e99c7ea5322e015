"""The terminal: what was asked for goes to `OUT`; progress, notes and errors go to `ERR`."""

from __future__ import annotations

import io
import sys

from rich.console import Console

# Names of files, labels and models are shown as they are: `[cel]` in one is no markup, and `:dog:` no picture.
OUT = Console(markup=False, emoji=False, highlight=False)
ERR = Console(markup=False, emoji=False, highlight=False, stderr=True)


def show_what_it_can() -> None:
    """Let the terminal put a `?` where it has no such letter, or a name is not UTF-8, instead of an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
