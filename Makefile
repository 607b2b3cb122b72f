# Every way to check, change and release skex. `make` lists them; `make test` runs everything.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
MAKEFLAGS += --no-builtin-rules --no-print-directory --warn-undefined-variables
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.SUFFIXES:

VENV ?= .venv
BIN := $(VENV)/bin
# Test processes; JOBS=1 runs pytest in one process (for a debugger).
JOBS ?= $(shell nproc)
# Passed on to pytest: make unit ARGS='tests/unit/base -k name'
ARGS ?=
PARALLEL := $(if $(filter 1,$(JOBS)),,--numprocesses=$(JOBS))

# Hundreds of kills by themselves; a score in every run of the tests.
KILLS ?= 300
SEED ?= 1
# How long worlds are run, what reads foreign bytes is fuzzed, or everything of the kind in test-deep.
MINUTES ?= 10

export VENV
export PYTHONPATH :=

# The packages in which every branch must be tested: all that touches a key, a pad or a byte of the wire.
CORE := src/skex/base/*,src/skex/crypto/*,src/skex/wire/*,src/skex/pad/*,src/skex/protocol/*,src/skex/policy/*,src/skex/audit/*

headline = @printf '\n── %s\n'

.PHONY: help
help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: setup
setup: ## Create .venv from the pinned, hashed requirements (nothing to do when they are unchanged)
	@tools/setup.sh

# To add a check, write a target and name it here. Order: what fails fastest comes first; a failure
# does not hide those behind it.
.PHONY: test
test: setup ## Everything: what a change must pass
	@$(MAKE) --keep-going lint types contracts vectors-check coverage

.PHONY: lint
lint: setup ## Style, likely bugs, banned imports (ruff)
	$(headline) 'lint'
	@$(BIN)/ruff check --output-format=concise .
	@$(BIN)/ruff format --check .

.PHONY: format
format: setup ## Rewrite the code in the one format
	@$(BIN)/ruff check --quiet --fix-only .
	@$(BIN)/ruff format .

.PHONY: types
types: setup ## Types (mypy, strict)
	$(headline) 'types'
	@$(BIN)/mypy
	@MYPYPATH=tools $(BIN)/mypy tools/*.py

.PHONY: contracts
contracts: setup ## Layers: imports point downwards only (import-linter)
	$(headline) 'contracts'
	@$(BIN)/lint-imports --no-logo --cache-dir .import_linter_cache

.PHONY: unit
unit: setup ## Tests alone, without coverage; ARGS goes to pytest
	$(headline) 'tests'
	@$(BIN)/pytest $(PARALLEL) $(ARGS)

.PHONY: coverage
coverage: setup ## Tests with branch coverage, which must be complete in the core
	$(headline) 'tests'
	@$(BIN)/pytest $(PARALLEL) --cov --cov-report= $(ARGS)
	$(headline) 'branch coverage of everything'
	@$(BIN)/coverage report --format=total | sed 's/$$/ %/'
	$(headline) 'branch coverage of the core (must be 100 %)'
	@$(BIN)/coverage report --include='$(CORE)' --fail-under=100

.PHONY: kills
kills: setup ## Real daemons killed KILLS times under load, of seed SEED; prints what was measured
	$(headline) 'kills'
	@SKEX_KILLS=$(KILLS) SKEX_SEED=$(SEED) $(BIN)/pytest -q -s tests/daemon/test_kills.py $(ARGS)

.PHONY: demo
demo: ## The whole system at work, on this machine; ARGS=--json prints one JSON document alone
	@tools/demo.sh $(ARGS)

.PHONY: demo-trust
demo-trust: ## Who may have which key, what it rests on, what is safe after a break-in; ARGS=--json as above
	@tools/demo.sh --trust $(ARGS)

.PHONY: worlds
worlds: setup ## Simulated worlds for MINUTES (default 10), seed after seed from SEED
	$(headline) 'worlds'
	@PYTHONPATH=. $(BIN)/python -m simulation sweep --seed $(SEED) --minutes $(MINUTES) $(ARGS)

# Another seed each time unless SEED is given. ARGS='--only worlds kills', ARGS=--json.
.PHONY: test-deep
test-deep: setup fuzzer ## Worlds, kills, fuzzing, properties, planted bugs for MINUTES together (default 10)
	$(headline) 'deep'
	@PYTHONPATH=.:src $(BIN)/python tools/deep.py --minutes $(MINUTES) \
		$(if $(filter file,$(origin SEED)),,--seed $(SEED)) --jobs $(JOBS) $(ARGS)

# Over all targets together; ARGS names some of them, or a folder: ARGS='--corpus DIR "record header"'.
.PHONY: fuzz
fuzz: setup fuzzer ## Coverage-guided fuzzing of every decoder and machine for MINUTES (default 10); ARGS: targets
	$(headline) 'fuzz'
	@$(BIN)/python fuzz/run.py --seconds $$((60 * $(MINUTES))) $(ARGS)

.PHONY: fuzzer
fuzzer: setup
	@$(BIN)/python -c 'import atheris' 2>/dev/null || $(BIN)/python -m pip --quiet --no-input \
		--disable-pip-version-check install --require-hashes --only-binary :all: -r requirements/fuzz.txt

# pip-compile takes the hashes of every published file, so one list serves every Python and machine.
COMPILE = CUSTOM_COMPILE_COMMAND='make lock' $(BIN)/pip-compile --quiet --no-config --allow-unsafe --strip-extras \
	--generate-hashes --no-emit-options --no-emit-index-url $(ARGS)

.PHONY: lock
lock: setup ## Renew requirements/*.txt; ARGS=--upgrade for the newest, ARGS='-P NAME' for one package
	$(headline) 'runtime.txt'
	@$(COMPILE) --output-file requirements/runtime.txt pyproject.toml
	$(headline) 'dev.txt'
	@$(COMPILE) --output-file requirements/dev.txt requirements/dev.in
	$(headline) 'fuzz.txt'
	@$(COMPILE) --output-file requirements/fuzz.txt requirements/fuzz.in

.PHONY: docs
docs: setup ## Rewrite the generated parts of docs from the code
	@$(BIN)/python tools/specification.py
	@$(BIN)/python tools/diagrams.py
	@$(BIN)/python tools/references.py
	@$(BIN)/python tools/manual.py
	@$(BIN)/python tools/keypages.py
	@PYTHONPATH=. $(BIN)/python tools/mutations.py

# The generators use the simulation's machines, which stand at the top of the tree.
.PHONY: vectors
vectors: setup ## Rewrite docs/spec/vectors from the code
	@PYTHONPATH=. $(BIN)/python tools/vectors.py

.PHONY: vectors-check
vectors-check: setup ## The test vectors of the specification are what the code makes
	$(headline) 'vectors'
	@PYTHONPATH=. $(BIN)/python tools/vectors.py --check

.PHONY: clean
clean: ## Remove .venv and everything generated
	@rm -rf $(VENV) build dist src/*.egg-info .coverage .coverage.* htmlcov .hypothesis .import_linter_cache \
		.mypy_cache .pytest_cache .ruff_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
