# Overture: `make` shows what there is. Each target sets up what it needs, once.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check -q

.DEFAULT_GOAL := help
.PHONY: help demo test check bench docs clean

help: ## Show this
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Overture needs Python 3.11 or later: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(PIP) install -c constraints.txt -e .
	touch $@

$(VENV)/.developer: $(VENV)/.installed
	$(PIP) install -c constraints.txt -e '.[dev,tensorboard,trackio,lhotse,huggingface,g722,phones,bible,dedup]'
	$(PIP) install -c constraints.txt -e '.[lm]' || echo "kenlm was not built (is there a C++ compiler?): tests that need it are skipped"
	touch $@

demo: $(VENV)/.installed ## Pre-train a small TERA on the embedded speech, judge it against its controls, write a report
	$(BIN)/overture compare tera --data embedded --task speaker-id --budget 40s

test: $(VENV)/.developer ## Run all tests (two processes)
	$(BIN)/pytest -n 2

check: $(VENV)/.developer ## Style, types and tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -n 2

bench: $(VENV)/.developer ## Run the head-to-head benchmarks (needs a quiet machine)
	$(BIN)/python -m benchmarks

docs: $(VENV)/.installed ## Write docs/RESULTS.md and the recipe pages from results/ and docstrings
	$(BIN)/python docs/make.py

clean: ## Remove the environment and all caches
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
