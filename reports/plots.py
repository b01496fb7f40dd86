"""Plots, and their conversion to SVG."""

from __future__ import annotations

import io
import math
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator, PercentFormatter

from framebench.reports.colors import COLORS, DASHES, MARKERS, Style, model_styles
from framebench.reports.format import visible
from framebench.reports.paper import apart, fitting, page_width, shortened

#: Length of the dashes of coinciding curves, in line widths.
_DASH = 5
#: Longest label, in characters; tables have the full name.
_LONGEST = 40
#: Most labels of a legend inside the axes; more would cover the curves.
_IN_CORNER = 8
#: Narrowest figure with a legend inside the axes, in inches.
NARROW = 5


def asr_curves(curves: dict[tuple[str, str], pd.DataFrame], unit: str, budgets: list[int],
               styles: Mapping[str, Style] | None = None, lines: Sequence[Mapping[str, Any]] = ()) -> Figure:
    """Draw attack success rate against a budget, with 95% bands.

    Args:
        curves: (model, attack) -> frame with budget, asr, ci_low, ci_high.
        unit: "iterations" or "queries", the budget's unit.
        budgets: Budgets to mark on the axis.
        styles: Model -> its style; None for the styles of `model_styles`.
        lines: Published numbers, see `framebench.reports.charts.published_lines`.

    Returns:
        The plot.
    """
    figure, axes = new_figure(6.4, 4.0)
    models = list(dict.fromkeys(model for model, _ in curves))
    styles = styles or model_styles(models)
    attacks = list(dict.fromkeys(attack for _, attack in curves))
    labels = curve_labels(curves)
    alike = {key: group for group in coinciding(curves) for key in group}
    end = max(1, *(int(curve["budget"].max()) for curve in curves.values()))
    for (model, attack), curve in curves.items():
        group = alike.get((model, attack))
        if group is None:
            continue  # no ASR: its interval, [0, 1] everywhere, would hide the others
        place = attacks.index(attack)
        if len(models) > 1:  # those that share a colour have other dashes, and when these are used up, markers
            color = styles[model].color
            rounds, dash = divmod(DASHES.index(styles[model].dashes) * len(attacks) + place, len(DASHES))
        else:  # each attack has a colour: there can be many of them (one per epsilon)
            color, rounds, dash = COLORS[place % len(COLORS)], place // len(COLORS), place % len(DASHES)
        marker = ("", *MARKERS)[rounds % (len(MARKERS) + 1)]
        dashes: str | tuple[int, tuple[int, int]] = DASHES[dash]
        if len(group) > 1:  # each shows in the gaps of the others
            dashes = (-_DASH * group.index((model, attack)), (_DASH, _DASH * (len(group) - 1)))
        axes.step(curve["budget"], curve["asr"], where="post", color=color, linewidth=1.8, linestyle=dashes,
                  marker=marker, markersize=5, markevery=0.12)
        axes.plot([], [], color=color, label=shown(labels[model, attack]), linewidth=1.8,
                  linestyle="-" if len(group) > 1 else dashes, marker=marker, markersize=5)
        low, high = curve["ci_low"], curve["ci_high"]
        axes.fill_between(curve["budget"], low, high, step="post", color=color, alpha=0.13 / len(group), linewidth=0)
        axes.fill_between(curve["budget"], low, high, step="post", facecolor="none", edgecolor=color, alpha=0.4,
                          linewidth=0.6)  # bands that overlap are told apart by their edges
    _published(axes, lines, styles)
    axes.set_xscale("symlog", linthresh=1, linscale=0.5)  # a log axis that has a place for 0, the control
    ticks = sorted({0, *(budget for budget in budgets if budget <= end)})
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.minorticks_off()
    axes.set_xlim(0, end)
    scale = axes.xaxis.get_transform().transform
    axes.set_xticks(apart({tick: float(scale(tick)) for tick in ticks}, figure.get_figwidth()))
    axes.set_ylim(-0.03, 1.03)  # curves at 0 and at 1 lie off the edges
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.set_xlabel(f"budget ({unit} per image)")
    axes.set_ylabel("attack success rate")
    if alike:
        _legend(figure, axes, "upper left")
    return figure


def _published(axes: Axes, lines: Sequence[Mapping[str, Any]], styles: Mapping[str, Style]) -> None:
    for line in lines:
        axes.plot(line["x"], line["y"], "D", markersize=7, fillstyle="none", zorder=5,
                  color=styles[line["model"]].color)
    if lines:
        axes.plot([], [], "D", markersize=7, fillstyle="none", color="#444444", label="published")


