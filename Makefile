# The entry point for users and developers; `make help` lists the targets.
# Any setting may follow a target, as in `make demo DATASET=ml-latest-small DATA_SOURCE=~/ml-latest-small`.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.SUFFIXES:
# The targets of a pipeline depend on each other's files in the order of the command line.
.NOTPARALLEL:
MAKEFLAGS += --no-print-directory

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check --quiet
# Jobs run in a container if this folder's stack is up (or with STACK=docker), otherwise in the virtual environment.
ifndef STACK
STACK := $(if $(wildcard .env),$(shell docker compose ps --quiet mlflow 2>/dev/null | grep -q . && echo docker))
endif
ifeq ($(STACK),docker)
JOB = docker compose --profile jobs build --quiet jobs && docker compose --progress quiet run --rm jobs python -m
WITH_STORES :=
JOB_NEEDS :=
else
JOB := $(BIN)/python -m
# Starts Redis and MLflow for the duration of the job, unless they are already running.
WITH_STORES := $(BIN)/python -m local.stores
JOB_NEEDS := $(VENV)/local
endif
# The packages of each environment, pinned with their hashes; `make lock` writes these files.
LOCKS := $(patsubst %.txt,%.lock,$(wildcard */requirements.txt)) requirements-dev.lock

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-15s %s\n", $$1, $$2}'

# --- the main job -----------------------------------------------------------------------------------------------------

DEMO_TRAIN_MINUTES := $(or $(TRAIN_MINUTES),3)# enough for a first look

.PHONY: demo
demo: $(VENV)/local ## Prepare data, train and serve on this machine, without Docker; Ctrl-C stops it
	@$(MAKE) pipeline STACK=local TRAIN_MINUTES=$(DEMO_TRAIN_MINUTES)
	@$(BIN)/python -m local.demo

.PHONY: pipeline
pipeline: $(JOB_NEEDS) ## Run all jobs in order; finished work is kept
	@$(WITH_STORES) $(MAKE) data train evaluate final-fit register index seed promote

.PHONY: data
data: $(JOB_NEEDS) ## Prepare DATASET (shop, ml-latest-small, ..., amazon-<category>, csv) from DATA_SOURCE or a download
	@$(JOB) training.jobs.prepare

.PHONY: train
train: $(JOB_NEEDS) ## Train the two towers and the second stage for at most TRAIN_MINUTES
	@$(JOB) training.jobs.train
	@$(JOB) training.jobs.train_second_stage

.PHONY: second-stage
second-stage: $(JOB_NEEDS) ## Train only the second stage, on the latest towers
	@$(JOB) training.jobs.train_second_stage

.PHONY: evaluate
evaluate: $(JOB_NEEDS) ## Evaluate the model and its baselines; writes data/reports/
	@$(JOB) training.jobs.evaluate

.PHONY: final-fit
final-fit: $(JOB_NEEDS) ## Continue the model on what it was measured on, too, for serving
	@$(JOB) training.jobs.final_fit

.PHONY: register
register: $(JOB_NEEDS) ## Register the final fit as a version in the MLflow registry
	@$(WITH_STORES) $(JOB) training.jobs.register

.PHONY: index
index: $(JOB_NEEDS) ## Build, tune and verify the version's Qdrant collection; REBUILD=1 builds it again
	@$(WITH_STORES) $(JOB) training.jobs.index

.PHONY: seed
seed: $(JOB_NEEDS) ## Fill Redis with histories, attributes and popular items
	@$(WITH_STORES) $(JOB) training.jobs.seed

.PHONY: promote
promote: $(JOB_NEEDS) ## Make VERSION (default: the newest) the champion, if it is no worse and loaded; FORCE=1 does not compare
	@$(WITH_STORES) $(JOB) training.jobs.promote

.PHONY: ramp
ramp: $(JOB_NEEDS) ## Give the champion of a ramped promotion SHARE percent of the users, or the next share of its ramp
	@$(WITH_STORES) $(JOB) training.jobs.ramp

.PHONY: rollback
rollback: $(JOB_NEEDS) ## Make the previous champion the champion again; REASON="..." is kept with the one that goes
	@$(WITH_STORES) $(JOB) training.jobs.rollback

