# Every target sets up what it needs. A fresh machine needs Python 3.11 or newer, Node.js 20 or newer and make.

PYTHON ?= python3
BIN := .venv/bin
CODE := agents benchmarks deploy fargate_worker functions infra local server shared tests

SITE := .turnkeeper/site-environment

# Tests start hundreds of programs: what those import is compiled once, and not each time.
export PYTHONDONTWRITEBYTECODE :=

# More than a small machine has processors, for most tests wait (tests/support/side_by_side.py).
SIDE_BY_SIDE := -n 5 --dist loadscope --no-loadscope-reorder

# The files that say `mark.long` or `mark.examples`: collecting all takes each worker as long as a test of theirs.
LONG = $(shell grep -rlE --include='test_*.py' 'mark\.(long|examples)' tests)

.DEFAULT_GOAL := help
.PHONY: help setup sdk demo test long nightly soak mutants up down check types lint docs site bench synth diff deploy lock clean

help:  ## what there is to make
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

demo: setup  ## the main job, end to end, on this machine
	$(BIN)/turnkeeper demo

test: setup  ## the tests that need no account and no key
	$(BIN)/pytest $(SIDE_BY_SIDE) -m "not nightly and not long"

long: setup  ## the tests that `make test` leaves out or runs short
	TURNKEEPER_EXAMPLES=all $(BIN)/pytest $(SIDE_BY_SIDE) -m "not nightly and (long or examples)" $(LONG)

nightly: setup sdk long  ## the long forms of the tests, 10,000 seeds of the simulation, and a sample of mutants
	TURNKEEPER_EXAMPLES=all $(BIN)/pytest -n 2 --dist loadscope -m nightly
	$(BIN)/pytest -n 2 -p tests.support.on_sqlite tests/contract/api
	TURNKEEPER_SIMULATION_SEEDS=10000 $(BIN)/pytest -n 2 tests/simulation
	$(BIN)/python -m tests.load --minutes 10 --report .turnkeeper/soak.json
	$(BIN)/python -m tests.support.mutants

soak: MINUTES ?= 10
soak: setup  ## load a local kit while its workers die, then check what must hold (MINUTES=10); SOAK="--seed 7" for more
	$(BIN)/python -m tests.load --minutes $(MINUTES) $(SOAK)

mutants: setup  ## break the core on purpose: which changes does no fast test notice; MUTANTS="--seed 7" for settings
	$(BIN)/python -m tests.support.mutants $(MUTANTS)

up: setup  ## the local kit, in the background
	$(BIN)/turnkeeper up

down: setup  ## end the local kit
	$(BIN)/turnkeeper down

check: setup  ## lint, types, layers, what must not be deployed, and whether every test can be imported
	$(MAKE) --no-print-directory --jobs 2 types lint

types:  # takes as long as all else together
	$(BIN)/mypy

lint:
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/lint-imports
	$(BIN)/turnkeeper check --strict
	$(BIN)/pytest --collect-only -qq >/dev/null

docs: setup  ## the parts of docs/ that are made from the code
	$(BIN)/python -m tests.support.docs
	$(BIN)/python -m tests.support.release_record

site: docs/site/node_modules $(SITE)/bin/sphinx-build  ## the documentation as pages, in .turnkeeper/site; every warning fails
	$(SITE)/bin/sphinx-build -W --keep-going -q -E -b html -c docs/site . .turnkeeper/site

bench: setup  ## measure, against peers and against the floor, into docs/performance.md; BENCH="step ready" for some
	$(BIN)/python -m benchmarks $(BENCH)
	$(BIN)/python -m tests.support.docs

synth: STAGE ?= dev
synth: setup  ## all stacks of a stage (STAGE=dev), checked by cdk-nag; needs no network, no account, no Docker
	$(BIN)/turnkeeper synth --stage $(STAGE) $(CONTEXT)

diff: STAGE ?= prod
diff: setup  ## what a deploy of a stage (STAGE=prod) would change in the account of the AWS credentials
	$(BIN)/turnkeeper diff --stage $(STAGE) $(CONTEXT)