def curve_labels(curves: Iterable[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """Return (model, attack) -> label of its curve in `asr_curves`, without what all curves share."""
    keys = list(curves)
    models, attacks = (len(set(names)) for names in zip(*keys, strict=True))
    return {(model, attack): " · ".join([model] * (models > 1 or attacks == 1) + [attack] * (attacks > 1))
            for model, attack in keys}


def coinciding(curves: dict[tuple[str, str], pd.DataFrame]) -> list[list[tuple[str, str]]]:
    """Group curves (see `asr_curves`) with equal ASR, regardless of intervals; curves without ASR are left out."""
    groups: dict[tuple[tuple[float, float], ...], list[tuple[str, str]]] = {}
    for key, curve in curves.items():
        if curve["asr"].notna().all():
            steps = curve.loc[curve["asr"].diff() != 0, ["budget", "asr"]]
            groups.setdefault(tuple(steps.itertuples(index=False, name=None)), []).append(key)
    return list(groups.values())


def attacked_images(pictures: list[tuple[str, np.ndarray, np.ndarray, str]], scale: float) -> Figure:
    """Draw clean images, their perturbations and the attacked images, one column per image.

    Args:
        pictures: (title, clean, attacked, caption) of each; images are [H, W, 3] in [0, 1].
        scale: The difference drawn in full colour; zero is grey.

    Returns:
        The plot.
    """
    width = page_width(1.35 * len(pictures) + 0.7)
    pictures = pictures[:fitting(width - 0.4, 0.9)]
    figure = Figure(figsize=(width, min(4.6, 3 * width / len(pictures))), layout="constrained")
    grid = figure.subplots(3, len(pictures), squeeze=False)
    for column, (title, clean, attacked, caption) in enumerate(pictures):
        difference = np.clip(0.5 + (attacked - clean) / (2 * scale), 0, 1)
        for row, image in enumerate((clean, difference, attacked)):
            axes = grid[row, column]
            axes.imshow(image, interpolation="nearest")
            axes.set_xticks([])
            axes.set_yticks([])
            for spine in axes.spines.values():
                spine.set_visible(False)
        grid[0, column].set_title(_wrapped(title), fontsize=8)
        grid[2, column].set_xlabel(_wrapped(caption), fontsize=8)
    for row, name in enumerate(("clean", f"difference (±{scale:g})", "attacked")):
        grid[row, 0].set_ylabel(name, fontsize=8)
    return figure


def _wrapped(text: str) -> str:
    """Return text wrapped to the width of a column of `attacked_images` in any common font."""
    return shown("\n".join(part for line in text.splitlines() for part in textwrap.wrap(line, 16)))


def accuracy_curves(frame: pd.DataFrame, against: str, label: str = "accuracy",
                    styles: Mapping[str, Style] | None = None, lines: Sequence[Mapping[str, Any]] = ()) -> Figure:
    """Draw accuracy against a severity or an epsilon, one line per model, with 95% bands.

    Args:
        frame: Columns model, accuracy, ci_low, ci_high, and `against`, where 0 is clean.
        against: Name of the column on the horizontal axis.
        label: Label of the accuracy.
        styles: Model -> its style; None for the styles of `model_styles`.
        lines: Published numbers, see `framebench.reports.charts.published_lines`.

    Returns:
        The plot.
    """
    figure, axes = new_figure(6.4, 4.0)
    styles = styles or model_styles(frame["model"])
    for model, group in frame.groupby("model", sort=False):
        line, style = group.sort_values(against), styles[str(model)]
        axes.plot(line[against], line["accuracy"], marker="o", markersize=4, color=style.color,
                  label=shown(str(model)), linewidth=1.8, linestyle=style.dashes)
        axes.fill_between(line[against], line["ci_low"], line["ci_high"], color=style.color, alpha=0.13, linewidth=0)
    _published(axes, lines, styles)
    axes.set_xticks(sorted(frame[against].unique()))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.set_xlabel(against)
    axes.set_ylabel(label)
    _legend(figure, axes, "lower left")
    return figure


def clean_against_shifted(summary: pd.DataFrame, styles: Mapping[str, Style] | None = None) -> Figure:
    """Draw shifted against clean accuracy: one colour per model, one marker per domain.

    Args:
        summary: Columns model, domain, clean_accuracy, accuracy, ci_low, ci_high.
        styles: Model -> its style; None for the styles of `model_styles`.

    Returns:
        The plot.
    """
    figure, axes = new_figure(6.4, 4.4)
    models, domains = (list(dict.fromkeys(summary[name])) for name in ("model", "domain"))
    styles = styles or model_styles(models)
    for row in summary.to_dict("records"):
        axes.errorbar(row["clean_accuracy"], row["accuracy"], capsize=2, linewidth=1, markersize=6,
                      yerr=[[row["accuracy"] - row["ci_low"]], [row["ci_high"] - row["accuracy"]]],
                      color=styles[row["model"]].color,
                      marker=MARKERS[domains.index(row["domain"]) % len(MARKERS)])
    for model in models:
        axes.plot([], [], "o", color=styles[model].color, label=shown(str(model)))
    for i, domain in enumerate(domains):
        axes.plot([], [], MARKERS[i % len(MARKERS)], color="#57606a", label=shown(str(domain)))
    axes.xaxis.set_major_locator(MaxNLocator(5))  # labels such as 88.50% beside each other need room
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1))
    axes.set_xlabel("clean accuracy")
    axes.set_ylabel("shifted accuracy")
    _legend_beside(figure, axes)
    return figure