.PHONY: releases
releases: $(JOB_NEEDS) ## List the versions with their aliases, metrics, age and size
	@$(WITH_STORES) $(JOB) training.jobs.releases

.PHONY: prune
prune: $(JOB_NEEDS) ## Remove all collections and local models except the newest KEEP (3) and those that serve
	@$(WITH_STORES) $(JOB) training.jobs.prune

.PHONY: retrain
retrain: $(JOB_NEEDS) ## Train on the log and on the events collected until now, and promote the model if it is no worse
	@$(WITH_STORES) $(JOB) training.jobs.retrain

.PHONY: precompute
precompute: $(JOB_NEEDS) ## Renew the champion's lists for the PRECOMPUTE_USERS (2,000) users who were active last
	@$(WITH_STORES) $(JOB) training.jobs.precompute

.PHONY: evaluate-served
evaluate-served: $(VENV)/local ## Replay the test users through services of their own; compare with `make evaluate`
	@$(WITH_STORES) $(BIN)/python -m local.evaluate_served

.PHONY: export
export: $(JOB_NEEDS) ## Write the event log of a range of time (FROM, TO) to data/exports/ as FORMAT (parquet, csv)
	@$(JOB) training.jobs.export

.PHONY: report
report: $(JOB_NEEDS) ## Report what users did with each release, from the event log; writes data/reports/
	@$(WITH_STORES) $(JOB) training.jobs.report

# --- development ------------------------------------------------------------------------------------------------------

PYTEST := $(BIN)/python -m pytest
SIDE_BY_SIDE := --dist loadscope --no-loadscope-reorder --numprocesses
# The tests often wait, for a process to start or for training to end, so there is one worker more than cores.
TEST_WORKERS ?= $(shell expr $$(nproc) + 1)
# These measure time, so nothing runs beside them.
TIMED_TESTS := tests/faults/ tests/contract/test_deadlines.py tests/integration/test_three_rankers.py

.PHONY: test
test: $(VENV)/dev ## All tests, unit tests first, against real servers on free ports; PYTEST_ARGS adds options
	@$(PYTEST) $(SIDE_BY_SIDE) $(TEST_WORKERS) $(addprefix --deselect=,$(TIMED_TESTS)) $(PYTEST_ARGS)
	@$(PYTEST) $(TIMED_TESTS) $(PYTEST_ARGS)

.PHONY: check
check: lint ## The checks to run on every save: lint, the unit tests and the contract tests
	@$(PYTEST) $(SIDE_BY_SIDE) $(TEST_WORKERS) --hypothesis-profile=quick tests/contract tests/unit $(PYTEST_ARGS)

.PHONY: lint
lint: $(VENV)/dev ## Run ruff, mypy, the import rules, and the audit of the locked packages
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python -m local.audit

.PHONY: format
format: $(VENV)/dev ## Format the code with ruff
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

.PHONY: bench
bench: $(VENV)/local ## Speed and CPU of a stack of its own, beside Ray Serve; needs wrk; writes docs/performance.md
	@BENCH_PAGE=docs/performance.md $(BIN)/python -m bench.speed

.PHONY: overload
overload: $(VENV)/local ## Load a running `make demo` with up to three times its capacity
	@$(BIN)/python -m bench.overload

.PHONY: soak
soak: $(VENV)/local ## Check the memory of every process over SOAK_PROMOTIONS (30) promotions under load, on a stack of its own
	@SOAK_TABLE=docs/reliability.md $(BIN)/python -m bench.soak

.PHONY: simulate
simulate: $(VENV)/local ## Prove that the loop closes: SEEDS (3) simulated shops on stacks of their own; writes data/reports/simulation.json
	@$(BIN)/python -m simulation

.PHONY: faults
faults: $(VENV)/dev ## Kill, freeze and corrupt every part of a stack under load; writes the table in docs/reliability.md
	@FAULT_SECONDS=8 FAULT_TABLE=docs/reliability.md $(PYTEST) -s tests/faults $(PYTEST_ARGS)

