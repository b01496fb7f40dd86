from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from framebench.reports.frames_plots import bounds_by_layer, bounds_over_epochs, spectra
from framebench.reports.page import Cell, figure, figures, folded, page, paragraph, table
from framebench.reports.plots import accuracy_curves, asr_curves, attacked_images, clean_against_shifted, heat_map
from framebench.reports.seeds import attack_seeds_sections, trainings_sections
from framebench.reports.shift import short_names


def _curve():
    return pd.DataFrame({"budget": [0, 3, 100], "asr": [0, 0.4, 0.9], "ci_low": [0, 0.3, 0.8],
                         "ci_high": [0.1, 0.5, 1]})


def test_names_of_models_can_not_inject_markup():
    evil = "<script>alert(1)</script>"
    text = page(evil, evil, table(["a", evil], [[evil, Cell(evil, evil)]]), folded(evil, paragraph(evil)),
                asr_curves({(evil, "a"): _curve(), ("b", "a"): _curve()}, "iterations", [1, 10]))
    assert "<script" not in text and text.count("&lt;script") >= 8


def test_named_figures_are_found_in_a_page():
    svg = asr_curves({("m", "a"): _curve()}, "queries", [1])
    text = page("t", "s", figure(svg, "one", "ASR: a/../b!"), figure("<img>", "two"), figure(svg, "three"),
                figure(svg, "four", "ASR 0.2"), figure(svg, "five", "asr 0.2"))
    assert figures(text) == {"asr-a-..-b": svg, "asr-0.2": svg, "asr-0.2-2": svg}


def test_plots_are_svg_and_the_same_each_time():
    first, second = (asr_curves({("m", "a"): _curve()}, "queries", [1, 10, 100]) for _ in range(2))
    assert first == second and first.startswith("<svg") and "budget (queries per image)" in first


def test_pictures_show_every_image():
    image = np.random.default_rng(0).random((8, 8, 3))
    svg = attacked_images([("one", image, image, "a"), ("two", image, 1 - image, "b")], 0.2)
    assert svg.count("<image") == 6 and "difference (±0.2)" in svg


def test_numbers_and_texts_are_aligned():
    html = table(["name", "n"], [["x", "1"]])
    assert '<td class="text">x</td><td>1</td>' in html


def test_the_plots_of_a_shift_name_all_that_they_show():
    cells = pd.DataFrame([{"model": m, "corruption": c, "severity": s, "accuracy": 0.9 - s / 9}
                          for m in "ab" for c in ("fog", "frost") for s in (1, 5)])
    assert all(text in heat_map(cells) for text in ("fog", "frost", ">57<"))  # mean of 0.789 and 0.344
    single = heat_map(cells[cells.model == "a"])
    assert ">79<" in single and ">34<" in single and "severity" in single
    bounds = {"ci_low": 0.4, "ci_high": 0.8}
    lines = accuracy_curves(pd.DataFrame([{"model": m, "severity": s, "accuracy": 0.6, **bounds}
                                          for m in ("one", "two") for s in (0, 1, 5)]), "severity")
    assert lines.count("one") and lines.count("two")
    points = clean_against_shifted(pd.DataFrame([{"model": "one", "domain": "d", "clean_accuracy": 0.9,
                                                  "accuracy": 0.6, **bounds}]))
    assert "clean accuracy" in points and "one" in points


def test_paths_are_cut_to_what_tells_them_apart():
    assert short_names([]) == {} and short_names(["cifar10"]) == {"cifar10": "cifar10"}
    assert short_names(["cifar10", "folder:/home/me/tiny/test", "folder-c:/home/me/tiny/test", "folder:tiny"]) == {
        "cifar10": "cifar10", "folder:/home/me/tiny/test": "folder:tiny/test",
        "folder-c:/home/me/tiny/test": "folder-c:tiny/test", "folder:tiny": "folder:tiny"}
    assert list(short_names(["folder:/data/a/x/test", "folder:/data/b/x/test"]).values()) == [
        "folder:a/x/test", "folder:b/x/test"]
    assert list(short_names(["folder:x/test", "folder:/x/test"]).values()) == ["folder:x/test", "folder:/x/test"]
    assert short_names(["folder:C:\\me\\tiny\\test"])["folder:C:\\me\\tiny\\test"] == "folder:tiny/test"


