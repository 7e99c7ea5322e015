"""Where the command `arch` begins: Ctrl-C ends it quietly while its modules are imported, too."""

from __future__ import annotations

from arch_common import interrupt


def main() -> None:
    """Run the command line."""
    interrupt.end_at_once()
    from arch_bench.main import main as run

    run()
