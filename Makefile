# Two commands set everything up: `make demo` (a real search on the bundled images) and `make test` (all checks but those
# of clusters, which `make test-cluster` makes).
# Another Python: make demo PYTHON=python3.12; another place for the environment: make test VENV=/somewhere/venv

PYTHON ?= python3
VENV ?= .venv
DEMO_FLAGS ?=
# A file's tests stay in one process (pytest-xdist 3.8 sees no groups: pytest 9.2 does not read what it writes them to).
PYTEST_FLAGS ?= -n 2 --dist loadfile --no-loadscope-reorder

BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: demo test test-cluster lint clean

demo: $(INSTALLED)
	$(BIN)/python -m raysearch.tune --space fine_tune --preset quick $(DEMO_FLAGS)

test: lint
	$(BIN)/python -m pytest $(PYTEST_FLAGS) -m "not cluster"

test-cluster: $(INSTALLED)
	$(BIN)/python -m pytest $(PYTEST_FLAGS) -m cluster tests

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("raysearch needs Python 3.11 or newer, $(PYTHON) is %d.%d; say which with make PYTHON=python3.11" % sys.version_info[:2])'
	$(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV); torch is large, this takes some minutes the first time."
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
