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
# Jobs run in a container while this folder's stack is up (or with STACK=docker), or else in the virtual environment.
ifndef STACK
STACK := $(if $(wildcard .env),$(shell docker compose ps --quiet mlflow 2>/dev/null | grep -q . && echo docker))
endif
ifeq ($(STACK),docker)
JOB = docker compose --profile jobs build --quiet jobs && docker compose --progress quiet run --rm jobs python -m
WITH_STORES :=
JOB_NEEDS :=
else
JOB := $(BIN)/python -m
# Starts the Redis and the MLflow that nobody runs, for as long as the job takes.
WITH_STORES := $(BIN)/python -m local.stores
JOB_NEEDS := $(VENV)/local
endif
SERVICE_REQUIREMENTS := $(wildcard */requirements.txt) requirements-torch.txt constraints.txt

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-12s %s\n", $$1, $$2}'

# --- the main job -----------------------------------------------------------------------------------------------------

DEMO_TRAIN_MINUTES := $(or $(TRAIN_MINUTES),3)# enough for a first look

.PHONY: demo
demo: $(VENV)/local ## Prepare, train and serve on this machine, without Docker; Ctrl-C stops it
	@$(MAKE) pipeline STACK=local TRAIN_MINUTES=$(DEMO_TRAIN_MINUTES)
	@$(BIN)/python -m local.demo

.PHONY: pipeline
pipeline: $(JOB_NEEDS) ## All jobs in their order; what is there already is kept
	@$(WITH_STORES) $(MAKE) data train evaluate register index seed promote

.PHONY: data
data: $(JOB_NEEDS) ## Prepare DATASET (shop, ml-latest-small, ..., amazon-<category>, csv) from DATA_SOURCE or the network
	@$(JOB) training.jobs.prepare

.PHONY: train
train: $(JOB_NEEDS) ## Train the two towers and the second stage for at most TRAIN_MINUTES
	@$(JOB) training.jobs.train
	@$(JOB) training.jobs.train_second_stage

.PHONY: second-stage
second-stage: $(JOB_NEEDS) ## Train only the second stage, on the latest towers
	@$(JOB) training.jobs.train_second_stage

.PHONY: evaluate
evaluate: $(JOB_NEEDS) ## Test the model beside its baselines; writes data/reports/
	@$(JOB) training.jobs.evaluate

.PHONY: register
register: $(JOB_NEEDS) ## Make the model a version in the MLflow registry
	@$(WITH_STORES) $(JOB) training.jobs.register

.PHONY: index
index: $(JOB_NEEDS) ## Build, tune and verify that version's Qdrant collection; REBUILD=1 even if it is there
	@$(WITH_STORES) $(JOB) training.jobs.index

.PHONY: seed
seed: $(JOB_NEEDS) ## Fill Redis with histories, attributes and popular items
	@$(WITH_STORES) $(JOB) training.jobs.seed

.PHONY: promote
promote: $(JOB_NEEDS) ## Make VERSION (the newest) the champion, once it is verified and warm; FORCE=1 if it is worse
	@$(WITH_STORES) $(JOB) training.jobs.promote

.PHONY: rollback
rollback: $(JOB_NEEDS) ## Make the champion before the champion again
	@$(WITH_STORES) $(JOB) training.jobs.rollback

.PHONY: releases
releases: $(JOB_NEEDS) ## List versions, aliases, metrics, age and size
	@$(WITH_STORES) $(JOB) training.jobs.releases

.PHONY: prune
prune: $(JOB_NEEDS) ## Remove all but the newest KEEP (3) collections, and nothing that serves
	@$(WITH_STORES) $(JOB) training.jobs.prune

.PHONY: precompute
precompute: $(JOB_NEEDS) ## Write every active user's list by the champion to Redis
	@$(WITH_STORES) $(JOB) training.jobs.precompute

.PHONY: evaluate-served
evaluate-served: $(JOB_NEEDS) ## Replay the test users through the running services and compare with `make evaluate`
	@$(WITH_STORES) $(JOB) training.jobs.evaluate_served

