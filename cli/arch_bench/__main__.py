"""`python -m arch_bench` is `arch`."""

from arch_bench.entry import main

main()
