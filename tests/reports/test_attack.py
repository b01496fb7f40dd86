from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

from framebench.reports import plots
from framebench.reports.attack import _comparisons, _cost, _success, _unseen, paired_rows
from framebench.reports.colors import COLORS
from framebench.reports.document import Folded
from framebench.reports.format import number_of, p_value
from framebench.reports.html import fragment
from framebench.reports.plots import coinciding, curve_labels, to_svg


def _curve(asr, end=10, low=0.0, high=0.5):
    return pd.DataFrame({"budget": [0, 5, end], "asr": asr, "ci_low": low, "ci_high": high})


def asr_curves(*args):
    return to_svg(plots.asr_curves(*args))


ZERO, RISING, NONE = [0.0, 0, 0], [0.0, 0.5, 0.5], [np.nan] * 3


def _lines(svg, color):
    """Stroked paths of a colour, without those of the legend and of the bands: (style, heights of the points)."""
    plotted = svg[: svg.index('id="legend_1"')]
    found = re.findall(rf'<path d="([^"]+)"[^>]*style="([^"]*stroke: {color.lower()}[^"]*stroke-width: 1.8[^"]*)"',
                       plotted)
    return [(style, [float(y) for y in re.findall(r"[ML] \S+ (\S+)", path)]) for path, style in found]


def test_curves_that_nothing_breaks_lie_off_the_axis_and_all_of_them_show():
    svg = asr_curves({(name, "x"): _curve(ZERO, end) for name, end in (("a", 10), ("b", 11))}, "iterations", [1, 10])
    bottom = max(float(y) for y in re.findall(r'<g id="patch_2">\s*<path d="M \S+ (\S+)', svg))
    (first, heights), (second, others) = (_lines(svg, color)[0] for color in COLORS[:2])
    assert set(heights) == set(others) and bottom - heights[0] > 4, "points of a picture of 288"
    dashes = [dict(part.split(": ") for part in style.split("; ")) for style in (first, second)]
    assert len({each["stroke-dasharray"] for each in dashes}) == 1, "dashes as long as gaps"
    dash, gap = map(float, dashes[0]["stroke-dasharray"].split(","))
    offsets = [float(each["stroke-dashoffset"]) for each in dashes]
    assert dash == gap and abs(offsets[0] - offsets[1]) == dash


@pytest.mark.parametrize(("models", "attacks"), [(2, 7), (9, 6), (1, 20)])
def test_every_curve_has_a_colour_dashes_or_a_marker_of_its_own(models, attacks):
    curves = {(f"m{i}", f"a{j}"): _curve(RISING, 10 + attacks * i + j) for i in range(models) for j in range(attacks)}
    for i, curve in enumerate(curves.values()):
        curve["asr"] *= 1 - i / 100  # none coincide
    axes = plots.asr_curves(curves, "iterations", [1, 10]).axes[0]
    handles, _ = axes.get_legend_handles_labels()
    legend, drawn = ([(line.get_color(), line.get_linestyle(), line.get_marker()) for line in lines]
                     for lines in (handles, [line for line in axes.lines if len(line.get_xdata())]))
    assert len(set(legend)) == len(curves) and drawn == legend


def test_the_caption_names_curves_that_coincide_or_can_not_be():
    curves = {("a", "x"): _curve(ZERO), ("b", "x"): _curve(RISING), ("c", "x"): _curve(ZERO, 12, high=0.3)}
    assert coinciding(curves) == [[("a", "x"), ("c", "x")], [("b", "x")]]
    assert _unseen(curves) == " The curves of a, c coincide; their colours alternate."
    assert _unseen({("b", "x"): _curve(RISING)}) == ""
    assert _unseen({("b", "x"): _curve(NONE)}).startswith(" b can have no curve")


def test_a_model_without_asr_hides_no_other():
    svg = asr_curves({("a", "x"): _curve(RISING), ("b", "x"): _curve(NONE, high=1.0)}, "queries", [1])
    assert ">a<" in svg and COLORS[0].lower() in svg and COLORS[1].lower() not in svg
    assert "<svg" in asr_curves({("b", "x"): _curve(NONE)}, "queries", [1])


