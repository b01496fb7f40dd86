"""What benchmarks find is told, kept and paged."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def ratios(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    return import_module("ratios")


@pytest.fixture
def runner(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    return import_module("run")


def test_a_missed_limit_is_told_and_fails(ratios, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(ratios.KEEP, str(tmp_path / "kept"))
    good = [ratios.Ratio("speed", 0.95, 0.9), ratios.Ratio("memory", 3, 4, at_most=True), ratios.Ratio("told", 0.1)]
    assert ratios.conclude(good) == 0 and "MISS" not in capsys.readouterr().out
    assert ratios.conclude([ratios.Ratio("speed", 0.89, 0.9)]) == 1 and "MISS" in capsys.readouterr().out
    assert ratios.conclude([ratios.Ratio("memory", 4.1, 4, at_most=True)]) == 1
    kept = [json.loads(line) for line in (tmp_path / "kept").read_text().splitlines()]
    assert [ratios.Ratio(**entry) for entry in kept[:3]] == good and len(kept) == 5


def test_the_page_is_made_from_what_is_kept(runner):
    assert runner.PAGE.read_text(encoding="utf-8") == runner.page(runner.kept()), "run benchmarks/run.py --page"


def test_the_page_shows_the_last_run_of_a_machine_and_the_value_before(runner, ratios):
    old, new = (runner.Entry("simba", "2026-01-01", commit, "m", 1, 1.0, (ratios.Ratio("speed", value, 0.9),))
                for commit, value in (("first", 0.812), ("second", 0.934)))
    lines = runner.page([old, new]).splitlines()
    (row,) = [line for line in lines if line.startswith("| simba")]
    assert "0.934" in row and "0.812" in row and "second" in row and "missed" not in row
    assert "missed" in runner.page([new, old])


def test_every_benchmark_has_a_script(runner):
    assert all((FOLDER / script).is_file() for script, *_ in runner.RUNS.values())
