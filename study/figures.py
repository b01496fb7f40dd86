"""The figures of the account, as SVG: the same rows give the same bytes. An arm has one colour and marker in all."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from framebench.reports.colors import COLORS, MARKERS
from framebench.reports.plots import new_figure, to_svg
from study import claims
from study.analysis import CONTROL, Result, Study
from study.endpoints import PRIMARY
from study.regression import partial
from study.statistics import Floats

#: Keys of the endpoints in the forest plot.
FOREST = (PRIMARY.key, "asr-100", "clean", "cifar10-c")


def figures(study: Study) -> dict[str, str]:
    """Draw the figures that have data.

    Returns:
        File name -> SVG.
    """
    drawn = {}
    if panels := [study.results[key] for key in FOREST if key in study.results and study.results[key].methods]:
        drawn["forest.svg"] = _forest(study, panels)
    if (primary := study.results.get(PRIMARY.key)) is not None:
        drawn["accuracy.svg"] = _robustness_against_accuracy(study, primary)
        if len(primary.trainings) > 2:
            drawn["frameness.svg"] = _robustness_against_frameness(study, primary)
    return drawn


def _style(study: Study, arm: str) -> tuple[str, str]:
    """Return an arm's colour and marker; no two arms of a manifest share both."""
    place = list(study.titles).index(arm)
    return COLORS[place % len(COLORS)], MARKERS[(place + place // len(COLORS)) % len(MARKERS)]


def _forest(study: Study, panels: Sequence[Result]) -> str:
    methods = [arm for arm in study.titles if any(arm in panel.methods for panel in panels)]
    figure = Figure(figsize=(2.4 + 2.1 * len(panels), 1.3 + 0.26 * len(methods)), layout="constrained")
    for axes, panel in zip(figure.subplots(1, len(panels), sharey=True, squeeze=False)[0], panels, strict=True):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25, linewidth=0.6)
        axes.axvline(0, color="black", linewidth=0.8)
        for method, dashes in (("frame", "--"), ("OCNN", ":")):
            axes.axvline(claims.effects(method)[panel.endpoint.key], color="#666666", linewidth=1.2, linestyle=dashes,
                         label=f"the study's claim for {method}")
        for arm in panel.methods:
            color, marker = _style(study, arm)
            place = methods.index(arm)
            axes.plot([100 * end for end in panel.interval(arm)], [place, place], color=color, linewidth=1.8)
            axes.plot(100 * panel.differences[arm].value, place, marker, color=color, markersize=5)
        better = "higher is better" if panel.endpoint.better > 0 else "lower is better"
        axes.set_title(panel.endpoint.title, fontsize=9)
        axes.set_xlabel(f"minus plain, points\n({better})", fontsize=8)
        axes.set_yticks(range(len(methods)), [study.titles[arm] for arm in methods], fontsize=8)
        axes.set_ylim(len(methods) - 0.5, -0.5)
        axes.tick_params(labelsize=8)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False, fontsize=8)
    return to_svg(figure)


def _points(axes: Axes, study: Study, result: Result, x: Floats, y: Floats) -> None:
    """Draw one point per training: filled if its coefficient is that of the arm, hollow if it was only tried."""
    groups = np.array(result.data.groups)
    arms = np.array([trained.training.arm for trained in result.trainings])
    for arm in (arm for arm in study.titles if arm in arms):
        color, marker = _style(study, arm)
        chosen = groups == arm
        tried = (arms == arm) & ~chosen
        axes.plot(x[chosen], y[chosen], marker, color=color, markersize=5.5, label=study.titles[arm], linestyle="none",
                  zorder=4 if arm == CONTROL else 3)
        axes.plot(x[tried], y[tried], marker, color=color, markersize=5.5, fillstyle="none", linestyle="none")


def _legend(figure: Figure, axes: Axes) -> None:
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right upper", frameon=False, fontsize=7)


def _robustness_against_accuracy(study: Study, result: Result) -> str:
    figure, axes = new_figure(6.4, 3.6)
    _points(axes, study, result, 100 * result.accuracy, 100 * result.data.values)
    axes.set_xlabel("clean accuracy, percent")
    axes.set_ylabel(f"{result.endpoint.title}, percent", fontsize=9)
    _legend(figure, axes)
    return to_svg(figure)


def _robustness_against_frameness(study: Study, result: Result) -> str:
    figure = Figure(figsize=(8.4, 3.6), layout="constrained")
    ratio = result.frameness()
    left, right = figure.subplots(1, 2)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25, linewidth=0.6)
        axes.set_xlabel("log10 B/A, median over the layers", fontsize=9)
        axes.invert_xaxis()  # towards a tight frame on the right
    _points(left, study, result, ratio, 100 * result.data.values)
    _points(right, study, result, partial(ratio, result.accuracy), 100 * partial(result.data.values, result.accuracy))
    left.set_title("as trained", fontsize=9)
    right.set_title("at equal clean accuracy", fontsize=9)
    left.set_ylabel(f"{result.endpoint.title}, percent", fontsize=9)
    _legend(figure, left)
    return to_svg(figure)
