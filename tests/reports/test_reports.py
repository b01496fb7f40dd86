from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from framebench.reports import frames_plots, maps, plots
from framebench.reports.document import Cell, Document, Folded, Plot, Row, Section, Text, table
from framebench.reports.format import distance
from framebench.reports.html import drawn, fragment
from framebench.reports.names import short_names
from framebench.reports.page import page, page_of
from framebench.reports.seeds import attack_seeds_sections, trainings_sections


def _svg(draw):
    return lambda *args: plots.to_svg(draw(*args))


accuracy_curves, asr_curves, attacked_images, clean_against_shifted, heat_map = map(_svg, (
    plots.accuracy_curves, plots.asr_curves, plots.attacked_images, plots.clean_against_shifted, maps.heat_map))
bounds_by_layer, bounds_over_epochs, spectra = map(_svg, (
    frames_plots.bounds_by_layer, frames_plots.bounds_over_epochs, frames_plots.spectra))


def _curve():
    return pd.DataFrame({"budget": [0, 3, 100], "asr": [0, 0.4, 0.9], "ci_low": [0, 0.3, 0.8],
                         "ci_high": [0.1, 0.5, 1]})


def test_names_of_models_can_not_inject_markup():
    evil = "<script>alert(1)</script>"
    curves = {(evil, "a"): _curve(), ("b", "a"): _curve()}
    plot = Plot(evil, evil, lambda: plots.asr_curves(curves, "iterations", [1, 10]), chart=evil)
    text = page(evil, evil, fragment(table(evil, ["a", evil], [[evil, Cell(evil, evil)]], caption=evil),
                                     Folded(evil, [Text(evil)]), plot))
    assert "<script" not in text and text.count("&lt;script") >= 12


def test_figures_and_tables_have_names_fit_for_files_and_no_two_the_same():
    one, two, three = (Plot(name, "", lambda: plots.asr_curves({("m", "a"): _curve()}, "queries", [1]))
                       for name in ("ASR: a/../b!", "ASR 0.2", "asr 0.2"))
    cells = table("ASR 0.2", ["a"], [["x"]])
    document = Document([], [Section("s", "", [one, Row([two]), Folded("f", [cells])])], [three])
    assert document.plots() == {"asr-a-..-b": one, "asr-0.2": two, "asr-0.2-2": three}
    assert document.tables() == {"asr-0.2": cells}
    figures = drawn(document)
    text = page_of(document, figures, {})
    assert list(figures) == list(document.plots()) and all(svg.startswith("<svg") for svg in figures.values())
    assert all(f'<figure id="{name}">' in text for name in figures) and 'data-table="asr-0.2"' in text


def test_plots_are_svg_and_the_same_each_time():
    first, second = (asr_curves({("m", "a"): _curve()}, "queries", [1, 10, 100]) for _ in range(2))
    assert first == second and first.startswith("<svg") and "budget (queries per image)" in first


def test_pictures_show_every_image():
    image = np.random.default_rng(0).random((8, 8, 3))
    svg = attacked_images([("one", image, image, "a"), ("two", image, 1 - image, "b")], 0.2)
    assert svg.count("<image") == 6 and "difference (±0.2)" in svg


def test_numbers_and_texts_are_aligned():
    html = fragment(table("t", ["name", "n"], [["x", Cell("1%", "[0, 2]", 0.01, 0.0, 0.02)]]))
    assert '<th scope="row" class="text">x</th><td data-value="0.01" data-low="0" data-high="0.02">1%' in html
    assert '<th scope="col" class="text">name</th><th scope="col">n</th>' in html


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
    svg = heat_map(pd.DataFrame([
        {"model": "a", "corruption": "fog", "severity": 1, "accuracy": 0.9},
        {"model": "a", "corruption": "fog", "severity": 5, "accuracy": 0.1},
        {"model": "b", "corruption": "fog", "severity": 1, "accuracy": 0.9},
        {"model": "a", "corruption": "snow", "severity": 3, "accuracy": 0.7}]))
    assert svg.count(">90<") == 2 and "snow" in svg and ">50<" not in svg and ">70<" not in svg


