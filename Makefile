# `make run` and `make test` are all a newcomer needs; `make help` lists the rest.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SHELL := /bin/bash
.DEFAULT_GOAL := help

.PHONY: help setup setup-dev run test check format services wheel lock bench bench-peers bench-quick bench-baseline bench-docs conformance agents coding-agents soak catalog docs clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | column -t -s "$$(printf '\t')"

$(VENV)/.runtime: requirements.lock scripts/setup
	@PYTHON="$(PYTHON)" scripts/setup $(VENV) requirements.lock
	@touch $@

$(VENV)/.dev: requirements-dev.lock $(VENV)/.runtime
	@PYTHON="$(PYTHON)" scripts/setup $(VENV) requirements-dev.lock
	@touch $@

setup: $(VENV)/.runtime  ## the environment to run in, from the lock

setup-dev: $(VENV)/.dev  ## and what tests need

run: setup  ## start the gateway, send one request through it, show how to use it
	@$(BIN)/tieline up

test: setup-dev services agents check  ## every check and every test
	$(BIN)/pytest -n 2 --dist loadgroup --max-worker-restart 0
	$(BIN)/python -m benchmarks.quick --counts

check: setup-dev  ## lint, types, import contract
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: setup-dev  ## rewrite to the house style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

wheel: setup-dev  ## the wheel that is published, into dist/: hot modules compiled with mypyc; needs a C compiler, two minutes
	@scripts/compiled $(BIN)/python

services:  ## Redis, PostgreSQL, PgBouncer, nginx, Chromium for the tests, when we may install them
	@scripts/services

lock: setup-dev  ## renew the hash-locked dependency files
	$(BIN)/pip-compile -q --generate-hashes --allow-unsafe --strip-extras --no-emit-find-links --extra server --extra proxy --output-file requirements.lock pyproject.toml scripts/build.in
	$(BIN)/pip-compile -q --generate-hashes --allow-unsafe --strip-extras --no-emit-find-links --all-extras --output-file requirements-dev.lock pyproject.toml scripts/build.in scripts/dev.in
	@for at in tests/agents tests/agents/coding; do \
	  $(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --output-file $$at/requirements.lock $$at/requirements.in || exit 1; \
	done
	@if command -v npm >/dev/null; then npm install --silent --package-lock-only --omit-lockfile-registry-resolved --prefix tests/agents; fi

conformance: setup-dev  ## official SDKs x dialects x features, as a table
	$(BIN)/python -m tests.conformance

agents: setup-dev  ## agent frameworks for tests/agents, in environments of their own in the user's cache
	@$(BIN)/python -m tests.agents

coding-agents: setup-dev  ## Claude Code, Codex CLI, opencode, Continue, Aider: installed (600 MB) and run against simulated providers
	@$(BIN)/python -m tests.agents coding
	TIELINE_CODING_AGENTS=1 $(BIN)/pytest tests/agents/test_coding_agents.py

bench: wheel  ## floor, Tieline and installed peers in one run, 25 to 35 minutes; ARGS="--only request-1k" for a part
	$(BIN)/python -m benchmarks.run $(ARGS)

bench-peers: setup-dev  ## install LiteLLM proxy and Portkey gateway, in environments of their own
	$(BIN)/python -m benchmarks.peers install

bench-quick: setup-dev  ## under a minute: instructions a request, as ratios to the floor, against the stored ones
	$(BIN)/python -m benchmarks.quick

bench-baseline: setup-dev  ## store what bench-quick finds now as what it compares with
	$(BIN)/python -m benchmarks.quick --store

bench-docs: setup-dev  ## write the table of docs/performance.md from benchmarks/results/latest.json
	$(BIN)/python -m benchmarks.page

soak: setup-dev  ## steady load with random faults; MINUTES=60 for the long one
	$(BIN)/python -m tieline.drills.soak --minutes $${MINUTES:-3}

catalog: setup-dev  ## regenerate the model catalog from its sources
	$(BIN)/python scripts/build_catalog.py

docs: setup-dev  ## regenerate the pages that are made from code
	$(BIN)/python scripts/gen_docs.py

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
