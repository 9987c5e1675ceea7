# make demo   install, audit the digits that ship with scikit-learn, say where the report is
# make test   install, run everything CI runs
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TORCH := 2.13.0
PIP := $(BIN)/pip install --disable-pip-version-check -c constraints.txt

# Two processes of one thread each: tests are many and small. Files run in the order of tests/conftest.py.
TESTS := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder --durations=15
# Shapes and kinds of arguments against the annotations of every function: twice the time of most tests.
ANNOTATIONS := --jaxtyping-packages=leftout,leftout_papers,type_checker.checked

.PHONY: demo test test-slow test-wheel check types examples peers clean

demo: $(VENV)/installed
	@echo "Auditing 1,297 handwritten digits: some ten seconds."
	$(BIN)/leftout audit digits --out run

test: $(VENV)/installed-dev check
	$(TESTS) -m "not slow and not gpu"

test-slow: $(VENV)/installed-dev
	$(TESTS) $(ANNOTATIONS) -m "slow"
	$(TESTS) $(ANNOTATIONS) -m "not slow and not gpu"

# The wheel alone in an empty environment, as `pip install leftout` would find it: make test-wheel PYTHON=python3.13
test-wheel:
	rm -rf build/wheel && mkdir -p build/wheel
	$(PYTHON) -m venv build/wheel/venv
	build/wheel/venv/bin/pip wheel -q --disable-pip-version-check --no-deps -w build/wheel .
	@case "$$(uname -s)" in \
		Linux) build/wheel/venv/bin/pip install -q torch==$(TORCH)+cpu 2>/dev/null || build/wheel/venv/bin/pip install -q \
			torch==$(TORCH)+cpu --extra-index-url https://download.pytorch.org/whl/cpu ;; \
		*) build/wheel/venv/bin/pip install -q torch==$(TORCH) ;; \
	esac
	build/wheel/venv/bin/pip install -q --disable-pip-version-check build/wheel/leftout-*.whl
	cd build/wheel && venv/bin/leftout audit digits --out run && venv/bin/leftout verify run
	cd build/wheel && venv/bin/python -c "import leftout as lo; print(lo.open('run').suspects)"

check: $(VENV)/installed-dev
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/ruff check src tests benchmarks
	@$(MAKE) --no-print-directory -j2 types examples

types:
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

examples:
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q $(ANNOTATIONS) --doctest-modules --doctest-glob="*.md" \
		--ignore=docs/recipes src/leftout src/leftout_papers README.md docs

# torch first, and on Linux its CPU build by name: the plain one brings gigabytes of CUDA there. It comes from
# where pip looks anyway, else from PyTorch's own index. A torch that is installed already is kept.
$(VENV)/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "leftout needs Python 3.11 or newer")'
	@test -x $(BIN)/python || { echo "Making an environment in $(VENV)."; $(PYTHON) -m venv $(VENV); }
	@echo "Installing torch and what leftout needs, some 400 MB: minutes on the first run."
	@$(BIN)/python -c "import torch" 2>/dev/null || case "$$(uname -s)" in \
		Linux) $(PIP) torch==$(TORCH)+cpu 2>/dev/null || \
			$(PIP) torch==$(TORCH)+cpu --extra-index-url https://download.pytorch.org/whl/cpu ;; \
		*) $(PIP) torch==$(TORCH) ;; \
	esac
	$(PIP) -e .
	touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(PIP) -e ".[dev]"
	touch $@

# Attribution by other tools on retrained networks: benchmarks/peers. An environment of its own; hours.
peers: $(VENV)/installed .venv-peers/installed-tools
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/peers/run.py run-peers --tools .venv-peers/bin/python

.venv-peers/installed-tools: benchmarks/peers/requirements.txt
	@echo "Installing the tools in .venv-peers, some 600 MB."
	@test -x .venv-peers/bin/python || $(PYTHON) -m venv .venv-peers
	@case "$$(uname -s)" in \
		Linux) .venv-peers/bin/pip install -q torch==$(TORCH)+cpu 2>/dev/null || \
			.venv-peers/bin/pip install -q torch==$(TORCH)+cpu --extra-index-url https://download.pytorch.org/whl/cpu ;; \
		*) .venv-peers/bin/pip install -q torch==$(TORCH) ;; \
	esac
	@while read -r pin; do .venv-peers/bin/pip install -q -c benchmarks/peers/requirements.txt "$$pin" || \
		echo "$$pin does not install here; what needs it is left out."; done < benchmarks/peers/requirements.txt
	touch $@

clean:
	rm -rf $(VENV) run run.part .pytest_cache .mypy_cache .ruff_cache .hypothesis