@pytest.mark.parametrize("name", ["_private", "a$b_1$c"])
def test_names_are_shown_as_they_are(name):
    point = {"model": name, "domain": name, "severity": 1, "clean_accuracy": 0.9, "accuracy": 0.6, "ci_low": 0.5,
             "ci_high": 0.7}
    layers = pd.DataFrame({"layer": ["fc"], "lower": [0.1], "upper": [2.0], "lower_converged": [True], "epoch": [1]})
    for svg in (asr_curves({(name, "x"): _curve()}, "queries", [1]), bounds_by_layer({name: layers}),
                bounds_over_epochs({name: layers}, {name: "black"}),
                accuracy_curves(pd.DataFrame([point]), "severity"), clean_against_shifted(pd.DataFrame([point]))):
        assert name in svg


def test_a_lower_end_that_has_not_converged_is_drawn_apart():
    layers = pd.DataFrame({"layer": ["a", "b"], "lower": [0.1, 0.2], "upper": [2.0, 3.0], "lower_converged": True})
    svgs = {bounds_by_layer({"m": layers.assign(lower_converged=[True, last])}) for last in (True, False)}
    assert len(svgs) == 2


def test_a_layer_without_a_spectrum_leaves_its_panel_empty():
    layers = pd.DataFrame({"layer": ["a", "b"], "upper": [2.0, 3.0], "spectrum": [[0.1, 1.0, 2.0], None]})
    assert "model" in spectra({"model": layers}), "the legend is made all the same"


def test_seeds_are_shown_where_there_are_several():
    entry = {"model": "m", "domain": "d", "attack": "a", "epsilon": 8 / 255, "unit": "iterations", "budget": 1000,
             "seeds": 3, "n": 9, "n_correct": 8, "asr": 0.5, "sd": 0.0125, "ci_low": 0.4, "ci_high": 0.6,
             "asr_any": 0.75, "any_low": 0.7, "any_high": 0.8}
    table = pd.DataFrame([entry, {**entry, "budget": 0}, {**entry, "unit": "queries"}])
    assert attack_seeds_sections(table[1:]) == [] == attack_seeds_sections(pd.DataFrame(columns=list(entry)))
    (part,) = attack_seeds_sections(table)
    html = fragment(part)
    assert html.count("<tr>") == 2 and "epsilon: 8/255" in html and ">1.2</td>" in html
    assert ">50.0%<small>[40.0, 60.0]</small></td>" in html and "75.0%<small>[70.0, 80.0]" in html


def test_trainings_are_shown_where_there_are_several():
    attack = {"trained": "t", "domain": "d", "attack": "a", "epsilon": 0.2, "unit": "iterations", "budget": 10, "n": 9,
              "metric": "robust_accuracy", "trainings": 2, "mean": 0.5, "sd": 0.02, "ci_low": 0.4, "ci_high": 0.6}
    shift = {"trained": "t", "domain": "c", "part": "benchmark", "n": 9, "metric": "gap", "trainings": 2, "mean": 0.1,
             "sd": 0.01, "ci_low": -0.1, "ci_high": 0.3}
    table = pd.DataFrame([attack, {**attack, "budget": 0}, {**attack, "unit": "queries"}, shift])
    (part,) = trainings_sections(table)
    html = fragment(part)
    assert html.count("<tr>") == 3 and "a<small>epsilon 0.2, 10 iterations</small>" in html
    assert "benchmark" in html and "10.0%<small>[-10.0, 30.0]" in html
    assert trainings_sections(table[1:3]) == []


def test_settings_that_all_rows_share_are_said_once():
    n = Cell("20", "all")
    shown = table("t", ["model", "data", "n", "asr"], [["a", "d", n, "1%"], ["b", "d", n, "1%"]], 2,
                  settings=("data", "n"), caption="Rates.").for_readers()
    assert [column.title for column in shown.columns] == ["model", "asr"], "a result stays, even where it is the same"
    assert [[cell.text for cell in row] for row in shown.rows] == [["a", "1%"], ["b", "1%"]]
    assert shown.caption == "Rates. data: d; n: 20 (all)"
    differs = table("t", ["model", "n"], [["a", "20"], ["b", "19"]], settings=("n",))
    assert differs.for_readers() == differs and table("t", ["n"], [], settings=("n",)).for_readers().columns


@pytest.mark.parametrize(("value", "text"), [
    (8 / 255, "8/255"), (1 / 255, "1/255"), (0.2, "0.2"), (0.5, "0.5"), (1.0, "1"), (0.0, "0"), (3.4567891, "3.457"),
    (None, "–"), (float("nan"), "–")])
def test_a_distance_is_in_steps_of_an_image_where_that_is_shorter(value, text):
    assert distance(value) == text
