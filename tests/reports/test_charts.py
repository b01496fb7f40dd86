"""The data of the interactive charts."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from bench.analysis.attack_tables import curve
from bench.analysis.reporting import write_report
from bench.analysis.shift_tables import Part
from bench.analysis.stats import paired_difference, paired_proportions, shares_interval
from framebench.reports import charts
from tests.bench.analysis.making import cell_of, kept, one, run_of

CELLS = tuple((name, severity) for name in ("fog", "snow") for severity in (1, 3))


def part(model, correct):
    n = len(correct)
    return Part(model, "d", "benchmark", CELLS, np.arange(n), np.arange(n) % 2, np.asarray(correct, bool), ("a", "b"))


def of_chance(rates, n=400, seed=0):
    """Outcomes of n images in the four cells, of a rate per cell, by one draw per image and cell."""
    return np.random.default_rng(seed).random((n, 4)) < np.array(rates)


def test_a_curve_has_both_rates_with_their_denominators(tmp_path):
    run = one(run_of(tmp_path, (0, 2, 3, -1, 1)))
    frame = curve(run, "iterations")
    assert frame["budget"].tolist() == [0, 1, 2, 3, run.length]
    assert frame["asr"].tolist() == pytest.approx([0, 0.25, 0.5, 0.75, 0.75])
    assert frame["robust"].tolist() == pytest.approx([0.8, 0.6, 0.4, 0.2, 0.2])
    key = ("m", run.name)
    chart = charts.success_curves({key: frame}, {key: "m"}, {key: (4, 5)}, "iterations", [1, 10], [])
    assert chart["series"][0]["n"] == [4, 5] and chart["series"][0]["values"]["robust"][0][-1] == pytest.approx(0.2)


def test_noise_is_what_the_paired_interval_says():
    base = of_chance([0.8] * 4)
    other = base.copy()
    other[:60, 0] = False  # fog, severity 1
    other[:3, 2] ^= True  # snow, severity 1: next to nothing
    chart = charts.heat([part("one", base), part("two", other)])
    assert (chart["models"], chart["rows"], chart["slices"]) == (["one", "two"], ["fog", "snow"], ["mean", "1", "3"])
    for place, name in ((0, "fog"), (2, "snow")):
        _, low, high = paired_proportions(other[:, place], base[:, place])
        expected = "1" if low <= 0 <= high else "0"
        assert chart["noise"]["1"]["two"][chart["rows"].index(name)][0] == expected
    assert chart["noise"]["1"]["two"][0][0] == "0" and chart["noise"]["1"]["two"][1][0] == "1"
    assert chart["noise"]["3"]["two"] == ["10", "10"], "the same outcomes: nothing is shown"
    assert chart["noise"]["mean"]["two"][0][0] == "0"
    assert chart["cells"]["1"]["two"][0][0] == pytest.approx(other[:, 0].mean(), abs=1e-4)


@pytest.mark.parametrize("n", [3, 8, 300])
def test_the_noise_of_means_is_what_students_interval_says(n):
    seen = set()
    for seed in range(30):
        base, other = of_chance([0.6] * 4, n, seed), of_chance([0.2, 0.1, 0.7, 0.4], n, seed)
        chart = charts.heat([part("one", base), part("two", other)])
        for place, columns in ((0, [0, 1]), (1, [2, 3])):
            _, low, high = paired_difference(other[:, columns].mean(1), base[:, columns].mean(1), 2)
            expected = "1" if low <= 0 <= high else "0"
            assert chart["noise"]["mean"]["two"][place][0] == expected
            seen.add(expected)
            assert chart["cells"]["mean"]["two"][place] == pytest.approx(
                [other[:, columns].mean(), *shares_interval(other[:, columns].mean(1), 2)], abs=1e-4)
    assert "1" in seen and ("0" in seen or n == 3)


def test_models_with_other_severities_are_compared_on_their_common_ones():
    correct = of_chance([0.9, 0.2, 0.5, 0.5], n=60)
    both = part("both", correct)
    low, high = (Part(name, "d", "benchmark", tuple(CELLS[i] for i in columns), both.examples, both.labels,
                      both.correct[:, columns], both.classes) for name, columns in (("low", [0, 2]), ("high", [1, 3])))
    chart = charts.heat([both, low])
    assert chart["noise"]["mean"]["low"][0][0] == "1", "at the common severity they are the same"
    for model in ("both", "low"):
        assert chart["cells"]["mean"][model] == chart["cells"]["1"][model] == charts.heat([low])["cells"]["mean"]["low"]
    assert chart["cells"]["mean"]["low"][0] == pytest.approx(
        [correct[:, 0].mean(), *shares_interval(correct[:, 0], 1)], abs=1e-4)
    assert chart["cells"]["3"]["low"] == [None, None]
    apart = charts.heat([low, high])
    assert apart["cells"]["mean"] == {"low": [None, None], "high": [None, None]}, "they have no common severity"
    assert apart["cells"]["1"]["low"] == chart["cells"]["1"]["low"]


def test_noise_is_over_the_images_that_all_models_have():
    one, two = part("one", of_chance([0.9] * 4)), part("two", of_chance([0.9] * 4))
    shifted = Part("two", "d", "benchmark", CELLS, two.examples + 100, two.labels, two.correct, two.classes)
    assert charts.heat([one, shifted])["n"] == 300
    assert charts.heat([one])["noise"] is None


def test_classes_without_images_are_left_empty():
    own = part("one", of_chance([0.5] * 4))
    three = Part(own.model, own.domain, own.name, own.cells, own.examples, own.labels, own.correct, ("a", "b", "c"))
    (measure_,) = charts.by_class([], [three], {"d": "d"})["measures"]
    assert measure_["models"]["one"][2] is None
    value, low, high, n = measure_["models"]["one"][0]
    assert n == 200 and low < value < high
    assert value == pytest.approx(own.scores[own.labels == 0].mean(), abs=1e-4)
    many = tuple(map(str, range(charts.MOST_CLASSES + 1)))
    assert charts.by_class([], [Part("m", "d", "all", (("", 0),), own.examples, own.labels, own.correct[:, :1], many)],
                           {"d": "d"}) is None


def test_published_numbers_stand_once_and_only_for_models_that_are_drawn():
    row = {"model": "m", "network": "ResNet-34", "threat": "SimBA", "published_budget": 10, "published_asr": 0.5,
           "published_attack": "SimBA", "source": "MIPT 2022"}
    others = ({"model": "other"}, {"threat": "Linf"}, {"published_asr": None})
    table = pd.DataFrame([row, row, *({**row, **other} for other in others)])
    lines = charts.published_lines(table, "SimBA", "published_budget", "published_asr", "asr", {"m": "m|simba"})
    assert [(line["series"], line["x"], line["y"]) for line in lines] == [("m|simba", 10.0, 0.5)]
    assert charts.published_lines(None, "SimBA", "x", "y", "asr", {}) == []


def test_twenty_models_stay_small():
    rates = np.linspace(0.4, 0.9, 20)
    cells = tuple((f"corruption-{i}", severity) for i in range(19) for severity in range(1, 6))
    parts = [Part(f"model-{i}", "d", "all", cells, np.arange(300), np.arange(300) % 10,
                  np.random.default_rng(i).random((300, 95)) < rate, tuple("abcdefghij"))
             for i, rate in enumerate(rates)]
    assert len(json.dumps(charts.heat(parts))) < 400_000


def test_the_page_has_a_section_on_classes(tmp_path):
    for model in "ab":
        kept(cell_of(tmp_path / "examples", [True, False, True], model=model))
    page = write_report(tmp_path).page.read_text(encoding="utf-8")
    assert "Accuracy by class" in page and '<figure id="classes" data-chart="classes">' in page
