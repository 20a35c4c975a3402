# Every command that people type. `make help` lists them.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CONFIG ?= services/trainer/configs/mien-small.toml
DATA ?= data/fer2013.npz
PHOTOS ?= photos
INPUT ?= photos
OUT ?= scored
WORKDIR ?= runs/$(basename $(notdir $(CONFIG)))

.DEFAULT_GOAL := help
.PHONY: help run test containers-test check format trainer train score archive-test bench fuzz soak audit sbom yunet requirements clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(VENV)/.api ## serve on http://localhost:8000 (MIEN_PORT, MIEN_MODEL, … as in docs/operations.md)
	@exec $(BIN)/python -m services.api

test: $(VENV)/.dev ## install what the tests need, and run all of them
	@$(BIN)/python -m pytest

containers-test: $(VENV)/.dev ## build the images and use them: needs Docker, or podman (see tests/deploy/containers.sh)
	@tests/deploy/containers.sh

check: $(VENV)/.dev ## formatting, lint and types
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy

format: $(VENV)/.dev ## format the code
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

trainer: $(VENV)/.trainer ## install what the trainer needs, for python -m services.trainer

train: $(VENV)/.trainer ## train CONFIG on DATA into WORKDIR; continues where it was stopped
	@$(BIN)/python -m services.trainer train --config $(CONFIG) --data $(DATA) --workdir $(WORKDIR)

score: $(VENV)/.batch ## read the faces of an archive: INPUT (a folder, a film, …) into OUT; continues where it was stopped
	@$(BIN)/python -m services.batch score $(INPUT) --out $(OUT)

archive-test: $(VENV)/.dev ## two Ray nodes on this machine, one of them killed (see tests/deploy/archive.sh)
	@tests/deploy/archive.sh

bench: $(VENV)/.dev ## speed and memory, as ratios; PHOTOS is a folder of photos with labels.csv
	@$(BIN)/python -m benchmarks.pipeline
	@$(BIN)/python -m benchmarks.load --photos $(PHOTOS)
	@$(BIN)/python -m benchmarks.stream
	@$(BIN)/python -m benchmarks.peers --photos $(PHOTOS)
	@$(BIN)/python -m benchmarks.archive $(PHOTOS) --count 2000 --frames 1000 5000

fuzz: $(VENV)/.dev ## mutate files, bodies and sessions for SECONDS (60), with a table at the end
	@$(BIN)/python -m tests.fuzz --seconds $(or $(SECONDS),60)

soak: $(VENV)/.dev ## a service under mixed and hostile traffic for MINUTES (60)
	@$(BIN)/python -m benchmarks.soak --minutes $(or $(MINUTES),60)

audit: $(VENV)/.dev ## known vulnerabilities in the packages that serve
	@said=$$($(BIN)/pip-audit --strict --progress-spinner off -r requirements/api.txt --disable-pip --no-deps 2>&1); status=$$?; \
	case "$$said" in *ERROR:*|*Traceback*) \
	  echo "error: not every package could be looked up: run this where https://pypi.org itself is reachable, not a mirror of it."; exit 2;; \
	esac; echo "$$said" | grep -v ^WARNING; exit $$status

sbom: $(VENV)/.dev ## the packages that serve, as CycloneDX, into sbom.json
	@$(BIN)/cyclonedx-py requirements requirements/api.txt --output-reproducible -o sbom.json

yunet: $(VENV)/.api ## fetch YuNet, another face detector, for MIEN_DETECTOR=yunet
	@$(BIN)/python -m services.api.fetch_yunet

requirements: $(VENV)/.dev ## pin requirements/*.txt again, from pyproject.toml
	@for extras in api otel batch trainer dev; do \
	  case $$extras in dev) all="--all-extras";; otel) all="--extra api --extra otel";; *) all="--extra $$extras";; esac; \
	  $(BIN)/uv pip compile -q --universal --python-version 3.11 --no-emit-index-url --no-header --no-annotate \
	    $$all pyproject.toml -o requirements/$$extras.txt || exit 1; \
	done

clean: ## remove what make created; keeps data, runs and models
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache

# One stamp per set of packages: it is installed once, and again when its pins change.

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: Python 3.11 or newer is needed; name one with PYTHON=…"; exit 1; }
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.api: requirements/api.txt | $(VENV)/bin/python
	@echo "Installing what the API needs…"
	@$(BIN)/python -m pip install -q --disable-pip-version-check -r $<
	@touch $@

$(VENV)/.batch: requirements/batch.txt | $(VENV)/bin/python
	@echo "Installing what archives need…"
	@$(BIN)/python -m pip install -q --disable-pip-version-check -r $<
	@touch $@

$(VENV)/.trainer: requirements/trainer.txt | $(VENV)/bin/python
	@echo "Installing what the trainer needs…"
	@$(BIN)/python -m pip install -q --disable-pip-version-check -r $<
	@touch $@

$(VENV)/.dev: requirements/dev.txt | $(VENV)/bin/python
	@echo "Installing what the API, the trainer and the tests need…"
	@$(BIN)/python -m pip install -q --disable-pip-version-check -r $<
	@touch $@
