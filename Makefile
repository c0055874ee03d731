# Needs Python 3.10 or later and nothing else; everything is installed into .venv. `make` lists what there is.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed
FUZZ ?= 1000
SOAK ?= 100

.DEFAULT_GOAL := help
.PHONY: help demo test test-all test-xla fuzz soak clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' Makefile

$(INSTALLED): setup.py $(wildcard kernels/*)
	@command -v $(PYTHON) > /dev/null || { echo '$(PYTHON): not found. Install Python 3.10 or later, or name it: make PYTHON=...' >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 10) or sys.exit(f"{sys.executable} is Python {sys.version.split()[0]}: expected 3.10 or later. Name another one: make PYTHON=...")'
	@$(PYTHON) -c 'import ensurepip, venv' 2> /dev/null || { echo '$(PYTHON) has no venv module. On Debian and Ubuntu: apt install python3-venv' >&2; exit 1; }
	@echo 'Installing into .venv (TensorFlow is about 2 GB) ...'
	@$(PYTHON) -m venv .venv
	@$(BIN)/pip install --quiet --upgrade pip
	@$(BIN)/pip install --quiet -e '.[dev]' || { echo 'pip failed. Is there a TensorFlow for this Python ('`$(PYTHON) --version`')? Name another one: make clean; make PYTHON=python3.12 ...' >&2; exit 1; }
	@touch $@

demo: $(INSTALLED)  ## train for two minutes on the Python language reference, write text, evaluate, export
	$(BIN)/charlm-train --preset=demo --workdir=demo
	$(BIN)/charlm-evaluate --workdir=demo
	$(BIN)/charlm-sample --workdir=demo --prompt='The '
	$(BIN)/charlm-export --workdir=demo --export_dir=demo/export
	@echo
	@echo 'The trained model             demo/'
	@echo 'Losses, drawn                 demo/plot.png'
	@echo 'Its text while it learned     demo/samples/'
	@echo 'Model for TF Serving          demo/export/'
	@echo 'Losses, live                  $(BIN)/tensorboard --logdir=demo/tensorboard'
	@echo 'More text                     $(BIN)/charlm-sample --workdir=demo --prompt="if the " --length=1000'
	@echo 'A model of your own text      $(BIN)/charlm-train --corpus=FILE_OR_FOLDER --workdir=mine'

# Tests of what compiles: the network, the training step, generation, and a short run that resumes.
COMPILED := network/test_model.py network/test_recurrence.py training/test_learner.py training/objectives \
  generation/test_decoding.py generation/test_rollout.py generation/test_session.py \
  commands/test_train_resume.py::test_a_signal_at_any_moment_loses_nothing

test: $(INSTALLED)  ## lint, types, and the tests that are not slow
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q -n 2 --dist worksteal -m 'not slow'

test-all: test  ## what `make test` does, then the slow tests
	$(BIN)/python -m pytest -q -n 2 --dist worksteal -m slow

test-xla: $(INSTALLED)  ## tests of what compiles, with the optimisations of XLA that the other tests leave out
	XLA_FLAGS= $(BIN)/python -m pytest -q -n 2 --dist worksteal -m 'not slow' $(addprefix tests/charlm/, $(COMPILED))

fuzz: $(INSTALLED)  ## random flags and damaged files, 1,000 of each kind (FUZZ=50: 50, KIND=corpus: of that kind)
	FUZZ=$(FUZZ) $(BIN)/python -m pytest -q -n 2 --dist worksteal -m slow -k '$(KIND)' tests/fuzz

soak: $(INSTALLED)  ## runs that are killed at 100 random moments, and 50,000 steps killed 100 times (SOAK=10: a tenth)
	SOAK=$(SOAK) $(BIN)/python -m pytest -q -m slow tests/soak

clean:  ## remove .venv, the demo and what was built
	rm -rf .venv demo build dist *.egg-info charlm/network/backend/_kernels*.so .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