def legend_above(figure: Figure, axes: Axes) -> None:
    """Put the legend above the figure, in as many rows as its labels need; the axes keep their height."""
    handles, labels = axes.get_legend_handles_labels()
    letters = 13 * figure.get_figwidth()  # 13 characters an inch
    labels = [shortened(label, int(letters) - 8) for label in labels]
    columns = max(int(letters / (max(map(len, labels)) + 8)), 1)
    above = 0.2 * math.ceil(len(labels) / columns)
    if figure.get_layout_engine():
        corner, height = "outside upper left", figure.get_figheight() + above
    else:  # no layout engine
        corner, above = "upper left", above + 0.45
        height = figure.get_figheight() + above
        figure.subplots_adjust(bottom=0.5 / height, top=1 - above / height)
    figure.set_figheight(height)
    figure.legend(handles, labels, frameon=False, fontsize=9, loc=corner, ncols=columns)


def _legend(figure: Figure, axes: Axes, corner: str) -> None:
    """Put the legend into a corner of the axes, or above them if it would cover the curves."""
    handles, labels = axes.get_legend_handles_labels()
    if len(labels) > _IN_CORNER or figure.get_figwidth() < NARROW:
        legend_above(figure, axes)
    else:
        labels = [shortened(label, int(9 * figure.get_figwidth())) for label in labels]
        axes.legend(handles, labels, frameon=False, loc=corner, fontsize=9)


def _legend_beside(figure: Figure, axes: Axes) -> None:
    """Put the legend to the right of the axes, or above them if the figure is narrow."""
    if figure.get_figwidth() < NARROW:
        legend_above(figure, axes)
    else:
        axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))


def shown(name: str, longest: int = _LONGEST) -> str:
    """Return a name as a label for Matplotlib: not left out of legends, without mathematics, shortened if long."""
    name = shortened(visible(name), longest)
    return ("\u200b" if name.startswith("_") else "") + name.replace("$", r"\$")


def new_figure(width: float, height: float) -> tuple[Figure, Axes]:
    """Return a figure of this size in inches, or of a paper's width (`framebench.reports.paper`), and its axes."""
    narrow = page_width(width)
    height = min(height, max(0.72 * narrow, 0.6 * height))  # never much taller than wide
    figure = Figure(figsize=(narrow, height), layout="constrained")  # not pyplot: no global state, no display
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25, linewidth=0.6)
    return figure, axes


def log_ticks(axes: Axes) -> None:
    """Make the vertical axis logarithmic, with plain numbers if it spans less than two decades."""
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    if high >= 100 * low:
        axes.yaxis.set_major_locator(LogLocator(numticks=6))
    else:
        within_one = MaxNLocator(6, steps=(1, 2, 5, 10))
        axes.yaxis.set_major_locator(within_one if high < 10 * low else LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_locator(NullLocator())


def to_svg(figure: Figure) -> str:
    """Return a figure as an SVG element."""
    out = io.StringIO()
    # A fixed salt and no date: the same rows give the same bytes.
    with matplotlib.rc_context({"svg.hashsalt": "framebench", "svg.fonttype": "none", "font.family": "sans-serif"}):
        figure.savefig(out, format="svg", metadata={"Date": None})
    return re.sub(r"^.*?(?=<svg)", "", out.getvalue(), flags=re.DOTALL)