# torch has no hashes in the lock, because its CPU build comes from an index of its own. Without access to that index:
# make lock TORCH_SOURCE='--find-links <folder with the wheel>'
TORCH_SOURCE := --torch-backend cpu
LOCK := $(BIN)/uv pip compile --quiet --generate-hashes --no-annotate --python-version 3.11 $(TORCH_SOURCE) \
  --constraint <(grep ^torch== requirements-torch.txt) --no-emit-package torch --no-emit-package pip

.PHONY: lock
lock: export UV_CUSTOM_COMPILE_COMMAND = make lock
lock: $(VENV)/dev ## Pin every package in the requirements*.lock files; LOCK_ARGS=--upgrade takes the newest versions
	@$(LOCK) $(LOCK_ARGS) requirements-dev.txt --output-file requirements-dev.lock
	@for lock in $(filter-out requirements-dev.lock,$(LOCKS)); do \
	  $(LOCK) $${lock%.lock}.txt --constraint requirements-dev.lock --output-file $$lock || exit; \
	done

.PHONY: clean
clean: ## Delete the local stores and everything that jobs wrote; downloads stay
	@rm -rf .run data/processed data/models data/reports data/events data/exports data/simulation

# --- docker -----------------------------------------------------------------------------------------------------------

WITH_PROFILES := docker compose --profile jobs --profile observability --profile retraining

# Replaces the placeholders of .env.example with random secrets.
.env:
	@umask 077; while IFS= read -r line; do case $$line in \
	  *=change-me*) echo "$${line%%=*}=$$(head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \n')" ;; \
	  '#JOBS_USER='*) echo "JOBS_USER=$$(id -u):$$(id -g)" ;; \
	  *) printf '%s\n' "$$line" ;; \
	esac; done < .env.example > .env.partial && mv .env.partial .env
	@echo "wrote .env with new secrets"

.PHONY: up
up: .env ## Start the stack in containers and wait until it is healthy; writes .env if it is missing
	@docker compose --profile jobs build
	@docker compose up --detach --wait
	@api=$$(docker compose port orchestrator 8000) && mlflow=$$(docker compose port mlflow 5000) && printf '%s\n' \
	  "" "API      http://$$api/docs" "MLflow   http://$$mlflow" \
	  "" "Fill it: make pipeline" \
	  "Try it:  curl -s -H \"X-API-Key: \$$(sed -n s/^API_KEY=//p .env)\" 'http://$$api/v1/popular?top_k=5'"

.PHONY: down
down: ## Stop the stack; its data stays
	@$(WITH_PROFILES) down

.PHONY: logs
logs: ## Follow the logs of the stack or of SERVICE
	@docker compose logs --follow --tail 100 $(SERVICE)

.PHONY: ps
ps: ## List the containers of the stack and their health
	@docker compose ps

.PHONY: destroy
destroy: ## Stop the stack and delete its data, after a confirmation
	@read -r -p "Delete the containers and all data of Redis, Qdrant and MLflow? (data/ and .env stay) [y/N] " answer; \
	  if [[ $$answer == [yY]* ]]; then $(WITH_PROFILES) down --volumes --remove-orphans; else echo "nothing was deleted"; fi

.PHONY: test-compose
test-compose: $(VENV)/dev ## Build, start, test and remove the stack on a Docker engine
	@$(PYTEST) -s -m compose tests/compose $(PYTEST_ARGS)

# --- the virtual environment ------------------------------------------------------------------------------------------

$(VENV)/bin/python:
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	  || { echo "make: Python 3.11 or newer is required, and neither python3.11 nor python3 is one (set PYTHON=<path>)" >&2; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip' 2>/dev/null \
	  || { echo "make: this Python has no venv module; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@"$(PYTHON)" -m venv $(VENV)

$(VENV)/local: $(VENV)/bin/python requirements-torch.txt local/requirements.lock
	@echo "installing the packages of Tandem into $(VENV); this takes some minutes the first time ..."
	@$(PIP) --no-deps --retries 1 -r requirements-torch.txt 2> >(grep -v WARNING >&2)
	@$(PIP) --no-deps --require-hashes -r local/requirements.lock 2> >(grep -v WARNING >&2)
	@touch $@

$(VENV)/dev: $(VENV)/local requirements-dev.lock
	@$(PIP) --no-deps --require-hashes -r requirements-dev.lock 2> >(grep -v WARNING >&2)
	@touch $@
