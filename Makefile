# `make` lists what there is. Every target sets up .venv first if it must; a second time that takes no time.

PYTHON ?= python3
BIN := .venv/bin
RUNTIME := .venv/.runtime
DEVELOPMENT := .venv/.development
# A broken .venv would be the system's Python: refuse rather than install there.
INSTALL := $(BIN)/python -m pip --require-virtualenv install --quiet --disable-pip-version-check
DATA ?= data/esc10
FOLD ?= 1
# Processes that run tests; 0 runs them in one, as --pdb needs.
WORKERS ?= 2

.DEFAULT_GOAL := help
.PHONY: help setup app api test check train gold format clean

help: ## List the targets
	@echo "Usage: make TARGET"
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-8s %s\n", $$1, $$2}'

setup: $(RUNTIME) ## Create .venv with everything Earshot needs to run
	@echo "Ready. Start the app with: make app"

app: $(RUNTIME) ## Open Earshot in the browser
	$(BIN)/streamlit run app/main.py

api: $(RUNTIME) ## Serve the API on http://127.0.0.1:8000: make api ARGS="--port 8001"
	$(BIN)/python -m core serve $(ARGS)

test: $(DEVELOPMENT) ## Run the test suite: make test WORKERS=4 ARGS="tests/unit"
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) $(ARGS)

check: $(DEVELOPMENT) ## Check format, lint and types, then run the test suite: what CI runs
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(MAKE) test

train: $(RUNTIME) ## Train one fold: make train DATA=… FOLD=1 ARGS="--epochs 480"
	$(BIN)/python -m core train --data $(DATA) --fold $(FOLD) $(ARGS)

gold: $(RUNTIME) ## Hold what the shipped model now answers for the gold clips: make gold DATA=…
	$(BIN)/python -m core gold --data $(DATA) --record
	$(BIN)/python -m core.drift_demo --data $(DATA)

format: $(DEVELOPMENT) ## Format the code and apply safe lint fixes
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## Remove .venv and caches; runs and data stay
	rm -rf .venv .pytest_cache .ruff_cache .mypy_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The last file that venv writes: a creation that was interrupted is repeated.
.venv/bin/activate:
	@command -v $(PYTHON) >/dev/null || \
		{ echo "Expected Python 3.11 or newer, found no $(PYTHON). Try: make setup PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Expected Python 3.11 or newer, $(PYTHON) is $$($(PYTHON) --version 2>&1). Try: make setup PYTHON=python3.12"; exit 1; }
	@echo "Creating .venv with $$($(PYTHON) --version)"
	$(PYTHON) -m venv .venv

$(RUNTIME): requirements.txt setup_torchaudio.py | .venv/bin/activate
	@echo "Installing the runtime; the first time this takes a minute or a few"
	$(INSTALL) -r requirements.txt
	$(BIN)/python setup_torchaudio.py
	@touch $@

$(DEVELOPMENT): requirements-dev.txt $(RUNTIME)
	@echo "Installing the development tools"
	$(INSTALL) -r requirements-dev.txt
	@touch $@
