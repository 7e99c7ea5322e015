# `make demo` runs the main job on synthesised sound; `make check` and `make test` pass the tests. Each sets itself up in
# .venv.
.DEFAULT_GOAL := help
.PHONY: help demo check lint types quick test clean
BIN := .venv/bin
PYTEST := $(BIN)/python -m pytest

help:
	@echo "make demo   the whole job on synthesised sound: export, serve, bench, report (a few minutes, no download of weights)"
	@echo "make check  format, lint, types and the tests that need no torch, Ray or Triton, side by side (a minute)"
	@echo "make test   format, lint, types and all tests, against a real Triton (ten minutes)"
	@echo "make clean  removes .venv, caches and what the demo made"

.venv/installed-all: pyproject.toml constraints.txt scripts/setup.sh
	sh scripts/setup.sh all

.venv/installed-dev: pyproject.toml constraints.txt scripts/setup.sh
	sh scripts/setup.sh dev

demo: .venv/installed-all
	$(BIN)/arch demo

# Side by side; each is printed in one piece when it is done, and all are run whichever fails.
check: .venv/installed-dev
	@$(MAKE) --no-print-directory --jobs=3 --keep-going --output-sync=target quick types lint

lint:
	$(BIN)/ruff format --check
	$(BIN)/ruff check

types:
	$(BIN)/mypy

quick:
	$(PYTEST) -q -n logical --maxprocesses 8 --dist worksteal -m "not torch and not ray and not triton and not slow"

# A file's tests share servers and follow one another; more files at once than two would crowd out one another's Triton.
test: .venv/installed-dev
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(PYTEST) -n 2 --dist loadfile --no-loadscope-reorder

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache data/demo data/checkpoints reports/demo model_repository/logmel model_repository/hubert-small-random
