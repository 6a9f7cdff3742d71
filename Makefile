# Everything sets itself up: a virtual environment in .venv, from the hashed lock file. Needs python3 (with pip and venv).
PYTHON ?= python3
BIN := .venv/bin
RUNS ?= 5
SCALE ?= 1
MINUTES ?= 30
# Test files that run at the same time: three for each core, since most tests wait for other processes.
WORKERS ?= $(shell expr 3 '*' $$(nproc))
PARALLEL = -n $(WORKERS) --dist loadfile --no-loadscope-reorder
# Where `make test` keeps the files of tests: in memory if there is enough of it and programs may be run there. On a disk
# they wait for each fsync. `make test-slow` keeps to the disk, and so does `make test TMPDIR=/var/tmp`.
MEMORY = $(shell findmnt --noheadings --output OPTIONS --target /dev/shm | grep --invert-match --word-regexp noexec \
    > /dev/null && [ $$(df --output=avail --block-size=1G /dev/shm | tail -n 1) -ge 4 ] && echo /dev/shm)

# Whatever the environment says: what is compiled once is not compiled again by each process.
export PYTHONDONTWRITEBYTECODE =

.PHONY: help install demo test test-slow crash faults check lint types imports format lock clean bench soak test-systemd screenshots
.DEFAULT_GOAL := help

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.venv/installed: requirements.lock pyproject.toml
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@# Compiled here, whatever the environment says: without it each start would take half a second longer. A package
	@# may hold files that are no Python on purpose, ours may not.
	$(BIN)/python -m compileall -qq -j 0 .venv/lib || true
	$(BIN)/python -m compileall -q daemon
	@touch $@

# pytest rewrites the assertions of all tests; once here, and not at the same time in each worker.
.venv/rewritten: .venv/installed $(shell find tests -name '*.py')
	@$(BIN)/python -m pytest --collect-only -q tests/unit > /dev/null & \
	    $(BIN)/python -m pytest --collect-only -q --ignore tests/unit > /dev/null; wait
	@touch $@

install: .venv/installed  ## set up .venv

demo: .venv/installed  ## watch the daemon bring home an embedded fleet of made-up boxes
	$(BIN)/harvestd demo

test: .venv/rewritten  ## run all tests; real OpenSSH servers need sshd (apt install openssh-server)
	rm -f .faults
	TMPDIR=$(or $(TMPDIR),$(MEMORY)) $(BIN)/python -m pytest -m "not slow" $(PARALLEL) --durations=25

test-slow: .venv/rewritten  ## run the tests that take minutes: crashes by the dozen, hostile boxes under load
	HARVESTD_TEST_EXAMPLES=all $(BIN)/python -m pytest -m "not slow" $(PARALLEL) tests/property
	@# One by one, for some of them take minutes.
	$(BIN)/python -m pytest -m "slow and not alone" -n $(WORKERS) --dist worksteal --durations=10
	$(BIN)/python -m pytest -m "slow and alone"

test-systemd: .venv/installed  ## boot a bare Debian under systemd and use harvestd there as a newcomer would; needs root
	PYTHONPATH=tests $(BIN)/python -m systemd $(if $(IF_POSSIBLE),--if-possible)

crash: .venv/installed  ## kill -9 the daemon at random moments while eight boxes write; KILLS=500 SEED=1
	KILLS=$(or $(KILLS),500) SEED=$(SEED) $(BIN)/python -m pytest --timeout 0 -m slow tests/faults/test_random_kills.py

faults: .venv/installed  ## say which faults really happened in the test runs since the last `make test`
	PYTHONPATH=tests $(BIN)/python -m support.faults

bench: .venv/installed  ## measure beside rsync, scp, lftp and rclone; RUNS=3, ONLY=cold,warm, SCALE=0.1 for a trial
	PYTHONPATH=tests $(BIN)/python -m bench --runs $(RUNS) --scale $(SCALE) $(if $(ONLY),--only $(ONLY))

soak: .venv/installed  ## watch what the daemon holds while real boxes come, go and write; MINUTES=2 for a trial
	PYTHONPATH=tests $(BIN)/python -m soak --minutes $(MINUTES)

screenshots: .venv/installed  ## take the pictures of the page that README shows, from the demo; needs chromium
	PYTHONPATH=tests $(BIN)/python -m screenshots tests/pictures

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/installed
	$(BIN)/mypy

imports: .venv/installed
	$(BIN)/lint-imports

check: lint types imports test  ## what CI runs: lint, types, the direction of imports, tests

format: .venv/installed  ## put the code into the project's form
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: .venv/installed  ## resolve the dependencies anew (needs uv on PATH)
	uv pip compile --quiet --universal --python-version 3.11 --upgrade --generate-hashes --no-header --no-annotate \
	    --no-emit-index-url --extra dev pyproject.toml --output-file requirements.lock

clean:  ## remove what make made
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
