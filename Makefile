# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed
NEWEST := .venv-newest

.PHONY: help install demo test test-slow test-newest bench bench-check lint format clean

help:
	@echo "make demo       generate scenes, pre-train a small TCL, fine-tune it on questions (7 to 20 minutes on 2 cores)"
	@echo "make test       lint and test (8 to 18 minutes on 2 cores)"
	@echo "make test-slow  the longer proofs: DeepSpeed, 20 kills, torch.compile, fuzzing (about 40 minutes)"
	@echo "make test-newest  the tests with the newest versions that pip resolves, in $(NEWEST)"
	@echo "make bench      every benchmark on this machine, into benchmarks/results (about an hour on 2 cores)"
	@echo "make bench-check  has a change cost speed? (3 minutes)"
	@echo "make install    set up $(VENV) (the other commands do it themselves)"
	@echo "make format     format the code"
	@echo "make clean      remove $(VENV), $(NEWEST) and the demo"

install: $(INSTALLED)

# Reinstalled only when what is to be installed has changed.
$(INSTALLED): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

demo: $(INSTALLED)
	$(BIN)/python -m tools.demo

# A process a core, as most tests need one; more than four would want much memory. The slow tests start their own.
test: lint
	$(BIN)/python -m pytest -m "not slow" --numprocesses auto --maxprocesses 4 --dist worksteal

test-slow: $(INSTALLED)
	$(BIN)/python -m pytest -m slow

# What a user's `pip install` gets today: whatever pyproject.toml allows, without constraints. Others' releases may break
# it, so that it is no part of .ci/run; it is run before an issue is called resolved.
test-newest:
	test -x $(NEWEST)/bin/python || $(PYTHON) -m venv $(NEWEST)
	$(NEWEST)/bin/python -m pip install --quiet --upgrade --upgrade-strategy eager --editable ".[dev]"
	$(NEWEST)/bin/python -m pip freeze --exclude-editable
	$(NEWEST)/bin/python -m pytest -m "not slow"

# One thread: cores that are shared, or halves of one, wait for each other, and both sides would measure that.
BENCH := OMP_NUM_THREADS=$(or $(THREADS),1) $(BIN)/python -m

bench: $(INSTALLED)
	$(BENCH) benchmarks.training_step --size Ti --batch 64 --repeats 3
	$(BENCH) benchmarks.training_step --size S --batch 8
	$(BENCH) benchmarks.training_step --size B --batch 4 --repeats 3 --sides '[textbook,fp32,default]'
	$(BENCH) benchmarks.step_parts
	$(BENCH) benchmarks.losses
	$(BENCH) benchmarks.loader $(if $(IMAGES),--images $(IMAGES))
	$(BENCH) benchmarks.loader_scale
	$(BENCH) benchmarks.clips $(if $(VIDEOS),--videos $(VIDEOS))
	$(BENCH) benchmarks.retrieval
	$(BENCH) benchmarks.hubness
	$(BENCH) benchmarks.matching
	$(BENCH) benchmarks.codes
	$(BENCH) benchmarks.stored_tokens
	$(BENCH) benchmarks.search
	$(BENCH) benchmarks.serve
	$(BENCH) benchmarks.vqa
	$(BENCH) benchmarks.onnx_latency
	$(BENCH) benchmarks.scale
	$(BENCH) benchmarks.processes
	$(BENCH) benchmarks.long_run
	$(BENCH) benchmarks.check --save
	$(BENCH) benchmarks.report --write

bench-check: $(INSTALLED)
	$(BENCH) benchmarks.check

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(INSTALLED)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) $(NEWEST) demo
