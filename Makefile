# Two commands do everything: `make demo` and `make test`. Both make the environment first.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test check format docs notebook mutants torture bench clean

demo: $(VENV)/.installed
	$(BIN)/normlab compare
	@echo
	@echo 'On your images:  $(BIN)/normlab compare --data FOLDER'
	@echo 'To type normlab alone, first run:  . $(BIN)/activate'

test: $(VENV)/.installed-dev check
	$(BIN)/python -m pytest --quiet --doctest-modules --doctest-ignore-import-errors src/normlab
	$(BIN)/python -m pytest -n 2 --dist loadgroup

check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# First the pages that commands print, which the tests compare; then the site, warnings as errors.
docs: $(VENV)/.installed-dev
	PYTHONPATH=tests $(BIN)/python -m norms.proof src/normlab/workflow/measured/proof.json
	$(BIN)/normlab norms --markdown --pictures docs/images/norms > docs/norms.md
	$(BIN)/python -m normlab.workflow.settings > docs/settings.md
	$(BIN)/sphinx-build -W --keep-going --quiet -d build/doctrees -c docs . build/site
	@echo build/site/index.html

# Runs the notebook again, so that its outputs are those of the code as it is.
notebook: $(VENV)/.installed-dev
	$(BIN)/python examples/execute.py examples/*.ipynb

# Plants mistakes in a copy and sees whether tests notice; about twenty minutes.
mutants: $(VENV)/.installed-dev
	$(BIN)/python benchmarks/mutants.py

# Kills, failing disks, flipped bits, hostile input, races: the table of docs/reliability.md; hours.
torture: $(VENV)/.installed-dev
	$(PIP) 'atheris >= 3; sys_platform == "linux"'
	PYTHONPATH=benchmarks:tests $(BIN)/python -m torture

# Speed: layers, memory, reading, overhead, growth, the whole study; build/bench/ratios.html. About an
# hour on a machine that does nothing else. BENCH='--data FOLDER' measures on your photographs.
bench: $(VENV)/.installed-dev
	$(BIN)/python benchmarks/bench.py $(BENCH)

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
	rm -rf $(VENV) build .mypy_cache .ruff_cache .pytest_cache