def test_models_are_averaged_over_the_same_severities():
    drawn = heat_map(pd.DataFrame([
        {"model": "a", "corruption": "fog", "severity": 1, "accuracy": 0.9},
        {"model": "a", "corruption": "fog", "severity": 5, "accuracy": 0.1},
        {"model": "b", "corruption": "fog", "severity": 1, "accuracy": 0.9},
        {"model": "a", "corruption": "snow", "severity": 3, "accuracy": 0.7}]))
    assert drawn.count(">90<") == 2 and "snow" in drawn and ">50<" not in drawn and ">70<" not in drawn


@pytest.mark.parametrize("name", ["_private", "a$b_1$c"])
def test_names_are_shown_as_they_are(name):
    point = {"model": name, "domain": name, "severity": 1, "clean_accuracy": 0.9, "accuracy": 0.6, "ci_low": 0.5,
             "ci_high": 0.7}
    layers = pd.DataFrame({"layer": ["fc"], "lower": [0.1], "upper": [2.0], "lower_converged": [True], "epoch": [1]})
    for drawn in (asr_curves({(name, "x"): _curve()}, "queries", [1]), bounds_by_layer({name: layers}),
                  bounds_over_epochs({name: layers}, {name: "black"}),
                  accuracy_curves(pd.DataFrame([point]), "severity"), clean_against_shifted(pd.DataFrame([point]))):
        assert name in drawn


def test_a_lower_end_that_has_not_converged_is_drawn_apart():
    layers = pd.DataFrame({"layer": ["a", "b"], "lower": [0.1, 0.2], "upper": [2.0, 3.0], "lower_converged": True})
    drawn = {bounds_by_layer({"m": layers.assign(lower_converged=[True, last])}) for last in (True, False)}
    assert len(drawn) == 2


def test_a_layer_without_a_spectrum_leaves_its_panel_empty():
    layers = pd.DataFrame({"layer": ["a", "b"], "upper": [2.0, 3.0], "spectrum": [[0.1, 1.0, 2.0], None]})
    assert "model" in spectra({"model": layers}), "the legend is made all the same"


def test_seeds_are_shown_where_there_are_several():
    entry = {"model": "m", "domain": "d", "attack": "a", "epsilon": 8 / 255, "unit": "iterations", "budget": 1000,
             "seeds": 3, "n": 9, "n_correct": 8, "asr": 0.5, "sd": 0.0125, "ci_low": 0.4, "ci_high": 0.6,
             "asr_any": 0.75, "any_low": 0.7, "any_high": 0.8}
    table = pd.DataFrame([entry, {**entry, "budget": 0}, {**entry, "unit": "queries"}])
    assert attack_seeds_sections(table[1:]) == [] == attack_seeds_sections(pd.DataFrame(columns=list(entry)))
    (html,) = attack_seeds_sections(table)
    assert html.count("<tr>") == 2 and "0.03137" in html and "<td>1.2</td>" in html
    assert "<td>50.0%<small>[40.0, 60.0]</small></td>" in html and "75.0%<small>[70.0, 80.0]" in html


def test_trainings_are_shown_where_there_are_several():
    attack = {"trained": "t", "domain": "d", "attack": "a", "epsilon": 0.2, "unit": "iterations", "budget": 10, "n": 9,
              "metric": "robust_accuracy", "trainings": 2, "mean": 0.5, "sd": 0.02, "ci_low": 0.4, "ci_high": 0.6}
    shift = {"trained": "t", "domain": "c", "part": "benchmark", "n": 9, "metric": "gap", "trainings": 2, "mean": 0.1,
             "sd": 0.01, "ci_low": -0.1, "ci_high": 0.3}
    table = pd.DataFrame([attack, {**attack, "budget": 0}, {**attack, "unit": "queries"}, shift])
    (html,) = trainings_sections(table)
    assert html.count("<tr>") == 3 and "a<small>epsilon 0.2, 10 iterations</small>" in html
    assert "benchmark" in html and "10.0%<small>[-10.0, 30.0]" in html
    assert trainings_sections(table[1:3]) == []
