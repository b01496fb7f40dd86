"""Heat maps of accuracy, by corruption and by class."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Mapping
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
#: Height of a row and of a line of small letters, in inches; letters per inch; letters of a word.
_ROW, _LINE, _LETTERS, _WORD = 0.27, 0.15, 16, 10
#: Most letters of a label, and most lines of a heading.
_LABEL, _LINES = 32, 4


def heat_map(cells: pd.DataFrame) -> Figure:
    """Draw accuracy by corruption and model (mean over severities), or by corruption and severity for a single model.

    With several models, only the cells that all of them have count, so that the means are comparable.

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
    labels = [shown(str(name), _LABEL) for name in grid.columns]
    below = _LINE if by == "severity" else _beneath(labels, 30)
    figure = Figure(figsize=(width, 0.5 + below + _ROW * len(grid)), layout="constrained")
    axes = figure.subplots()
    _shaded(axes, grid.to_numpy())
    axes.set_yticks(range(len(grid)), [name.replace("_", " ") for name in grid.index], fontsize=8)
    axes.set_xticks(range(grid.shape[1]), labels, fontsize=8,
                    rotation=0 if by == "severity" else 30, ha="center" if by == "severity" else "right")
    if by == "severity":
        axes.set_xlabel("severity")
    return figure


def class_map(chart: Mapping[str, Any]) -> Figure:
    """Draw accuracy by class, one column per model and, if they fit, per measure.

    Args:
        chart: The data from `framebench.reports.charts.by_class`.

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
    slope = 30 if width > NARROW else 90
    models = [shown(model, _LABEL) for _, model, _ in columns]
    starts = [i for i, (label, *_) in enumerate(columns) if i == 0 or columns[i - 1][0] != label]
    spans = np.diff([*starts, len(columns)])
    inches = [(width - 1.2) / len(columns) * span for span in spans]
    upright = min(inches) * _LETTERS < _WORD
    above = [_headed(columns[start][0], room, upright) for start, room in zip(starts, inches, strict=True)]
    lines = [line for heading in above for line in heading] if upright else max(above, key=len)
    height = max(map(len, lines)) / _LETTERS if upright else len(lines) * _LINE
    figure = Figure(figsize=(width, 0.5 + height + _beneath(models, slope) + _ROW * len(grid)), layout="constrained")
    axes = figure.subplots()
    _shaded(axes, grid)
    axes.set_yticks(range(len(grid)), [shown(name, _LABEL) for name in chart["classes"]], fontsize=8)
    axes.set_xticks(range(len(columns)), models, fontsize=8, rotation=slope, ha="right" if slope < 90 else "center")
    for start, span, heading in zip(starts, spans, above, strict=True):
        axes.axvline(start - 0.5, color="white", linewidth=4)
        axes.text(start + (span - 1) / 2, -0.7, "\n".join(heading), ha="center", va="bottom", fontsize=7,
                  rotation=90 if upright else 0)
    return figure


def _headed(label: str, room: float, upright: bool) -> list[str]:
    """Return the lines of a heading over columns of a total width of `room` inches."""
    most, letters = (max(int(room / _LINE), 1), _LABEL) if upright else (_LINES, int(room * _LETTERS))
    label = label.removeprefix("robust accuracy, ")  # the name of the attack that follows implies it
    label = shown(label, most * letters - (most - 1) * letters // 3)  # lines that end with a word are not full
    return textwrap.wrap(label, letters, max_lines=most, placeholder="…")


def _beneath(labels: Iterable[str], slope: int) -> float:
    """Return the height in inches of the labels of columns, which are rotated by `slope` degrees."""
    return max(map(len, labels)) / _LETTERS * math.sin(math.radians(slope)) + _LINE


def _shaded(axes: Axes, grid: np.ndarray) -> None:
    """Draw a grid of fractions in colour, with percentages if there is room, else with a colour bar."""
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
    """Return the cells (columns model, corruption, severity, ...) that every model has."""
    models = cells.groupby(["corruption", "severity"])["model"].transform("nunique")
    return cells[models == cells["model"].nunique()]
