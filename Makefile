# Two commands: `make run` runs the whole line on the embedded default, `make test` passes the tests.
# Each sets up what it needs in .venv and reuses what is there.

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

# Many containers set this. It would have every stage compile torch and its kin anew: 15 s a stage instead of 7.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: run test check accept slow gpu lock clean

run: $(VENV)/.installed
	$(BIN)/tunegate run

# Two at a time, a file whole in one process: a file's tests share a server and a line that takes seconds to make.
test: check
	$(BIN)/python -m pytest -n 2 --dist loadfile

check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# What must hold after `make run`: the release answers, a second `dvc repro` runs nothing, the run is on record.
accept: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m slow tests/integration/test_after_make_run.py

# Everything that takes minutes: trains twice for the same bytes, and once on wrong labels, which the gate must refuse.
slow: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m slow

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# Without resolving what is resolved already; where this machine needs more than the lock names (torch's CUDA build has
# its libraries as packages), pip adds it.
$(VENV)/.installed: requirements.lock pyproject.toml | $(BIN)/python
	@echo "installing the pinned packages into $(VENV) (once, a few minutes)"
	@$(PIP) install --no-deps --no-compile --requirement requirements.lock
	@$(PIP) check > /dev/null || $(PIP) install --no-compile --requirement requirements.lock
	@$(PIP) install --no-deps --no-build-isolation --config-settings editable_mode=compat --editable .
	@touch $@

$(VENV)/.installed-dev: requirements-dev.lock $(VENV)/.installed
	@$(PIP) install --no-deps --no-compile --requirement requirements-dev.lock
	@touch $@

# What needs a CUDA device; without one every test is skipped.
gpu: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m gpu

# Resolve pyproject.toml anew into the two lock files, in an environment of its own.
lock:
	rm -rf .lock && $(PYTHON) -m venv .lock
	.lock/bin/python -m pip --quiet install --no-compile --upgrade setuptools .
	echo '# Made by `make lock`; every package of the line with its version. torch is the build that the index serves.' > requirements.lock
	.lock/bin/python -m pip freeze --all --exclude tunegate --exclude pip | sed 's/+cpu$$//' >> requirements.lock
	echo 'async-timeout==5.0.1; python_full_version < "3.11.3"' >> requirements.lock  # redis asks for it on Debian 12
	.lock/bin/python -m pip --quiet install --no-compile ".[dev]"
	echo '# Made by `make lock`; every package of the tests with its version.' > requirements-dev.lock
	.lock/bin/python -m pip freeze --all --exclude tunegate --exclude pip | sed 's/+cpu$$//' | grep -vxFf requirements.lock >> requirements-dev.lock
	rm -rf .lock build

clean:
	rm -rf $(VENV) .lock .tunegate .mypy_cache .ruff_cache .pytest_cache
