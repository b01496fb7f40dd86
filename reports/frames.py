"""The section on frame bounds: the spectrum of each layer and the reconstruction of its input."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bench.analysis.frame_tables import ratio
from framebench.reports import charts
from framebench.reports.colors import Style, model_styles
from framebench.reports.document import Block, Cell, Part, Plot, Section, Table, Text, table
from framebench.reports.format import count, number_of
from framebench.reports.frames_plots import (
    FLOOR,
    bounds_by_layer,
    bounds_over_epochs,
    layer_name,
    reconstruction_by_layer,
    spectra,
)
from framebench.reports.training_plots import training_curves

if TYPE_CHECKING:
    from bench.analysis.findings import Findings

#: A log axis has no place for 0.
_NOUGHT = f" Values below {FLOOR:g} times the largest one, including 0, are drawn at that level."

_COLUMNS = (
    "Circular padding: exact bounds, by the Fourier transform of the kernel, of the layer's convolution on a torus of "
    "the given size. Own padding: exact where the layer itself is circular, or linear; else estimates by Lanczos' "
    "method, A from above and B from below. A bound is said to have converged where an eigenvalue lies within a "
    "thousandth of it. ≤ marks an A that has not, ≥ such a B, and ≥ a B/A of which either has not. Gershgorin: bounds "
    "that hold for certain, min(v - S) and max(v + S); a lower one below 0 says nothing. Reconstruction: the real "
    "inputs are activations of real images. Each layer is taken as it is in the model, with its own padding, and "
    "pixels that it skips do not count. Conjugate gradients lower the error by (√B - √A) / (√B + √A) per step or "
    "faster. Recovered: the norm of what was found divided by that of the input. Batch norms are not part of a layer "
    "unless they were folded into it.")


def frames_section(found: Findings) -> Section | None:
    """Return the section on frame bounds and training logs; None if there are neither."""
    models, logs = found.frames, found.logs
    if not models and not logs.bounds and not logs.epochs:
        return None
    parts = _bounds(models, model_styles([*found.models])) if models else []
    named = dict.fromkeys([*models, *logs.epochs, *logs.bounds])  # models and trainings of one name share a colour
    styles = model_styles([*found.models, *named])
    colors = {name: styles[name].color for name in named}
    if logs.epochs:
        parts.append(Part("Training", [Plot(
            "training curves", "What each epoch reached. Penalties of different methods have different units, so each "
            "is drawn as a multiple of its own value after the first epoch.",
            partial(training_curves, logs.epochs, colors), charts.training_lines(logs.epochs))]))
    if logs.bounds:
        parts.append(Part("Bounds in the course of training", [Plot(
            "training", "A and B (the edges of a band) of every layer after each epoch." + _NOUGHT,
            partial(bounds_over_epochs, logs.bounds, colors))]))
    if models:
        parts += [Part(f"Layers of {label}", [_layers(label, frame)]) for label, frame in models.items()]
        parts.append(Part("What the columns are", [Text(_COLUMNS, "soft")]))
    layers = number_of(sum(map(len, models.values())), "layer")
    provenance = [{"heading": label, **facts} for label, facts in found.frame_provenance.items()]
    if not models:
        return Section("Training", f"logs of {', '.join(named)}", parts, provenance)
    return Section("Frame bounds", f"{layers} of {', '.join(models)}", parts, provenance)


def _bounds(models: Mapping[str, pd.DataFrame], styles: Mapping[str, Style]) -> list[Block]:
    """Return the parts on the bounds of models: label -> one row per layer."""
    parts: list[Block] = [Part("At a glance", [_summary(models), Text(
        "A and B are the smallest and the largest eigenvalue of a layer's Gram matrix. If A > 0, a layer's input z "
        "can be recovered from its output, with errors that grow at most by the square root of B/A; A = B is a tight "
        "frame. On the input side that is TᵀT. A layer with fewer outputs than inputs loses some of z "
        "whatever its weights are; there A and B are those of TTᵀ (output side), and say how far the rows are from "
        "orthogonal. The median error is that of reconstructing the layers' inputs.", "soft")])]
    groups = _same_layers(models)
    for group in groups:
        names = f": {', '.join(group)}" if len(groups) > 1 else ""
        drawn = [Plot(
            f"bounds{names}", "The interval from A to B of every layer, in the order of the calls; the line is at 1. A "
            "lower end that is a triangle has not converged: A is there or below, perhaps far below." + _NOUGHT,
            partial(bounds_by_layer, group, styles), charts.bounds(group, FLOOR))]
        if all(frame["spectrum"].notna().any() for frame in group.values()):
            drawn.append(Plot(
                f"spectra{names}", "All eigenvalues of every layer, sorted: A at the left, B at the right end. A tight "
                "frame is a flat line." + _NOUGHT, partial(spectra, group, styles)))
        parts.append(Part(f"Bounds by layer{names}", drawn))
        measured = {label: frame for label, frame in group.items() if frame["reconstruction_error"].notna().any()}
        if measured:
            parts.append(Part(f"Reconstruction of each layer's input{names}", [Plot(
                f"reconstruction{names}", "Relative error of each layer's input, as reconstructed from its output by "
                "50 steps of conjugate gradients. Filled: all of it could be recovered; hollow: the layer has fewer "
                "outputs than inputs, so a part is lost.", partial(reconstruction_by_layer, measured, styles))]))
    return parts


def _same_layers(models: Mapping[str, pd.DataFrame]) -> list[dict[str, pd.DataFrame]]:
    """Group models whose layers have the same names: they share their plots."""
    groups: dict[tuple[str, ...], dict[str, pd.DataFrame]] = {}
    for label, frame in models.items():
        groups.setdefault(tuple(frame["layer"]), {})[label] = frame
    return list(groups.values())


def _summary(models: Mapping[str, pd.DataFrame]) -> Table:
    rows: list[list[Cell | str]] = []
    for label, frame in models.items():
        at_most, upper_at_least, at_least = _marks(frame)
        ratios = ratio(frame)
        kept = frame.loc[frame["side"] == "input", "reconstruction_error"].astype(float)
        rows.append([label, count(len(frame)), count(int((frame["side"] == "input").sum())),
                     _number(frame["lower"].min(), at_most), _number(frame["upper"].max(), upper_at_least),
                     _number(ratios.max(), at_least, layer_name(frame["layer"].iloc[int(ratios.argmax())])),
                     _number(ratios.median(), at_least), _number(kept.median())])
    return table("frames", ["model", "layers", "input side", "least A", "largest B", "largest B/A", "median B/A",
                  "median error"], rows)


def _layers(model: str, frame: pd.DataFrame) -> Table:
    rows: list[list[Cell | str]] = []
    for row, least_ratio in zip(frame.to_dict("records"), ratio(frame), strict=True):
        at_most, upper_at_least, at_least = _marks(row)
        shape = f"{row['c_in']} → {row['c_out']}"
        kernel = ", ".join(filter(None, [
            row["kernel"], row["stride"] != "1x1" and row["stride"] and f"stride {row['stride']}",
            row["groups"] > 1 and f"{row['groups']} groups"]))
        rows.append([row["layer"], Cell(shape, kernel), f"{row['height']}x{row['width']}" if row["kernel"] else "–",
                     row["side"], _number(row["lower"], at_most), _number(row["upper"], upper_at_least),
                     _number(least_ratio, at_least),
                     f"[{_number(row['gershgorin_lower']).text}, {_number(row['gershgorin_upper']).text}]",
                     _number(row["reconstruction_error"]), _number(row["recovered"])])
    return table(f"layers {model}", ["layer", "channels", "input size", "side", "A", "B", "B/A", "Gershgorin",
                                     "reconstruction error", "recovered"], rows)


def summary_line(frame: pd.DataFrame) -> str:
    """Return a model's summary in one line: the ranges of its layers' bounds and the worst ratio, with `_marks`.

    Args:
        frame: The rows of ``frames.csv`` of one model.
    """
    ratios, lower = ratio(frame), frame["lower"]
    at_most, upper_at_least, at_least = (mark.replace("≤", "<=").replace("≥", ">=") for mark in _marks(frame))
    return (f"{len(frame)} layers, A from {at_most}{lower.min():.2g} to {at_most}{lower.max():.2g}, B from "
            f"{frame['upper'].min():.3g} to {upper_at_least}{frame['upper'].max():.3g}, worst B/A "
            f"{at_least}{ratios.max():.2g} ({frame['layer'].iloc[int(ratios.argmax())]})")


def _marks(bounds: pd.DataFrame | dict[Hashable, Any]) -> tuple[str, str, str]:
    """Return the signs before A, B and B/A of one or several layers, empty for converged ones."""
    lower, upper = bool(np.all(bounds["lower_converged"])), bool(np.all(bounds["upper_converged"]))
    return "" if lower else "≤ ", "" if upper else "≥ ", "" if lower and upper else "≥ "


def _number(value: float | None, mark: str = "", below: str = "") -> Cell:
    """Return a number with three significant digits after a mark; a dash for None or nan."""
    if value is None or np.isnan(value):
        return Cell(mark + "–", below)
    return Cell(mark + ("∞" if np.isinf(value) else f"{value:.3g}"), below, float(value))
