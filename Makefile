# The whole project in seven commands; `make help` explains them. They stand for the plain pip lines in README.md.
# PYTHON picks the interpreter; left alone, the first of these that runs and is new enough is taken.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python3.14; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { command -v $$p; break; }; done)
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: help experiment test check docs thorough peers clean
help:  ## this text
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

experiment: $(VENV)/.experiments  ## set up, then count dead neurons under ReLU and LeakyReLU: table, plots, HTML page in runs/
	$(BIN)/python -m experiments.dead_neurons

test: $(VENV)/.test  ## set up, then run the tests, README's code blocks among them; FLAGS=--cov also measures what of jax_leaky they reach
	$(BIN)/python -m pytest -n auto --dist loadfile --durations=15 $(FLAGS)

check: $(VENV)/.dev  ## set up, then lint, types, who imports whom and the examples in docstrings
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest --doctest-modules jax_leaky

# The theme prints an advertisement of its successor otherwise.
docs: $(VENV)/.docs  ## set up, then build the documentation site into site/; a broken link is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# An hour or more on 2 cores (an estimate). What compares with another library is left to `make peers`.
thorough: $(VENV)/.test  ## set up, then all that is too long for `make test`: every float32, faults, fresh examples, slow tests; plan for an hour
	$(BIN)/python -m pytest -m "exhaustive and not peer"
	HYPOTHESIS_PROFILE=thorough $(BIN)/python -m pytest -n auto tests/op/test_properties.py
	$(BIN)/python -m pytest -n auto --dist loadfile -m "(slow or mutation) and not peer"

peers: $(VENV)/.peers  ## set up (3 GB), then compare with PyTorch, TensorFlow, ONNX; compile for an H100 and a TPU
	JAX_PLATFORMS=cpu $(BIN)/python -m pytest -n auto -m peer --ignore tests/tracing
	JAX_PLATFORMS=cpu KERAS_BACKEND=jax $(BIN)/python -m pytest -m peer tests/tracing

clean:  ## remove the environment and the caches; the results of runs stay
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache build dist site *.egg-info

# One environment, filled as far as a command needs; the stamp is newer than what it was made from.
$(VENV)/.%: pyproject.toml $(wildcard constraints/*.txt)
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed and none was found; install one, or name it: make PYTHON=/path/to/python3.11"; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { echo "$(PYTHON) cannot make a virtual environment; on Debian and Ubuntu: apt install python3-venv"; rm -rf $(VENV); exit 2; }
	$(BIN)/python -m pip install --quiet --editable ".[$*]" \
		--constraint "constraints/$$($(BIN)/python -c 'import sys; print("py311" if sys.version_info < (3, 12) else "py312")').txt"
	@touch $@
