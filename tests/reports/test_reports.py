from __future__ import annotations

import numpy as np
import pandas as pd

from reports.page import Cell, details, page, table
from reports.plots import asr_curves, attacked_images


def _curve():
    return pd.DataFrame({"budget": [0, 3, 100], "asr": [0, 0.4, 0.9], "ci_low": [0, 0.3, 0.8],
                         "ci_high": [0.1, 0.5, 1]})


def test_names_of_models_can_not_inject_markup():
    evil = "<script>alert(1)</script>"
    text = page(evil, evil, table(["a", evil], [[evil, Cell(evil, evil)]]), details(evil, evil),
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
