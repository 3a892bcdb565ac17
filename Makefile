# AYA: `make help` lists what there is.
PYTHON ?= python3
WORKERS ?= 3
BIN := .venv/bin
PIP ?= $(BIN)/pip
STAMP := .venv/.installed

.DEFAULT_GOAL := help
.PHONY: help install demo test lint format refresh bench lab-up lab-down jupyter lock clean

help: ## Show this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(STAMP) ## Create .venv with everything in it

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make install PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(PIP) install --quiet --no-compile --constraint constraints.txt --editable '.[dev]'
	@touch $(STAMP)

demo: install ## Break a lab as the real outage did, restore it, verify it
	@PATH="$(CURDIR)/$(BIN):$$PATH" tools/demo.sh

test: install ## Run pytest and nbval over everything, WORKERS=3 at a time
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --no-loadscope-reorder $(if $(JUNIT),--junit-xml=$(JUNIT))

lint: install ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: install ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

refresh: install ## Execute the notebooks in place, on a lab of their own
	$(BIN)/python -m aya_lib.runbook.refresh

bench: install ## Measure everything (vectors take an hour); keeps results in benchmarks/
	$(BIN)/python benchmarks/speed.py
	$(BIN)/python benchmarks/embedding.py
	$(BIN)/python benchmarks/knowledge.py
	$(BIN)/python benchmarks/failover.py
	$(BIN)/python benchmarks/air.py
	$(BIN)/python benchmarks/vectors.py

lab-up: install ## Start the lab
	$(BIN)/aya lab up

lab-down: install ## Stop the lab
	$(BIN)/aya lab down

jupyter: install ## Open the runbooks in JupyterLab
	$(BIN)/jupyter lab notebooks/start_here.ipynb

lock: ## Resolve all versions afresh into constraints.txt
	PYTHON=$(PYTHON) tools/lock.sh

clean: ## Remove the environment, caches and kept runs
	rm -rf .venv runs build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache
