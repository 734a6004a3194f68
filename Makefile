# Two commands: `make demo` and `make test`. Each does its own set-up.

UV := ./scripts/uv.sh
RUN := $(UV) run --frozen

.PHONY: help setup demo test lint types unit clean

help:
	@echo "make demo   collect, train, evaluate, and write outputs/demo/report.html (four to eleven minutes on two cores)"
	@echo "make test   lint, types and every test"
	@echo "make clean  delete the environment and what the commands made"

# Compiled once: the environment may forbid every process to keep what it compiles, and LeRobot's imports are many.
setup:
	@$(UV) sync --frozen --quiet --compile-bytecode

demo: setup
	@$(RUN) dap demo --out outputs/demo

test: lint types unit

lint: setup
	@$(RUN) ruff check
	@$(RUN) ruff format --check --quiet

types: setup
	@$(RUN) mypy

unit: setup
	@$(RUN) pytest -n auto --dist loadgroup

clean:
	rm -rf .venv .uv outputs
