# Everything starts here: `make help` lists the targets.
# Any setting may follow a target, as in `make demo DATASET=ml-latest-small DATA_SOURCE=~/ml-latest-small`.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.SUFFIXES:
MAKEFLAGS += --no-print-directory

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check --quiet
# The jobs find Redis and MLflow through this: it starts those that nobody runs, for as long as the job takes.
WITH_STORES := $(BIN)/python -m local.stores
SERVICE_REQUIREMENTS := $(wildcard */requirements.txt) requirements-torch.txt constraints.txt

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-12s %s\n", $$1, $$2}'

# --- the main job -----------------------------------------------------------------------------------------------------

.PHONY: demo
demo: pipeline ## Prepare, train and serve on this machine, without Docker; Ctrl-C stops it
	@$(BIN)/python -m local.demo

.PHONY: pipeline
pipeline: $(VENV)/local ## All jobs in their order; what is there already is kept
	@$(WITH_STORES) $(MAKE) data train evaluate register index seed

.PHONY: data
data: $(VENV)/local ## Prepare DATASET (shop, ml-latest-small, ..., amazon-<category>, csv) from DATA_SOURCE or the network
	@$(BIN)/python -m training.prepare

.PHONY: train
train: $(VENV)/local ## Train the two towers for at most TRAIN_MINUTES
	@$(BIN)/python -m training.train

.PHONY: evaluate
evaluate: $(VENV)/local ## Test the model beside its baselines; writes data/reports/
	@$(BIN)/python -m training.evaluate

.PHONY: register
register: $(VENV)/local ## Make the model a version in the MLflow registry
	@$(WITH_STORES) $(BIN)/python -m training.register

.PHONY: index
index: $(VENV)/local ## Build and verify that version's Qdrant collection, then make it the champion
	@$(WITH_STORES) $(BIN)/python -m training.index

.PHONY: seed
seed: $(VENV)/local ## Fill Redis with histories, attributes and popular items
	@$(WITH_STORES) $(BIN)/python -m training.seed

# --- development ------------------------------------------------------------------------------------------------------

.PHONY: test
test: $(VENV)/dev ## All tests, against real engines on ports they choose themselves
	@$(BIN)/python -m pytest $(PYTEST_ARGS)

.PHONY: lint
lint: $(VENV)/dev ## ruff, mypy and the import rules
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

.PHONY: format
format: $(VENV)/dev ## Let ruff put the code in order
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

.PHONY: lock
lock: $(VENV)/dev ## Write the versions that are installed into constraints.txt
	@{ head -1 constraints.txt; $(BIN)/pip freeze | sed 's/+cpu$$//' | grep -vE '^(pip|setuptools)( |=|@)'; } > constraints.partial
	@mv constraints.partial constraints.txt

.PHONY: clean
clean: ## Forget what the stores hold and what the jobs wrote; prepared downloads stay
	@rm -rf .run data/processed data/models data/reports

# --- the virtual environment ------------------------------------------------------------------------------------------

$(VENV)/bin/python:
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	  || { echo "make: Python 3.11 or newer is needed; found none as python3.11 or python3 (set PYTHON=<path>)" >&2; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip' 2>/dev/null \
	  || { echo "make: this Python has no venv module; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@"$(PYTHON)" -m venv $(VENV)

$(VENV)/local: $(VENV)/bin/python $(SERVICE_REQUIREMENTS)
	@echo "installing what Tandem needs into $(VENV), some minutes the first time ..."
	@$(PIP) --no-deps --retries 1 -r requirements-torch.txt 2> >(grep -v WARNING >&2)
	@$(PIP) -r local/requirements.txt -c constraints.txt 2> >(grep -v WARNING >&2)
	@touch $@

$(VENV)/dev: $(VENV)/local requirements-dev.txt
	@$(PIP) -r requirements-dev.txt -c constraints.txt 2> >(grep -v WARNING >&2)
	@touch $@
