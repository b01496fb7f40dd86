from __future__ import annotations

import re

import pandas as pd
import pytest

from framebench.reports import frames_plots
from framebench.reports.frames_plots import _panels, layer_name
from framebench.reports.plots import to_svg


def _svg(draw):
    return lambda *args: to_svg(draw(*args))


bounds_by_layer, reconstruction_by_layer, spectra = map(_svg, (
    frames_plots.bounds_by_layer, frames_plots.reconstruction_by_layer, frames_plots.spectra))


def _bounds(names, lower=0.1, upper=2.0):
    return {"m": pd.DataFrame({"layer": names, "lower": lower, "upper": upper, "lower_converged": True,
                               "spectrum": [[lower, upper]] * len(names)})}


def _numbers(svg):
    """Plain numbers on the vertical axis of the first panel."""
    axis = svg[svg.index('id="matplotlib.axis_2"'):]
    return [float(text) for text in re.findall(r"<text[^>]*>(\d[\d.]*)</text>", axis[: axis.index('id="patch_')])]


@pytest.mark.parametrize(("lower", "upper"), [(0.98, 1.01), (0.6, 0.9), (0.3, 2.0), (0.03, 1.5)])
@pytest.mark.parametrize("draw", [bounds_by_layer, spectra])
def test_axes_of_less_than_two_decades_have_plain_numbers(draw, lower, upper):
    svg = draw(_bounds(["a", "b"], lower, upper))
    assert len([value for value in _numbers(svg) if lower / 3 <= value <= 3 * upper]) >= 2 and "×" not in svg


def test_a_long_axis_has_powers_of_ten():
    svg = bounds_by_layer(_bounds(["a", "b"], 1e-6, 2.0))
    assert len(re.findall(r"mathdefault|10</tspan>|>10<", svg)) >= 2 and _numbers(svg) == []


def test_errors_of_one_decade_have_plain_numbers():
    svg = reconstruction_by_layer({"m": pd.DataFrame({"layer": ["a", "b"], "side": "output",
                                                      "reconstruction_error": [0.63, 0.998]})})
    assert len(_numbers(svg)) >= 2 and "×" not in svg


def test_bars_keep_off_the_edges():
    svg = bounds_by_layer(_bounds(["a", "b"]))
    left, right = map(float, re.search(r'id="patch_2">\s*<path d="M (\S+) \S+\s*L (\S+)', svg).groups())
    x = [float(at) for at in re.findall(r'<path d="M (\S+) \S+ \nL \1 \S+ \n" clip', svg)]
    assert len(x) >= 2 and all(left + 20 < at < right - 20 for at in x)


def test_layers_that_are_numbers_say_that_they_are_layers():
    assert [layer_name(name) for name in ("3", "0.12", "conv1", "layer1.0")] == ["layer 3", "layer 0.12", "conv1",
                                                                                "layer1.0"]
    numbers, names = (bounds_by_layer(_bounds(layers)) for layers in (["0", "3"], ["stem.conv", "fc"]))
    assert "rotate(-40" not in numbers and ">layer<" in numbers and "rotate(-40" in names
    assert ">layer 3<" in spectra(_bounds(["0", "3"]))


@pytest.mark.parametrize(("layers", "rows", "columns"), [(1, 1, 1), (5, 1, 5), (6, 2, 3), (8, 2, 4), (9, 2, 5),
                                                         (12, 3, 4), (21, 5, 5)])
def test_panels_fill_their_rows(layers, rows, columns):
    _, panels = _panels([f"l{i}" for i in range(layers)], "epoch")
    assert len(panels) == layers and panels[0].get_gridspec().get_geometry() == (rows, columns)


def test_panels_share_the_names_of_their_axes():
    svg = spectra(_bounds([f"l{i}" for i in range(7)]))
    assert svg.count("share of the eigenvalues") == svg.count(">eigenvalues<") == 1
