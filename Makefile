# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed

.PHONY: help install demo test test-slow lint format clean

help:
	@echo "make demo       generate scenes, pre-train a small TCL, fine-tune it on questions (7 to 10 minutes on 2 cores)"
	@echo "make test       lint and test (under 10 minutes on 2 cores)"
	@echo "make test-slow  the longer proofs: DeepSpeed, 20 kills, torch.compile (about 25 minutes)"
	@echo "make install    set up $(VENV) (the other commands do it themselves)"
	@echo "make format     format the code"
	@echo "make clean      remove $(VENV) and the demo"

install: $(INSTALLED)

# Reinstalled only when what is to be installed has changed.
$(INSTALLED): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

demo: $(INSTALLED)
	$(BIN)/python -m tools.demo

test: lint
	$(BIN)/python -m pytest -m "not slow"

test-slow: $(INSTALLED)
	$(BIN)/python -m pytest -m slow

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(INSTALLED)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) demo
