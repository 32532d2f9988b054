# `make demo` and `make test` need Python 3.11 or newer and nothing else.
PYTHON ?= python3
TRAINER ?= torch
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-all check clean

demo: $(VENV)/.$(TRAINER)
	$(BIN)/amla search digits --trainer $(TRAINER)

test: check
	$(BIN)/pytest -n 2 -m "not slow"

test-all: check
	$(BIN)/pytest -n 2

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

$(VENV)/.made:
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.torch $(VENV)/.keras: $(VENV)/.%: $(VENV)/.made pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[$*]"
	touch $@

$(VENV)/.dev: $(VENV)/.made pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@ $(VENV)/.torch $(VENV)/.keras

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
