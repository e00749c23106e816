# make run and make test are all that a newcomer needs; the environment is .venv
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP = $(if $(shell command -v uv),VIRTUAL_ENV=$(VENV) uv pip install -q,$(BIN)/python -m pip install -q --disable-pip-version-check)

.PHONY: run test test-postgres install lint clean

run: $(VENV)/.runtime
	@exec $(BIN)/gunicorn

test: $(VENV)/.dev lint
	$(BIN)/pytest -n auto

test-postgres: $(VENV)/.dev # the same tests on a private PostgreSQL cluster
	$(BIN)/pytest -n auto --engine=postgres

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

install: $(VENV)/.runtime

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12 …")' >&2
	@$(PYTHON) -m venv $(VENV) >&2

$(VENV)/.runtime: requirements.txt | $(BIN)/python
	@echo "Installing into $(VENV) …" >&2
	@$(PIP) -r requirements.txt >&2
	@touch $@

$(VENV)/.dev: requirements-dev.txt $(VENV)/.runtime
	@echo "Installing the test tools into $(VENV) …" >&2
	@$(PIP) -r requirements-dev.txt >&2
	@touch $@
