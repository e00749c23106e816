# make run and make test are all that a newcomer needs; the environment is .venv
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP = $(if $(shell command -v uv),VIRTUAL_ENV=$(VENV) uv pip install -q,$(BIN)/python -m pip install -q --disable-pip-version-check)
# Four processes more than there are processors: many tests wait
PYTEST := $(BIN)/pytest -n $(shell echo $$(($$(nproc 2>/dev/null || echo 1) + 4))) --dist loadfile --no-loadscope-reorder

# Without bytecode each process that starts would compile all modules anew
unexport PYTHONDONTWRITEBYTECODE

.PHONY: run test suite test-faults test-matrix test-clients test-model test-postgres install lint bench bench-mock clean

run: $(VENV)/.runtime
	@exec $(BIN)/gunicorn

test: $(VENV)/.dev # lint needs one processor, and the suite's tests often wait
	@$(MAKE) --no-print-directory -j 2 lint suite

suite: $(VENV)/.dev
	$(PYTEST)

test-faults: $(VENV)/.dev
	FAULTS=whole $(BIN)/pytest -rP tests/faults

test-matrix: $(VENV)/.dev # paging by both SDKs at every size and limit while others write
	TEST_MATRIX=whole $(BIN)/pytest tests/test_sdk_messages.py tests/test_node.py

test-clients: $(VENV)/.dev # published clients, each set of pins in an environment of its own
	$(BIN)/pytest -n 2 tests/clients

test-model: $(VENV)/.dev # a real model and two published endpoints behind the runs, in environments of their own (1 GB)
	$(BIN)/pytest tests/real_model

test-postgres: $(VENV)/.dev # the tests whose results may differ there, on a private PostgreSQL cluster
	$(PYTEST) --engine=postgres

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

install: $(VENV)/.runtime

# QUICK=1 ends within two minutes; PEERS=1 adds json-server, Prism and myla; WRITE=1 writes docs/performance.md
bench: $(VENV)/.runtime
	@$(BIN)/python -m benchmarks.bench $(if $(QUICK),--quick) $(if $(PEERS),--peers) $(if $(WRITE),--write)

bench-mock: $(VENV)/.runtime
	@$(BIN)/python -m benchmarks.mock

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .clients

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
