"""Plots of frame bounds and spectra."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from framebench.reports.colors import Style, model_styles
from framebench.reports.paper import fitting, page_width
from framebench.reports.plots import legend_above, log_ticks, new_figure, shown

#: Smallest drawn eigenvalue, as a share of the largest in a plot: in float64 smaller ones are rounding errors.
FLOOR = 1e-14


def bounds_by_layer(models: dict[str, pd.DataFrame], styles: Mapping[str, Style] | None = None) -> Figure:
    """Draw the interval [A, B] of every layer on a log axis, models side by side.

    Args:
        models: Model -> frame with layer, lower, upper, lower_converged (if false, the lower end is a triangle that
            points down); the same layers in all.
        styles: Model -> its style; None for the styles of `model_styles`.
    """
    layers, styles = list(next(iter(models.values()))["layer"]), styles or model_styles(models)
    figure, axes = new_figure(min(3 + 0.42 * len(layers) * (1 + 0.25 * len(models)), 13), 3.9)
    floor = _floor(models)
    for i, (model, frame) in enumerate(models.items()):
        x = np.arange(len(layers)) + (i - (len(models) - 1) / 2) * 0.6 / len(models)
        lower, upper = frame["lower"].clip(lower=floor), frame["upper"].clip(lower=floor)
        axes.vlines(x, lower, upper, color=styles[model].color, linewidth=2.2, label=shown(model))
        ends = frame["lower_converged"].to_numpy(dtype=bool)
        axes.plot(np.r_[x[ends], x], np.r_[lower[ends], upper], "_", color=styles[model].color, markersize=9,
                  markeredgewidth=2)
        axes.plot(x[~ends], lower[~ends], "v", color=styles[model].color, markersize=6)
    axes.axhline(1, color="#57606a", linewidth=0.8)
    log_ticks(axes)
    axes.set_ylabel("eigenvalues, from A to B")
    _name_layers(axes, layers)
    legend_above(figure, axes)
    return figure


def reconstruction_by_layer(models: dict[str, pd.DataFrame], styles: Mapping[str, Style] | None = None) -> Figure:
    """Draw every layer's reconstruction error on a log axis; hollow if it has fewer outputs than inputs.

    Args:
        models: Model -> frame with layer, side, reconstruction_error; the same layers in all.
        styles: Model -> its style; None for the styles of `model_styles`.
    """
    layers, styles = list(next(iter(models.values()))["layer"]), styles or model_styles(models)
    figure, axes = new_figure(min(3 + 0.42 * len(layers), 13), 3.2)
    for model, frame in models.items():
        color, error = styles[model].color, frame["reconstruction_error"].astype(float).clip(lower=1e-8)
        axes.plot(error, "-", color=color, linewidth=0.9, alpha=0.6, label=shown(model))
        for side, face in (("input", color), ("output", "white")):
            chosen = frame["side"] == side
            axes.plot(np.flatnonzero(chosen), error[chosen], "o", color=color, markerfacecolor=face, markersize=6)
    log_ticks(axes)
    axes.set_ylabel("error, relative")
    _name_layers(axes, layers)
    legend_above(figure, axes)
    return figure


def spectra(models: dict[str, pd.DataFrame], styles: Mapping[str, Style] | None = None) -> Figure:
    """Draw the sorted eigenvalues of every layer, one panel per layer, one line per model.

    Args:
        models: Model -> frame with layer, lower, upper and spectrum (eigenvalues at equally spaced quantiles,
            ascending, or None); the same layers in all.
        styles: Model -> its style; None for the styles of `model_styles`.
    """
    layers, styles = list(next(iter(models.values()))["layer"]), styles or model_styles(models)
    figure, panels = _panels(layers, "share of the eigenvalues below")
    floor = _floor(models)
    for model, frame in models.items():
        for axes, values in zip(panels, frame["spectrum"], strict=True):
            drawn = np.full(2, np.nan) if values is None else np.maximum(values, floor)  # nan: for the legend
            axes.plot(np.linspace(0, 1, len(drawn)), drawn, color=styles[model].color, label=shown(model),
                      linewidth=1.6)
    for axes in panels:
        axes.axhline(1, color="#57606a", linewidth=0.7)
        axes.set_xlim(0, 1)
        axes.set_xticks([0, 0.5, 1], ["0", "½", "1"])
    log_ticks(panels[0])
    legend_above(figure, panels[-1])
    return figure


def bounds_over_epochs(logs: dict[str, pd.DataFrame], colors: dict[str, str]) -> Figure:
    """Draw the bounds of every layer against the epoch: one panel per layer, one band from A to B per training.

    Args:
        logs: Training -> frame with epoch, layer, lower, upper.
        colors: Training -> its colour.
    """
    layers = list(dict.fromkeys(layer for log in logs.values() for layer in log["layer"]))
    figure, panels = _panels(layers, "epoch")
    floor = _floor(logs)
    for name, log in logs.items():
        color = colors[name]
        for axes, layer in zip(panels, layers, strict=True):
            entries = log[log["layer"] == layer].sort_values("epoch")
            lower, upper = entries["lower"].clip(lower=floor), entries["upper"].clip(lower=floor)
            axes.plot(entries["epoch"], upper, color=color, linewidth=1.6, label=shown(name))
            axes.plot(entries["epoch"], lower, color=color, linewidth=1.6)
            axes.fill_between(entries["epoch"], lower, upper, color=color, alpha=0.1, linewidth=0)
    panels[0].xaxis.set_major_locator(MaxNLocator(4, integer=True))
    log_ticks(panels[0])
    legend_above(figure, panels[-1])
    return figure


def layer_name(layer: str) -> str:
    """Return the label of a layer: "layer 3" for a bare number from an `nn.Sequential`, else its name."""
    return f"layer {layer}" if layer.replace(".", "").isdigit() else layer


def _panels(layers: list[str], xlabel: str) -> tuple[Figure, list[Axes]]:
    """Return a grid of small plots of eigenvalues with shared axes, one per layer, in rows of similar length."""
    longest = max(len(layer_name(layer)) for layer in layers)
    rows = math.ceil(len(layers) / min(5, fitting(page_width(12), 0.3 + 0.075 * max(longest, 10))))
    columns = math.ceil(len(layers) / rows)
    width = page_width(max(2.4 * columns, 4))
    height = min(1.6, 0.3 + width / columns) * rows + 0.3  # the legend adds its own
    figure = Figure(figsize=(width, height))  # no constrained layout: with 50 panels it takes a minute
    left, right = 0.75 / width, 1 - 0.1 / width
    figure.subplots_adjust(left=left, right=right, wspace=0.1 if width / columns > 2 else 0.2, hspace=0.3)
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).ravel()
    for axes, layer in zip(grid, layers, strict=False):
        axes.set_title(layer_name(layer), fontsize=8)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25, linewidth=0.6)
        axes.tick_params(labelsize=8)
    for i in range(len(layers), len(grid)):
        grid[i].set_axis_off()
        grid[i - columns].tick_params(labelbottom=True)  # the lowest panel of its column
    figure.text((left + right) / 2, 0.01, xlabel, ha="center", va="bottom", fontsize=9)
    figure.text(0.05 / width, 0.5, "eigenvalues", ha="left", va="center", rotation=90, fontsize=9)
    return figure, list(grid[: len(layers)])


def _floor(frames: dict[str, pd.DataFrame]) -> float:
    return float(FLOOR * max(frame["upper"].max() for frame in frames.values())) or FLOOR


def _name_layers(axes: Axes, layers: list[str]) -> None:
    if max(map(len, layers)) <= 3:  # the numbers of an `nn.Sequential`
        axes.set_xticks(range(len(layers)), layers, fontsize=8)
        axes.set_xlabel("layer")
    else:
        axes.set_xticks(range(len(layers)), layers, rotation=40, ha="right", fontsize=8)
    figure = axes.get_figure()
    assert isinstance(figure, Figure)
    room = fitting(figure.get_figwidth() - 0.7, 0.17)
    if len(layers) > room:  # vertical names, some left out
        every = math.ceil(len(layers) / (1.3 * room))
        axes.set_xticks(range(0, len(layers), every), layers[::every], rotation=90, ha="center", fontsize=7)
    axes.grid(visible=False, axis="x")
    axes.set_xlim(-0.6, len(layers) - 0.4)
