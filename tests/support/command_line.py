"""What the command line knows, without running it."""

from __future__ import annotations

from typing import Any

import typer
from arch_bench.main import app


def unknown(words: list[str]) -> list[str]:
    """The options and subcommands among the words that arch does not have."""
    # Not by class: typer brings a click of its own, or takes the one that is installed.
    command: Any = typer.main.get_command(app)
    bad = []
    for word in words:
        if word.startswith("--"):
            options = {option for one in command.params for option in (*one.opts, *one.secondary_opts)} | {"--help"}
            bad += [] if word.partition("=")[0] in options else [word]
        elif hasattr(command, "commands"):
            if word not in command.commands:
                return [*bad, word]
            command = command.commands[word]
    return bad
