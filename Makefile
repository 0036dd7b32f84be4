# `make demo` and `make test` need Python 3.11 or newer, make and git; everything else goes into .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
JOBS ?= 2
SAMPLES := Resources/SampleData
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help install demo test lint format typecheck pytest figures screenshots clean

help:  ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install: $(INSTALLED)  ## create .venv with the exact development versions

# torch comes first and alone, so that whichever build of it this machine prefers (CPU or CUDA) is settled before
# anything else asks for it. An environment that exists already is kept and only brought up to date.
$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$(PYTHON) is older than Python 3.11; name a newer one: make PYTHON=python3.12" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV) (the first time this takes some minutes)"
	@$(PIP) "$$(grep -m1 '^torch==' constraints.txt)"
	@$(PIP) -c constraints.txt -e '.[cli,train,test]'
	@touch $@

demo: $(INSTALLED)  ## detect the anomaly of the synthetic sample subject
	$(BIN)/dal-anomaly detect $(SAMPLES)/sample_T2.nii.gz -o demo --force
	@echo "Look at $$(find "$(CURDIR)/demo" -name overview.png | head -n 1)"

test: lint typecheck pytest  ## formatting, lint, types and tests: what continuous integration runs

lint: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

format: $(INSTALLED)  ## rewrite the sources in the project's format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

typecheck: $(INSTALLED)
	$(BIN)/mypy

# Tests of one file stay together: they share what is slow to make.
pytest: $(INSTALLED)
	$(BIN)/pytest -n $(JOBS) --dist loadfile

figures: $(INSTALLED)  ## make the pictures of the documentation again
	@mkdir -p docs/images
	@set -e; work=$$(mktemp -d); trap 'rm -rf "$$work"' EXIT; \
	for sequence in T1 T2; do \
		$(BIN)/dal-anomaly detect $(SAMPLES)/sample_$$sequence.nii.gz -o "$$work/$$sequence" --quiet; \
		cp "$$(find "$$work/$$sequence" -name overview.png)" docs/images/sample_$$sequence.png; \
		echo "docs/images/sample_$$sequence.png"; \
	done

# Draws with OpenGL, but needs no display.
screenshots: $(INSTALLED)  ## make the screenshots of the 3D Slicer module again
	$(BIN)/python Testing/make_screenshots.py

clean:  ## remove caches, builds and the demo's output, but not .venv
	rm -rf demo build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache
	find . -path ./$(VENV) -prune -o -type d -name __pycache__ -print | xargs rm -rf
