# `make` alone prints this help.
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || echo python3.11)
VENV ?= .venv
BIN := $(VENV)/bin
# More than two cores need: many tests wait for processes and brokers.
JOBS ?= 4

.DEFAULT_GOAL := help
.PHONY: help install run test test-all chaos fuzz bench bench-push bench-capture bench-commits bench-scaling flink soak golden golden-graph image-template image-requirements image-check lint format types build clean

help: ## what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 15

# Made anew when what it installs changes.
$(VENV)/.installed: setup.py pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --editable '.[test]'
	@touch $@

install: $(VENV)/.installed ## make .venv and install everything into it

run: install ## real flights through a service, the pipeline, tables and Arize's protocol
	$(BIN)/weighbridge demo $(ARGS)

test: install ## everything but the slow tests
	$(BIN)/python -m pytest -n $(JOBS) -m 'not slow' --timeout 300

test-all: install ## all tests
	$(BIN)/python -m pytest -n $(JOBS)

chaos: install ## kill followers, runs, services and brokers again and again; CHAOS_SEED=n repeats what was printed
	CHAOS=long $(BIN)/python -m pytest tests/chaos -s $(ARGS)

fuzz: install ## feed made-up messages and archive files to the pipeline; ARGS='--examples 1000000 --seed 1'
	$(BIN)/python -m tests.fuzz $(ARGS)

bench: install ## the pipeline beside a hand-written loop; some 15 minutes, ARGS=--quick for one
	$(BIN)/python -m benchmarks $(ARGS)

bench-push: install ## what the push to Arize costs beside bare calls of its SDK; some 5 minutes
	$(BIN)/python -m benchmarks.push $(ARGS)

bench-capture: install ## what capture costs a service; some 25 minutes, ARGS=--quick for two
	$(BIN)/python -m benchmarks.capture $(ARGS)

bench-commits: install ## commits of Iceberg tables beside plain files and PyIceberg's append; some 5 minutes
	$(BIN)/python -m benchmarks.commits $(ARGS)

bench-scaling: install ## how the cost of an envelope grows, and what traffic takes; some 5 minutes, ARGS=--quick
	$(BIN)/python -m benchmarks.scaling $(ARGS)

flink: install ## a Flink cluster with two task managers to run the pipeline on, until Ctrl-C
	$(BIN)/python -m deploy.flink $(ARGS)

soak: install ## the highest rate of one process, held for 10 minutes, and its memory
	$(BIN)/python -m benchmarks.soak $(ARGS)

golden: install ## write the expected rows of MODEL's golden cases, for review with git diff
	@test -n "$(MODEL)" || { echo 'which? make golden MODEL=flight-delay'; exit 2; }
	$(BIN)/weighbridge models $(MODEL) --write_golden

golden-graph: install ## write down the graph of a streaming job, for review with git diff
	PYTHONPATH=tests $(BIN)/python -W ignore tests/graphs.py

image-template: install ## write the parameters of the flex template, deploy/metadata.json
	$(BIN)/python -W ignore -m pipelines.deploy.template > deploy/metadata.json

image-requirements: install ## resolve what the worker image installs; BASE=what Beam's own image holds
	@test -n "$(BASE)" || { echo 'which? see docs/images.md#requirements'; exit 2; }
	$(BIN)/python deploy/lock.py $(BASE)

image-check: install ## the worker image's steps in a clean root, and a staged job on it; as root
	$(BIN)/python -m pytest tests/test_clean_root.py tests/test_staged.py -rs

lint: install ## style of code and docs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: install ## put the code into style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: install ## mypy, strict
	$(BIN)/mypy

build: install ## the distributions that workers and model services install
	$(BIN)/python -m pip install --quiet build
	$(BIN)/python -m build --outdir dist .
	$(BIN)/python -m build --outdir dist handlers
	rm -rf build handlers/build handlers/*.egg-info

clean: ## remove what was made, but not a home folder
	rm -rf $(VENV) build dist *.egg-info handlers/*.egg-info .mypy_cache .ruff_cache
