# Two commands on a fresh Debian machine: `make demo` and `make test`. Everything else is set up by them.
SHELL := /bin/bash
VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.stamp-dev
NATIVE := hatch_build.py $(shell find src -name '_*.[ch]')
# These tests keep real time. On a busy machine one may fail for that alone, so a failed one is run again, and said to be.
AGAIN := --reruns 2 --reruns-delay 2
SYSTEM_PACKAGES := chromium flite iproute2 openssl redis-server redis-tools
# Hundreds of processes start during the tests. Where the environment (as that of many containers) forbids to keep
# compiled modules, each would compile all of voxload again: a third of its start.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test lint format bench bench-check sanitize docs schema speech system clean help

help:            ## list the targets
	@grep -E '^[a-z-]+: .*##|^[a-z-]+:  *##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

$(VENV)/bin/python:
	@command -v python3 >/dev/null || { apt-get update -qq && apt-get install -y -qq python3; }
	@python3 -m venv $(VENV) 2>/dev/null || { rm -rf $(VENV); apt-get update -qq && apt-get install -y -qq python3-venv && python3 -m venv $(VENV); }

$(VENV)/.stamp: pyproject.toml $(NATIVE) | $(VENV)/bin/python
	@echo "installing voxload into $(VENV)"
	@$(PY) -m pip install --quiet --disable-pip-version-check -e .
	@touch $@

$(STAMP): pyproject.toml $(NATIVE) | $(VENV)/bin/python
	@echo "installing voxload and its development tools into $(VENV)"
	@$(PY) -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@ $(VENV)/.stamp

demo: $(VENV)/.stamp  ## place 200 calls on the embedded agent and write a report
	@$(VENV)/bin/voxload run examples/demo.yaml

system:          ## install the Debian packages that the tests need
	@missing=""; for package in $(SYSTEM_PACKAGES); do dpkg -s $$package >/dev/null 2>&1 || missing="$$missing $$package"; done; \
	if [ -n "$$missing" ]; then echo "installing$$missing"; \
	  if [ $$(id -u) = 0 ]; then SUDO=""; else SUDO=sudo; fi; \
	  $$SUDO apt-get update -qq && DEBIAN_FRONTEND=noninteractive $$SUDO apt-get install -y -qq --no-install-recommends $$missing >/dev/null; fi

test: $(STAMP) system  ## run all tests
	@$(PY) -m pytest -n 4 --dist worksteal $(AGAIN)

lint: $(STAMP)   ## ruff and mypy --strict
	@$(VENV)/bin/ruff check src tests benchmarks scripts
	@$(VENV)/bin/ruff format --check src tests benchmarks scripts
	@$(VENV)/bin/mypy

format: $(STAMP) ## put the code into its form
	@$(VENV)/bin/ruff check --fix src tests benchmarks scripts
	@$(VENV)/bin/ruff format src tests benchmarks scripts

bench: $(STAMP)  ## measure voxload beside its peers, in one run (15 minutes), into benchmarks/RESULTS.md
	@$(PY) -m pip install --quiet --disable-pip-version-check -e '.[bench]'
	@-$(PY) -m benchmarks.peer_artillery --install
	@$(PY) -m benchmarks.run --write

bench-check: $(STAMP)  ## count the instructions of the hot path and compare them with the committed counts
	@$(PY) -m benchmarks.instructions

sanitize: $(STAMP)  ## run the tests of the parts in C with gcc's address and undefined-behaviour sanitizers
	@$(PY) scripts/sanitize.py

docs: $(STAMP)   ## make what the documentation takes from the code again (schema)
	@$(VENV)/bin/voxload schema --write schema/scenario.schema.json
	@$(VENV)/bin/voxload schema component --write schema/component.schema.json
	@$(PY) scripts/metrics_table.py

speech: $(STAMP) system  ## make the speech corpus again with flite
	@$(PY) scripts/make_speech.py

clean:           ## remove what the other targets made
	@rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis results
