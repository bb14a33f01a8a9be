# Targets for people; `make` alone lists them.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

# Both are stamps: a lock file that changes is installed anew.
BASE := $(VENV)/base-installed
FULL := $(VENV)/full-installed

# Apart from the rest, because it brings packages of its own.
AUDIT_BIN := build/audit-deps/bin
AUDIT := build/audit-deps/installed

.DEFAULT_GOAL := help
.PHONY: help install demo test parity-test check fix docs architectures site fuzz audit-deps lock clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

install: $(FULL) ## Install everything, TensorFlow and the tools included, into .venv

demo: $(BASE) ## Classify the sample images with the models that ship; needs no TensorFlow
	$(BIN)/medkit classify tests/samples --out preds.csv --overwrite

test: $(FULL) ## Run the tests; with MEDKIT_DATA=DIR also those on the real data
	$(BIN)/python -m pytest

parity-test: $(FULL) ## Show that the shipped files decide like their originals
	$(BIN)/medkit parity --samples tests/samples \
		--json build/parity.json --junit build/parity.xml --html build/parity.html

check: $(FULL) ## Lint, format and types; changes nothing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

fix: $(FULL) ## Lint and format, changing files
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(FULL) ## Bring tables and pictures in README.md and docs/ up to date with the models
	$(BIN)/python docs/draw_terminal.py
	$(BIN)/python docs/update_tables.py

architectures: $(FULL) ## Train and export well-known networks for docs/architectures.md; takes hours, goes on
	$(BIN)/python docs/make_architectures.py
	$(BIN)/python docs/update_tables.py

site: $(FULL) ## Build the documentation site in build/site
	$(BIN)/python docs/build_site.py

fuzz: $(FULL) ## Fuzz the way from a file to a tensor: a million cases, some twenty minutes
	$(BIN)/python tests/fuzz_images.py build/fuzz -runs=$(or $(CASES),1000000)

audit-deps: $(AUDIT) ## Look for known vulnerabilities in the locked packages; needs a network
	$(AUDIT_BIN)/python requirements/audit_deps.py

lock: $(FULL) ## Lock the dependencies anew, with hashes
	$(PIP) install uv
	$(BIN)/uv pip compile $(LOCKING) pyproject.toml -o requirements/base.txt
	$(BIN)/uv pip compile $(LOCKING) pyproject.toml --extra dev -o requirements/dev.txt
	$(BIN)/uv pip compile $(LOCKING) --group build -o requirements/build.txt
	$(BIN)/uv pip compile $(LOCKING) --group audit -o requirements/audit.txt

LOCKING := --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --no-annotate --no-header

clean: ## Remove what the other targets made
	rm -rf $(VENV) build dist preds.csv preds.csv.run.json .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find toolkit exporters tests docs -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "medkit needs Python 3.11 or newer; name one, as in: make demo PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(BASE): requirements/base.txt requirements/build.txt pyproject.toml | $(BIN)/python
	$(PIP) install --quiet --require-hashes -r requirements/base.txt -r requirements/build.txt
	$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(FULL): requirements/dev.txt pyproject.toml | $(BIN)/python
	$(PIP) install --quiet --require-hashes -r requirements/dev.txt
	$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(AUDIT): requirements/audit.txt | $(BIN)/python
	$(BIN)/python -m venv build/audit-deps
	$(AUDIT_BIN)/python -m pip --disable-pip-version-check install --quiet \
		--require-hashes -r requirements/audit.txt
	@touch $@