@pytest.mark.parametrize(("keys", "labels"), [
    ([("m", "x")], ["m"]), ([("m", "x"), ("n", "x")], ["m", "n"]), ([("m", "x"), ("m", "y")], ["x", "y"]),
    ([("m", "x"), ("n", "y")], ["m · x", "n · y"])])
def test_curves_are_called_what_tells_them_apart(keys, labels):
    assert list(curve_labels(keys).values()) == labels


def _entry(model_a, model_b, budget, metric, **more):
    return {"model_a": model_a, "model_b": model_b, "domain": "d", "attack": "x", "metric": metric, "budget": budget,
            "n": 9, "a": 0.5, "b": 0.4, "difference": 0.1, "ci_low": 0, "ci_high": 0.2, "only_a": 1, "only_b": 0,
            "p_value": 0.25, "p_holm": 1.0, **more}


def test_smaller_budgets_are_folded():
    rows = [_entry(a, b, budget, metric) for a, b, budgets in (("a", "b", (1, 10, 100)), ("a", "c", (1, 7)))
            for metric in ("robust_accuracy", "asr") for budget in budgets]  # c was attacked for shorter
    shown, rest = _comparisons(pd.DataFrame(rows))
    assert isinstance(rest, Folded) and "3 comparisons" in rest.summary
    assert [[row[4].text for row in part.rows] for part in (shown, *rest.parts)] == [["100", "7"], ["1", "10", "1"]]
    (shown,) = _comparisons(pd.DataFrame(rows[-1:] + rows[7:8]))
    assert not isinstance(shown, Folded)


def test_asr_stands_beside_robust_accuracy():
    html = fragment(paired_rows(pd.DataFrame([
        _entry("a", "b", 10, "robust_accuracy"), _entry("a", "b", 10, "robust_accuracy", domain="e", n=8),
        _entry("a", "b", 10, "asr", n=6, a=0.75, p_holm=0.0004),
        _entry("a", "b", 10, "asr", domain="e", n=0, a=np.nan, b=np.nan)])))
    first, second = sorted(re.findall("<tr>.*?</tr>", html.split("<tbody>")[1]))
    assert ">d<" in first and "50.0%<small>n = 9" in first and "75.0%<small>n = 6" in first and "&lt; 0.001" in first
    assert ">e<" in second and "n = 8" in second and "n = 0" in second and "nan" not in second


def test_a_bound_is_written_as_one():
    assert p_value(0.0001, bound=True) == "≤ 0.0001" and p_value(0.0021, bound=True) == "≤ 0.0021"
    assert p_value(0.0001) == "< 0.001" and p_value(0.25) == "0.250"


def test_without_an_image_to_attack_there_are_dashes():
    entry = {"model": "m", "domain": "d", "attack": "x", "epsilon": 0.2, "n": 20, "n_correct": 0, "asr": np.nan,
             "ci_low": 0.0, "ci_high": 1.0, "clean_accuracy": 0.0, "robust_accuracy": 0.0, "robust_low": 0.0,
             "robust_high": 0.16, "queries_mean": np.nan, "queries_median": np.nan, "l2_median": np.nan, "norm": None,
             "bound": np.nan}
    table = pd.DataFrame([{**entry, "budget": budget} for budget in (0, 10)])
    assert [cell.text for cell in _success(table).rows[0]].count("–") == 2 and "100.0" not in fragment(_success(table))
    assert [cell.text for cell in _cost(table).rows[0]].count("–") == 3 and "nan" not in fragment(_cost(table))


def test_nouns_follow_their_count():
    assert [number_of(n, "query", "queries") for n in (0, 1, 1000)] == ["0 queries", "1 query", "1,000 queries"]
    assert [number_of(n, "cell") for n in (1, 2)] == ["1 cell", "2 cells"]


def test_a_legend_of_many_models_stands_above_the_curves():
    heights = []
    for n in (8, 24):
        svg = asr_curves({(f"model-{i}", "x"): _curve(RISING, 10 + i) for i in range(n)}, "iterations", [1, 10])
        heights.append(float(re.search(r'viewBox="0 0 [\d.]+ ([\d.]+)"', svg)[1]))
    assert heights[1] > heights[0] + 40, "points: the axes keep their height"
