# PYTHON is only used to make the virtual environment; everything else runs inside it.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: help quickstart test test-all check clean
.DEFAULT_GOAL := help

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

quickstart: $(VENV)/.installed  ## install, then run the whole loop on the household and write a report
	$(BIN)/gptsim quickstart

test: $(VENV)/.installed-dev  ## the default tests: CPU, offline; installs a Chromium where there is none
	@tests/ensure_chromium.sh $(BIN)/python
	$(BIN)/python -m pytest

test-all: $(VENV)/.installed-dev  ## every test, the slow ones as well
	@tests/ensure_chromium.sh $(BIN)/python
	$(BIN)/python -m pytest -m ''

check: $(VENV)/.installed-dev  ## lint, format, types, import layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:  ## remove caches and build leftovers; the environment and the runs stay
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis *.egg-info
	find align reward_models recipes ui tests -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamps make a second make install nothing; they are older than setup.py or constraints.txt after an edit of those.
$(VENV)/.made:
	$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed; set it with: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.installed: setup.py constraints.txt | $(VENV)/.made
	$(INSTALL) -e .
	@touch $@

$(VENV)/.installed-dev: setup.py constraints.txt | $(VENV)/.made
	$(INSTALL) -e '.[test,dev]'
	@touch $@ $(VENV)/.installed
