# `make demo` runs the main job on synthesised sound; `make test` passes the tests. Each sets itself up in .venv.
.DEFAULT_GOAL := help
.PHONY: help demo test clean
BIN := .venv/bin

help:
	@echo "make demo   the whole job on synthesised sound: export, serve, bench, report (a few minutes, no download of weights)"
	@echo "make test   format, lint, types and tests, against a real Triton"
	@echo "make clean  removes .venv, caches and what the demo made"

.venv/installed-all: pyproject.toml constraints.txt scripts/setup.sh
	sh scripts/setup.sh all

.venv/installed-dev: pyproject.toml constraints.txt scripts/setup.sh
	sh scripts/setup.sh dev

demo: .venv/installed-all
	$(BIN)/arch demo

test: .venv/installed-dev
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/python -m pytest

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache data/demo data/checkpoints reports/demo model_repository/logmel model_repository/hubert-small-random
