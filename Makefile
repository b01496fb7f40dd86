# `make attack` and `make test` do all the set-up: a virtual environment in .venv, then the job.
# `make study` writes docs/study.md, its figures and its appendix from the rows in study/.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: attack test lint study clean

attack: .venv/installed
	$(BIN)/python -m bench.run attack

test: .venv/installed
	$(BIN)/python -m pytest

study: .venv/installed
	$(BIN)/python -m study report

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/mypy

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv build *.egg-info