deploy: STAGE ?= prod
deploy: setup  ## STACKS (all) of a stage (STAGE=prod) into the account of the AWS credentials; CONTEXT="-c key=value"
	$(BIN)/turnkeeper deploy --stage $(STAGE) $(STACKS) $(CONTEXT)

# Setting up ---------------------------------------------------------------------------------------------------------
# A stamp file stands for each environment, and is older than the lock file it was made from once that changed.

STAMPS := .turnkeeper/stamps

setup: $(STAMPS)/python $(STAMPS)/node  ## the environments, as locked

# A uv of this machine where there is one; else pip brings one along. The lock file holds uv too, so from then on
# the environment has its own.
$(STAMPS)/python: requirements/dev.txt pyproject.toml
	@mkdir -p $(STAMPS)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed; set PYTHON=..." >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@uv=$$(command -v $(BIN)/uv || command -v uv) \
		|| { $(BIN)/python -m pip install --quiet "$$(sed -n 's/^\(uv==[^ ]*\).*/\1/p' requirements/dev.txt)" \
		     && uv=$(BIN)/uv; }; \
	$$uv pip sync --quiet --python $(BIN)/python --compile-bytecode requirements/dev.txt \
		&& $$uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $@

$(STAMPS)/node: package-lock.json
	@mkdir -p $(STAMPS)
	@command -v node >/dev/null || { echo "Node.js 20 or newer is needed" >&2; exit 1; }
	npm ci --silent --no-audit --no-fund
	@touch $@

# The site is made by programs that nothing else needs.
$(SITE)/bin/sphinx-build: requirements/docs.txt | setup
	@$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(SITE)
	@$(BIN)/uv pip sync --quiet --python $(SITE)/bin/python requirements/docs.txt
	@touch $@

docs/site/node_modules: docs/site/package-lock.json
	@cd docs/site && npm ci --silent --no-audit --no-fund
	@touch $@

# 178 MB that most people have no use for, so it is not in .venv: the local kit's worker and the tests look for it here.
SDK := .turnkeeper/agent-sdk

sdk: $(SDK)/.installed  ## what agents on the Claude Agent SDK need, in .turnkeeper/agent-sdk

$(SDK)/.installed: requirements/agent-sdk.txt | setup
	@rm -rf $(SDK)
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --target $(SDK) --no-deps --require-hashes \
		-r requirements/agent-sdk.txt
	@touch $@

# Locking ------------------------------------------------------------------------------------------------------------

# What is locked stays as it is: UPGRADE=1 takes newer versions of everything, UPGRADE="mcp httpx2" of these.
NEWER := $(if $(filter 1,$(UPGRADE)),--upgrade,$(addprefix --upgrade-package=,$(UPGRADE)))
COMPILE := $(BIN)/uv pip compile --quiet $(NEWER) --universal --generate-hashes --python-version 3.11 \
	--no-annotate --no-header

lock: setup  ## write the lock files from pyproject.toml and package.json; UPGRADE=1 or UPGRADE="mcp ruff" for newer versions
	$(COMPILE) requirements/runtime.in -o requirements/runtime.txt
	$(BIN)/python -m turnkeeper_project.measuring requirements/runtime.txt
	$(BIN)/turnkeeper lock --no-install $(if $(UPGRADE),--upgrade $(filter-out 1,$(UPGRADE)))
	$(COMPILE) pyproject.toml agents/*/requirements.txt --constraints requirements.lock --extra infra --extra evals --group dev \
		-o requirements/dev.txt
	$(COMPILE) --group ministack -o requirements/ministack.txt
	$(COMPILE) --no-deps --group bench -o requirements/bench.txt
	$(COMPILE) --group docs -o requirements/docs.txt
	$(COMPILE) --no-deps requirements/agent-sdk.in -o requirements/agent-sdk.txt
	for peer in langgraph pydantic-ai strands; do $(COMPILE) requirements/peers/$$peer.in -o requirements/peers/$$peer.txt; done
	npm install --package-lock-only --omit-lockfile-registry-resolved --no-audit --no-fund

clean: setup  ## the local kit with its sessions, and everything that can be made again
	$(BIN)/turnkeeper down --forget --yes
	rm -rf .turnkeeper .venv node_modules cdk.out
