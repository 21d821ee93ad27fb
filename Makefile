# The five words, plus the demo. `make` alone explains itself. Everything runs inside .venv; nothing else is touched.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
NAME ?= all
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.DEFAULT_GOAL := help
.PHONY: help install install-dev demo check test bench docs clean

help: ## Show this help.
	@echo "Fairlead. On a fresh machine:  make demo   then   make test"
	@echo
	@grep -hE '^[a-z-]+:.*?## ' $(MAKEFILE_LIST) | awk -F ':.*?## ' '{printf "  make %-12s %s\n", $$1, $$2}'

# A stamp per level of install: a second run costs nothing until pyproject.toml or the pins change.
$(VENV)/.base: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Fairlead needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -V). Set another: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing Fairlead into $(VENV) ..."
	@$(PIP) --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.base
	@echo "Installing the development tools into $(VENV) ..."
	@$(PIP) --editable '.[dev]'
	@touch $@

install: $(VENV)/.base ## Install Fairlead into .venv.

install-dev: $(VENV)/.dev ## Install it with the development tools.

demo: $(VENV)/.base ## Install, then answer real customer messages offline and show them in a browser (Ctrl-C ends it).
	@$(BIN)/fairlead demo

check: $(VENV)/.dev ## Lint, types, room borders, docs.
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python docs/check.py

test: $(VENV)/.dev ## Every test that needs no network and no GPU (FAIRLEAD_DATA adds real public data).
	@$(BIN)/pytest -n auto --dist loadfile

bench: $(VENV)/.dev ## Run benchmarks/NAME.py, or all of them (make bench NAME=gateway).
	@if [ "$(NAME)" = all ]; then for file in benchmarks/[a-z]*.py; do name=$$(basename $$file .py); \
		[ $$name = report ] || $(MAKE) --no-print-directory bench NAME=$$name || status=1; done; exit $${status:-0}; \
	else $(BIN)/python -m benchmarks.$(NAME); fi

docs: $(VENV)/.dev ## Regenerate what the docs and the README generate: transcript, command help, settings, figures.
	@$(BIN)/python docs/generate.py

clean: ## Remove the virtual environment and caches, never your data.
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis dist build
