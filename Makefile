# `make demo` and `make test` are all a newcomer needs; both set up .venv first.
RECENT := -c 'import sys; sys.exit(sys.version_info < (3, 11))'
PYTHON ?= $(firstword $(foreach name,python3.11 python3.12 python3.13 python3.14 python3,$(if $(shell $(name) $(RECENT) 2>/dev/null && echo yes),$(name))) python3.11)
SEED ?= 1
# What `make bench` measures: dpo, sft, logps, sweep, gpu, sampling or teacher; empty: all but the last three. BENCH: more options, as in BENCH=--quick.
WHAT ?=
BENCH ?=
# Linux without an NVIDIA GPU: the index of CPU wheels that PyTorch's "Get started" page names for pip, as in
# `make demo TORCH_INDEX=URL`, saves gigabytes of CUDA libraries.
TORCH_INDEX ?=
COMPILER = reasoning-gym needs pycosat, which is compiled here (apt install build-essential $(notdir $(PYTHON))-dev; dnf install gcc $(notdir $(PYTHON))-devel; xcode-select --install)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check

.PHONY: demo test lint setup docs smoke bench clean

demo: $(VENV)/.installed
	$(BIN)/limbeck demo --seed $(SEED)

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m limbeck.reference --check docs

smoke: $(VENV)/.installed
	$(BIN)/limbeck run recipes/smoke.toml

bench: $(VENV)/.installed-bench
	$(BIN)/python -m benchmarks run $(if $(WHAT),--what $(WHAT)) $(BENCH)

docs: $(VENV)/.installed
	$(BIN)/python -m limbeck.reference --write docs

setup: $(VENV)/.installed-dev

$(VENV)/.installed: pyproject.toml constraints.txt
	@echo "Setting up $(VENV): about a minute, and 1 GB of libraries on first use ..."
	@$(BIN)/python -c 'import pip' 2>/dev/null && $(BIN)/python $(RECENT) || { \
		$(PYTHON) $(RECENT) 2>/dev/null || \
			{ echo "$(PYTHON) is not there, or not Python 3.11 or later; another: make demo PYTHON=python3.12"; exit 1; }; \
		$(PYTHON) -m venv $(if $(wildcard $(VENV)/pyvenv.cfg),--clear) $(VENV) || \
			{ echo "On Debian and Ubuntu: apt install $(notdir $(PYTHON))-venv"; exit 1; }; }
	@$(PIP) --quiet -c constraints.txt pycosat==0.6.6 || \
		{ echo "If the lines above are a compiler's: $(COMPILER)"; exit 1; }
	$(PIP) torch==2.13.0 -c constraints.txt $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX))
	$(PIP) -c constraints.txt -e .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	@echo "Adding what tests and checks need ..."
	$(PIP) -c constraints.txt -e '.[dev,hub]'
	@touch $@

$(VENV)/.installed-bench: $(VENV)/.installed
	@echo "Adding what the benchmarks compare with ..."
	$(PIP) -c constraints.txt -e '.[bench]'
	@touch $@

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache
