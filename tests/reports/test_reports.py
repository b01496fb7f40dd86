from __future__ import annotations

import numpy as np
import pandas as pd

from reports.page import Cell, folded, page, paragraph, table
from reports.plots import asr_curves, attacked_images, clean_against_shifted, heat_map, severity_curves


def _curve():
    return pd.DataFrame({"budget": [0, 3, 100], "asr": [0, 0.4, 0.9], "ci_low": [0, 0.3, 0.8],
                         "ci_high": [0.1, 0.5, 1]})


def test_names_of_models_can_not_inject_markup():
    evil = "<script>alert(1)</script>"
    text = page(evil, evil, table(["a", evil], [[evil, Cell(evil, evil)]]), folded(evil, paragraph(evil)),
                asr_curves({(evil, "a"): _curve(), ("b", "a"): _curve()}, "iterations", [1, 10]))
    assert "<script" not in text and text.count("&lt;script") >= 8


def test_plots_are_svg_and_the_same_each_time():
    first, second = (asr_curves({("m", "a"): _curve()}, "queries", [1, 10, 100]) for _ in range(2))
    assert first == second and first.startswith("<svg") and "budget (queries an image)" in first


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
    lines = severity_curves(pd.DataFrame([{"model": m, "severity": s, "accuracy": 0.6, **bounds}
                                          for m in ("one", "two") for s in (0, 1, 5)]))
    assert lines.count("one") and lines.count("two")
    points = clean_against_shifted(pd.DataFrame([{"model": "one", "domain": "d", "clean_accuracy": 0.9,
                                                  "accuracy": 0.6, **bounds}]))
    assert "clean accuracy" in points and "one" in points
