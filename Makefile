# `make` alone prints what there is. Every target sets up what it needs first; that is quick when all is there.

VENV ?= .venv
BIN := $(VENV)/bin
export VENV

.DEFAULT_GOAL := help
.PHONY: help setup setup-dev demo test lint format bench docs samples clean

help:  ## Show this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup:  ## Install what netrec needs: Debian's bcc, and a virtual environment in .venv
	@scripts/setup run

setup-dev:  ## The same, with what the tests, checks and benchmarks need
	@scripts/setup dev

demo:  ## Record ten seconds of this host's real traffic and name its top talkers
	@scripts/demo

test: setup-dev  ## Run every test (as root: those that need the kernel too)
	@$(BIN)/pytest $(ARGUMENTS)

lint: setup-dev  ## Check style, formatting and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: setup-dev  ## Put every file into the common format
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: setup-dev  ## Measure against nfdump, tcpdump and tcplife; writes docs/benchmarks.md (as root; some minutes)
	@$(BIN)/python -m benchmarks --write docs/benchmarks.md $(ARGUMENTS)

docs: setup-dev  ## Generate the reference pages, and the outputs that the other pages show
	@$(BIN)/python -m analyze.reference
	@$(BIN)/python -m scripts.reference
	@$(BIN)/python -m scripts.examples

samples: setup-dev  ## Record the sample traces anew from their scripted workloads (as root)
	@$(BIN)/python -m sample_traces.record_web_day
	@$(BIN)/python -m sample_traces

clean:  ## Remove what was built or recorded here (not the sample traces)
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis demo-trace benchmarks/.cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
