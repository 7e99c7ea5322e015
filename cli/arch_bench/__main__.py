"""Where `arch` and `python -m arch_bench` begin: Ctrl-C ends them quietly while modules are imported, too."""

from __future__ import annotations

from arch_common import interrupt


def main() -> None:
    """Run the command line."""
    interrupt.end_at_once()
    from arch_bench.main import main as run

    run()


if __name__ == "__main__":
    main()
