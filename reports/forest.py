"""The forest plot: every model minus the reference model, with intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from bench.analysis.answer import Difference
from framebench.reports.colors import Style
from framebench.reports.paper import fitting, page_width
from framebench.reports.plots import shown

#: Colour of differences that are not shown.
_GREY = "#7d8590"
_COLUMNS = 3


def forest_plot(differences: Mapping[str, Sequence[Difference]], reference: str, styles: Mapping[str, Style]) -> Figure:
    """Draw one panel per metric, with one line per model; grey and hollow where no difference is shown.

    Args:
        differences: Title of each metric -> every model minus the reference.
        reference: The reference model.
        styles: Model -> its style in all figures.
    """
    models = list(dict.fromkeys(pair.a for pairs in differences.values() for pair in pairs))
    columns = min(_COLUMNS, len(differences), fitting(page_width(20), 3))
    rows = math.ceil(len(differences) / columns)
    width = page_width(1.8 + 3.1 * columns)
    letters = min(40, int(5 * width / columns))
    figure = Figure(figsize=(width, rows * (0.95 + 0.24 * len(models))), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharey=True)
    for axes in grid.flat[len(differences):]:
        axes.set_axis_off()
    for axes, (title, pairs) in zip(grid.flat, differences.items(), strict=False):
        axes.axvline(0, color="#444444", linewidth=0.9)
        for pair in pairs:
            if math.isnan(pair.difference):
                continue
            row, style = models.index(pair.a), styles[pair.a]
            color = style.color if pair.shown else _GREY
            axes.plot([100 * pair.low, 100 * pair.high], [row, row], color=color, linewidth=1.8, solid_capstyle="butt")
            axes.plot(100 * pair.difference, row, style.marker, color=color, markersize=5.5,
                      markerfacecolor=color if pair.shown else "white")
        axes.set_title(_wrapped(title, min(44, int(12 * width / columns - 0.5 * letters))), fontsize=8, loc="left")
        axes.set_yticks(range(len(models)), [_short(model, letters) for model in models], fontsize=8)
        axes.set_ylim(len(models) - 0.4, -0.6)
        axes.tick_params(axis="x", labelsize=8)
        axes.grid(axis="x", alpha=0.25, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    figure.supxlabel(f"minus {_short(reference, min(60, int(10 * width)))}, points", fontsize=9)
    return figure


def _short(name: str, most: int) -> str:
    return shown(name if len(name) <= most else f"{name[:most - 1]}…")


def _wrapped(title: str, width: int = 44) -> str:
    """Return a title in lines that fit above a panel."""
    lines = [""]
    for word in shown(title, 120).split(" "):
        if len(lines[-1]) + len(word) >= width and lines[-1]:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "\n".join(lines)
