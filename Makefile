# Two commands do everything: `make demo` and `make test`. Both make the environment first.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test check format docs clean

demo: $(VENV)/.installed
	$(BIN)/normlab compare

test: $(VENV)/.installed-dev check
	$(BIN)/python -m pytest -n 2 --dist loadgroup

check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Pages of docs that a command prints; the tests compare them.
docs: $(VENV)/.installed-dev
	$(BIN)/normlab norms --markdown > docs/norms.md

$(VENV)/.made:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "normlab needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)
	touch $@

# torch first and by its exact version, so that nothing else chooses another build.
$(VENV)/.installed: $(VENV)/.made pyproject.toml constraints.txt
	$(PIP) torch
	$(PIP) --editable .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(PIP) --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache
