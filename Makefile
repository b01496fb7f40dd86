# `make attack` and `make test` do all the set-up: a virtual environment in .venv, then the job.
# `make study` writes docs/study.md, its figures and its appendix from the rows in study/.
# `make benchmarks` measures speed against peers and limits (half an hour), and writes docs/performance.md.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: attack test lint study benchmarks clean

attack: .venv/installed
	$(BIN)/python -m bench.run attack

test: .venv/installed
	$(BIN)/python -m pytest

study: .venv/installed
	$(BIN)/python -m study report

benchmarks: .venv/installed
	$(BIN)/pip install --quiet --editable '.[benchmarks,zoo]'
	$(BIN)/python benchmarks/run.py

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/mypy

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv build *.egg-info
