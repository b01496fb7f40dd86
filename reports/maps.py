"""Maps: accuracy as a colour, by corruption and by class."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from framebench.reports.paper import fitting, page_width
from framebench.reports.plots import NARROW, shown

#: Most columns of a map by class; the interactive chart has all.
_MOST_COLUMNS = 24


def heat_map(cells: pd.DataFrame) -> Figure:
    """Draw accuracy by corruption and model (mean over severities), or of a single model by corruption and severity.

    With several models, only the cells that all of them have count: other means could not be compared.

    Args:
        cells: Columns model, corruption, severity, accuracy.

    Returns:
        The plot.
    """
    by = "model" if cells["model"].nunique() > 1 else "severity"
    common = in_all_models(cells) if by == "model" else cells
    grid = common.pivot_table(index="corruption", columns=by, values="accuracy", sort=False)
    grid = grid.reindex(list(dict.fromkeys(cells["corruption"])), columns=list(dict.fromkeys(cells[by])))
    width = page_width(2.6 + 0.62 * max(grid.shape[1], 3))
    figure = Figure(figsize=(width, 0.9 + 0.27 * len(grid)), layout="constrained")
    axes = figure.subplots()
    _shaded(axes, grid.to_numpy())
    axes.set_yticks(range(len(grid)), [name.replace("_", " ") for name in grid.index], fontsize=8)
    axes.set_xticks(range(grid.shape[1]), [shown(str(name)) for name in grid.columns], fontsize=8,
                    rotation=0 if by == "severity" else 30, ha="center" if by == "severity" else "right")
    if by == "severity":
        axes.set_xlabel("severity")
    return figure


def class_map(chart: Mapping[str, Any]) -> Figure:
    """Draw accuracy by class, one column per model and, where they fit, per measure.

    Args:
        chart: What `framebench.reports.charts.by_class` returns.

    Returns:
        The plot.
    """
    columns = [(measure["label"], model, [entry[0] if entry else np.nan for entry in values])
               for measure in chart["measures"] for model, values in measure["models"].items()]
    most = min(_MOST_COLUMNS, fitting(page_width(20) - 1.2, 0.22))
    while len(columns) > most and columns[-1][0] != columns[0][0]:  # whole measures are left out
        columns = [column for column in columns if column[0] != columns[-1][0]]
    columns = columns[:_MOST_COLUMNS]
    grid = np.array([values for *_, values in columns], dtype=float).T
    width = page_width(2.2 + 0.5 * max(len(columns), 4))
    figure = Figure(figsize=(width, 1.6 + 0.27 * len(grid)), layout="constrained")
    axes = figure.subplots()
    _shaded(axes, grid)
    axes.set_yticks(range(len(grid)), [shown(name) for name in chart["classes"]], fontsize=8)
    axes.set_xticks(range(len(columns)), [shown(model) for _, model, _ in columns], fontsize=8,
                    rotation=30 if width > NARROW else 90, ha="right" if width > NARROW else "center")
    starts = [i for i, (what, *_) in enumerate(columns) if i == 0 or columns[i - 1][0] != what]
    for i, start in enumerate(starts):
        end = (starts + [len(columns)])[i + 1]
        axes.axvline(start - 0.5, color="white", linewidth=4)
        letters = max(int(17 * (width - 1.2) / len(columns) * (end - start)), 4)
        axes.text((start + end - 1) / 2, -0.7, "\n".join(textwrap.wrap(shown(columns[start][0], 120), letters)),
                  ha="center", va="bottom", fontsize=7)
    return figure


def _shaded(axes: Axes, grid: np.ndarray) -> None:
    """Draw a grid of fractions: colours, and percent in figures where there is room, else a scale of the colours."""
    image = axes.imshow(grid, aspect="auto", cmap="viridis", vmin=0, vmax=1)
    figure = axes.get_figure()
    assert isinstance(figure, Figure)
    if grid.shape[1] > fitting(figure.get_figwidth() - 1.2, 0.2):
        figure.colorbar(image, format=PercentFormatter(1))
        return
    for (row, column), value in np.ndenumerate(grid):
        if np.isfinite(value):
            axes.text(column, row, f"{100 * value:.0f}", ha="center", va="center", fontsize=8,
                      color="white" if value < 0.6 else "black")


def in_all_models(cells: pd.DataFrame) -> pd.DataFrame:
    """Return those cells (columns model, corruption, severity, ...) that every model has."""
    models = cells.groupby(["corruption", "severity"])["model"].transform("nunique")
    return cells[models == cells["model"].nunique()]
