"""`python -m arch_harness` is `arch`."""

from arch_harness.cli import main

main()
