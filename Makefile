# make demo   install, audit the digits that ship with scikit-learn, say where the report is
# make test   install, run everything CI runs
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TORCH := torch==2.13.0
PIP := $(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt

# Two processes of one thread each: tests are many and small.
TESTS := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile --durations=15

.PHONY: demo test test-slow check clean

demo: $(VENV)/installed
	$(BIN)/leftout audit digits --ridge 0.1 --out run

test: $(VENV)/installed-dev check
	$(TESTS) -m "not slow and not gpu"

test-slow: $(VENV)/installed-dev
	$(TESTS) -m "slow"

check: $(VENV)/installed-dev
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python -m pytest -q --doctest-modules --doctest-glob="*.md" src/leftout README.md docs

# torch first and pinned: an unpinned one may bring gigabytes of CUDA.
$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "leftout needs Python 3.11 or newer")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) $(TORCH)
	$(PIP) -e .
	touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(PIP) -e ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) run run.part .pytest_cache .mypy_cache .ruff_cache .hypothesis
