# TenantVault. `make help` lists the targets.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
ORG ?= acme
PROVIDER ?= vapi
DATA ?= .local
SECONDS_TO_FUZZ ?= 60
SCENARIO ?= revocation kills rotation postgres workers clients
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv
# By another name, so that `make --dry-run` does not run the line in which it stands.
SUBMAKE := $(MAKE)
# What pytest ends with after Ctrl-C.
INTERRUPTED := 2

.PHONY: help run token fetch cli test check format lint types imports proto docs proto-check unit integration e2e screenshots figures bench bench-check chaos fuzz lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(UV): requirements/bootstrap.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "TenantVault needs Python 3.11 or newer; say which with: make PYTHON=python3.12 ..." >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bootstrap.txt
	@touch $@

# `make run` installs what runs; `make test` adds what tests. Both hold the same versions.
$(VENV)/.run: $(UV) requirements/local.txt pyproject.toml clients/python/pyproject.toml
	@$(UV) pip install --quiet --python $(BIN)/python --require-hashes -r requirements/local.txt
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e clients/python -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.run requirements/dev.txt
	@$(UV) pip install --quiet --python $(BIN)/python --require-hashes -r requirements/dev.txt
	@touch $@

$(VENV)/proto/.done: $(UV) requirements/proto.txt
	@$(UV) venv --quiet --clear --python $(BIN)/python $(VENV)/proto
	@$(UV) pip install --quiet --python $(VENV)/proto/bin/python --require-hashes -r requirements/proto.txt
	@touch $@

run: $(VENV)/.run ## start everything on this machine; Ctrl-C stops it
	@exec $(BIN)/python -m deploy.local --data $(DATA)

token: $(VENV)/.run ## print a bearer token for the local gateway (ORG=acme)
	@$(BIN)/python -m deploy.local --data $(DATA) token $(ORG)

fetch: $(VENV)/.run ## fetch a credential over gRPC from the local vault (ORG=acme PROVIDER=vapi; REVEAL=1 shows the secrets)
	@$(BIN)/python -m deploy.local --data $(DATA) fetch $(ORG) $(PROVIDER) $(if $(REVEAL),--reveal)

cli: $(VENV)/.run ## run the operator's command against the local vault (ARGS="keys status"; without: its help)
	@$(BIN)/python -m deploy.local --data $(DATA) cli -- $(or $(ARGS),--help)

# What is imported is compiled once, not by each of the many processes; some machines are told to keep none of it.
test: export PYTHONDONTWRITEBYTECODE :=
test: $(VENV)/.dev $(VENV)/proto/.done ## run everything: checks, unit, integration, browser
	@$(BIN)/coverage erase
	@mkdir -p .local
	@$(SUBMAKE) --no-print-directory lint types >.local/checks.log 2>&1 & checks=$$!; \
	trap 'kill $$checks 2>/dev/null' EXIT; \
	$(BIN)/python -m pytest -n 3 --dist loadgroup --cov --cov-report=term; tests=$$?; \
	test $$tests -ne $(INTERRUPTED) || exit $$tests; \
	wait $$checks; checked=$$?; trap - EXIT; cat .local/checks.log; exit $$((tests | checked))

check: lint types imports proto-check unit ## what to run before each commit

format: $(VENV)/.dev ## format the code
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix-only --quiet .

lint: $(VENV)/.dev ## ruff and buf
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check --quiet .
	@cd proto && ../$(BIN)/buf lint

types: $(VENV)/.dev ## mypy --strict
	@$(BIN)/mypy --no-error-summary

imports: $(VENV)/.dev ## the import contracts
	@$(BIN)/lint-imports --no-cache

proto: $(VENV)/proto/.done ## generate the Python code from the protos
	@cd proto && ../$(VENV)/proto/bin/python -m grpc_tools.protoc -I. \
		--plugin=protoc-gen-mypy=../$(VENV)/proto/bin/protoc-gen-mypy \
		--plugin=protoc-gen-mypy_grpc=../$(VENV)/proto/bin/protoc-gen-mypy_grpc \
		--python_out=$(or $(OUT),../clients/python/src) --grpc_python_out=$(or $(OUT),../clients/python/src) \
		--mypy_out=quiet:$(or $(OUT),../clients/python/src) --mypy_grpc_out=quiet:$(or $(OUT),../clients/python/src) \
		$$(cd . && ls tenantvault/v1/*.proto)

docs: $(VENV)/.dev ## write docs/providers.md anew from the providers' descriptions
	@$(BIN)/python -m tests.architecture.provider_docs

proto-check: $(VENV)/.dev $(VENV)/proto/.done ## generated code is what the protos say, and no change breaks a client
	@$(BIN)/python -m pytest -q tests/architecture/test_proto.py

unit: $(VENV)/.dev ## the tests that need no socket
	@$(BIN)/python -m pytest -q tests/unit tests/architecture clients/python/tests

integration: $(VENV)/.dev ## the tests against a real PostgreSQL and real mTLS
	@$(BIN)/python -m pytest -q tests/integration

e2e: $(VENV)/.dev ## the tests of all processes and a real browser
	@$(BIN)/python -m pytest -q tests/e2e

screenshots: $(VENV)/.dev ## picture every state of the dashboard to .local/screenshots/ (README=1 renews the README's pictures instead)
	@$(BIN)/python -m tests.e2e.screenshots $(if $(README),--shown)

figures: $(VENV)/.dev ## measure the dashboard's pages: size, requests, first paint; to .local/dashboard.json
	@$(BIN)/python -m tests.e2e.figures

bench: $(VENV)/.dev ## measure calls, client, webhooks and more against their goals; to .local/bench.json (BENCH="client scale" for some)
	@$(BIN)/python -m tests.bench $(BENCH)

bench-check: $(VENV)/.dev ## the same, and fail when a figure is 1.5 times worse than the one in tests/bench/figures.json
	@$(BIN)/python -m tests.bench $(BENCH) --check

chaos: $(VENV)/.dev ## kill, halt and cut off vaults, workers, PostgreSQL and clients for more than half an hour (SCENARIO=kills for one of them)
	@for scenario in $(SCENARIO); do $(BIN)/python -m tests.chaos $$scenario || exit 1; done

fuzz: $(VENV)/.dev ## fuzz the seal's parser and encoding (SECONDS_TO_FUZZ=60)
	@$(BIN)/python tests/fuzz/fuzz_seal.py -max_total_time=$(SECONDS_TO_FUZZ)

lock: $(UV) ## renew the hash-locked requirements
	@requirements/lock $(UV)

clean: ## remove the environment and the local data
	@rm -rf $(VENV) .local
