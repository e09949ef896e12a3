# The few commands a user or developer needs. `make help` lists them.
#
# Settings:  PYTHON=python3.12      interpreter the environment is made with (3.11 or newer)
#            TORCH_INDEX=https://…  package index to take torch from, e.g. https://download.pytorch.org/whl/cpu
#                                   for the small CPU build; the default is PyPI
#            MODEL=…  ARGS=…        what `make serve` serves, and further options for it, or for the soak run

PYTHON ?= python3
TORCH_INDEX ?=
MODEL ?=
ARGS ?=

VENV := .venv
PIP := $(VENV)/bin/python -m pip --quiet --disable-pip-version-check
PINS := requirements/constraints.txt
TORCH := $(shell grep '^torch==' $(PINS))
NATIVE := setup.py $(wildcard cpu_ext/CMakeLists.txt cpu_ext/csrc/* cpu_ext/csrc/*/*)

.PHONY: help install serve cuda cuda-report gpu test test-slow test-random soak clients lint check clean
.DEFAULT_GOAL := help

help:
	@echo 'make serve      serve the demo model (or MODEL=directory) at http://127.0.0.1:8000/v1'
	@echo 'make test       run the default test suite (minutes)'
	@echo 'make test-slow  run the whole-model tests as well'
	@echo 'make test-random  run the default tests with examples nobody has seen before'
	@echo 'make soak       half an hour of load and faults on the demo model (ARGS="--minutes 3" for less)'
	@echo 'make clients    try a dozen OpenAI clients on the demo model and write docs/clients.md (ARGS="--only litellm" for some, unwritten)'
	@echo 'make check      lint, types and the default tests'
	@echo 'make cuda       build the CUDA kernels with nvcc, for the cards in this machine (QUIRE_CUDA_ARCHS=all for every card)'
	@echo 'make cuda-report  registers and shared memory of every CUDA kernel; fails if one spills'
	@echo 'make gpu        on a machine with a GPU: build, check and measure the CUDA kernels (minutes)'
	@echo 'make install    only create .venv with the quire command in it'

serve: install
	@$(VENV)/bin/quire serve $(MODEL) $(ARGS)

cuda: $(VENV)/.installed
	@$(VENV)/bin/python -m cuda_ext.build

cuda-report: cuda
	@$(VENV)/bin/python -m cuda_ext.report --check

gpu: $(VENV)/.installed-dev
	@$(VENV)/bin/python -m benchmarks.gpu $(ARGS)

test: $(VENV)/.installed-dev
	@$(VENV)/bin/python -m pytest -n auto --dist loadfile

test-slow: $(VENV)/.installed-cuda
	@$(VENV)/bin/python -m pytest -m slow --timeout=1800

test-random: $(VENV)/.installed-dev
	@$(VENV)/bin/python -m pytest -n auto --dist loadfile --hypothesis-profile=random

soak: $(VENV)/.installed-dev
	@$(VENV)/bin/python -m benchmarks.soak $(ARGS)

clients: $(VENV)/.installed-dev
	@$(VENV)/bin/python -m benchmarks.client_matrix $(or $(ARGS),--write)

lint: $(VENV)/.installed-dev
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/mypy

check: lint test

install: $(VENV)/.installed

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit("Quire needs Python 3.11 or newer, this is %d.%d; try: make PYTHON=python3.12 …" % sys.version_info[:2]) if sys.version_info < (3, 11) else None'
	@echo 'Creating $(VENV) …'
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml $(PINS) $(NATIVE) | $(VENV)/bin/python
	@echo 'Installing pinned dependencies and building the native library (a minute or two the first time) …'
	@$(PIP) install $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) $(TORCH)
	@$(PIP) install --constraint $(PINS) setuptools cmake ninja
	@$(PIP) install --constraint $(PINS) --no-build-isolation --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	@echo 'Installing what the tests need …'
	@$(PIP) install --constraint $(PINS) --no-build-isolation --editable '.[dev]'
	@touch $@

$(VENV)/.installed-cuda: requirements/cuda.txt | $(VENV)/.installed-dev
	@echo 'Installing nvcc, which the tests of the CUDA kernels compile with (300 MB) …'
	@$(PIP) install --requirement requirements/cuda.txt && touch $@ \
	    || echo 'nvcc is not to be had: the tests that need it will be skipped, unless one is installed here'

clean:
	rm -rf $(VENV) build cpu_ext/lib cuda_ext/lib *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