# --- development ------------------------------------------------------------------------------------------------------

.PHONY: test
test: $(VENV)/dev ## All tests, against real engines on ports they choose themselves
	@$(BIN)/python -m pytest $(PYTEST_ARGS)

.PHONY: lint
lint: $(VENV)/dev ## ruff, mypy, the import rules, and what is known against the locked packages
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python -m local.audit

.PHONY: format
format: $(VENV)/dev ## Let ruff put the code in order
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

.PHONY: bench
bench: $(VENV)/local ## Measure a running `make demo`; every figure beside the floor of the same run
	@$(BIN)/python -m bench.load

.PHONY: overload
overload: $(VENV)/local ## Offer a running `make demo` up to three times what it can serve
	@$(BIN)/python -m bench.overload

.PHONY: soak
soak: $(VENV)/local ## Use a running `make demo` for SOAK_MINUTES (30) and watch its memory
	@$(BIN)/python -m bench.soak

.PHONY: faults
faults: $(VENV)/dev ## Kill, freeze and spoil every part of a stack under load; writes the table in docs/reliability.md
	@FAULT_SECONDS=8 FAULT_TABLE=docs/reliability.md $(BIN)/python -m pytest -s tests/faults $(PYTEST_ARGS)

.PHONY: lock
lock: $(VENV)/dev ## Write the versions that are installed into constraints.txt
	@{ head -1 constraints.txt; $(BIN)/pip freeze | sed 's/+cpu$$//' | grep -vE '^(pip|setuptools)( |=|@)'; } > constraints.partial
	@mv constraints.partial constraints.txt

.PHONY: clean
clean: ## Forget what the stores hold and what the jobs wrote; prepared downloads stay
	@rm -rf .run data/processed data/models data/reports

# --- docker -----------------------------------------------------------------------------------------------------------

WITH_PROFILES := docker compose --profile jobs --profile observability

# The secrets that .env.example leaves open are made up here; MySQL and the S3 store keep those of their first start.
.env:
	@umask 077; while IFS= read -r line; do case $$line in \
	  *=change-me*) echo "$${line%%=*}=$$(head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \n')" ;; \
	  '#JOBS_USER='*) echo "JOBS_USER=$$(id -u):$$(id -g)" ;; \
	  *) printf '%s\n' "$$line" ;; \
	esac; done < .env.example > .env.partial && mv .env.partial .env
	@echo "wrote .env with new secrets"

.PHONY: up
up: .env ## Start the stack in containers and wait until it is healthy; .env is written where there is none
	@docker compose --profile jobs build
	@docker compose up --detach --wait
	@api=$$(docker compose port orchestrator 8000) && mlflow=$$(docker compose port mlflow 5000) && printf '%s\n' \
	  "" "API      http://$$api/docs" "MLflow   http://$$mlflow" \
	  "" "Fill it: make pipeline" \
	  "Try it:  curl -s -H \"X-API-Key: \$$(sed -n s/^API_KEY=//p .env)\" 'http://$$api/v1/popular?top_k=5'"

.PHONY: down
down: ## Stop the stack; what its stores hold stays
	@$(WITH_PROFILES) down

.PHONY: logs
logs: ## Follow the logs of the stack, or of SERVICE
	@docker compose logs --follow --tail 100 $(SERVICE)

.PHONY: ps
ps: ## The containers of the stack and their health
	@docker compose ps

.PHONY: destroy
destroy: ## Stop the stack and delete what its stores hold; asks first
	@read -r -p "Delete the containers and all that Redis, Qdrant and MLflow hold? (data/ and .env stay) [y/N] " answer; \
	  if [[ $$answer == [yY]* ]]; then $(WITH_PROFILES) down --volumes --remove-orphans; else echo "nothing was deleted"; fi

.PHONY: test-compose
test-compose: $(VENV)/dev ## Build, start, exercise and remove the stack, on a real Docker engine
	@$(BIN)/python -m pytest -s -m compose tests/compose $(PYTEST_ARGS)

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
