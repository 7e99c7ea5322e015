"""`python -m arch_bench` is `arch`."""

from arch_bench.main import main

main()
