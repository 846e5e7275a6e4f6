# The whole developer loop: setup, run, test, check, bench. Each works from a clean clone.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SUDO := $(shell [ $$(id -u) = 0 ] || command -v sudo)

.PHONY: setup run demo demo-fault test check bench overhead clean

setup: $(VENV)/.done

$(VENV)/.done: pyproject.toml build_bpf.py tools/setup.sh $(wildcard src/kernob/bpf/*.c src/kernob/bpf/include/*.h src/kernob/bpf/protocols/*.h)
	PYTHON=$(PYTHON) SUDO=$(SUDO) tools/setup.sh
	touch $@

run: setup
	SUDO=$(SUDO) tools/run.sh

# A shop of several services with load on it, and Kernob to watch it; Ctrl-C ends everything.
demo: setup
	SUDO=$(SUDO) tools/demo.sh

# FAULT=slow-query, errors, cache-timeout, name-stops or off, while the demo runs.
demo-fault:
	@$(BIN)/python -m demo.fault $(FAULT)

test: setup
	SUDO=$(SUDO) tools/test.sh

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run --Werror src/kernob/bpf/*.c src/kernob/bpf/include/*.h src/kernob/bpf/protocols/*.h

bench: setup
	$(SUDO) $(BIN)/python -m bench
	$(SUDO) $(BIN)/python -m bench.vm

# Whether the overhead, counted in instructions under emulation, is still that of the stored table.
overhead: setup
	$(SUDO) $(BIN)/python -m bench.vm --check

clean:
	rm -rf $(VENV) build dist src/kernob/bpf/*.o
