# `make demo` and `make test` are the only set-up: each makes what it needs, and then does its job.
PYTHON ?= python3
BIN := .venv/bin
# More than there are cores: half of the tests wait for disks, sockets and other processes.
WORKERS ?= 4

# What Python has made of the sources once, no other process makes again: tests start hundreds.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test lint check torture bench format lock clean

demo: .venv/.base
	$(BIN)/python demo/demo.py

test: lint
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m "not torture"

# mypy takes one core: meanwhile the other compiles the tests, which each worker would else do for itself.
lint: .venv/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/python -m compileall -q src
	$(BIN)/mypy & types=$$!; $(BIN)/python -m pytest --collect-only -qq >/dev/null; wait $$types

check: lint
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal tests/docs

torture: .venv/.dev
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m torture --timeout 3600

bench: .venv-bench/.bench
	.venv-bench/bin/python -m bench $(BENCH)

format: .venv/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Pins every dependency, by version and hash, in requirements/. Needs the network.
lock: .venv/.dev
	$(BIN)/pip install --quiet uv
	for set in base dev bench; do \
	  extra=$$([ $$set = base ] || echo "--extra $$set"); \
	  $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header \
	    --python-version 3.11 --upgrade $$extra pyproject.toml --output-file requirements/$$set.txt; \
	done

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Torpor needs Python 3.11 or newer")'
	$(PYTHON) -m venv .venv

.venv/.base: .venv/bin/python requirements/base.txt pyproject.toml
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/base.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps -e .
	touch $@

.venv/.dev: .venv/.base requirements/dev.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	touch $@

.venv-bench/.bench: requirements/bench.txt pyproject.toml
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bench.txt
	.venv-bench/bin/pip install --quiet --disable-pip-version-check --no-deps -e .
	touch $@

clean:
	rm -rf .venv .venv-bench .demo build dist src/*.egg-info
