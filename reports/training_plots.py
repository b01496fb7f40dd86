"""Plots of what trainings reached."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from framebench.reports.paper import page_width
from framebench.reports.plots import legend_above, log_ticks, shown


def training_curves(logs: dict[str, pd.DataFrame], colors: dict[str, str]) -> Figure:
    """Draw accuracy, loss and penalty against the epoch, of several trainings.

    Accuracy is that on held-out images (solid) and on the augmented training images (dotted). Penalties of different
    methods have different units, so each is drawn relative to its first epoch; what has none is left out.

    Args:
        logs: Training -> frame with epoch, train_loss, penalty, train_accuracy, validation_accuracy.
        colors: Training -> its colour.
    """
    penalized = {name for name, log in logs.items() if log["penalty"].iloc[0] > 0}
    count, usual = (3, 11.0) if penalized else (2, 7.5)
    width = page_width(usual)
    shape = (1, count) if width / count > 2 else (count, 1)  # in a column one above the other
    figure = Figure(figsize=(width, 3.6 if width == usual else 2.2 * shape[0]), layout="constrained")
    panels = figure.subplots(*shape)
    for name, log in logs.items():
        epoch, color = log["epoch"], colors[name]
        panels[0].plot(epoch, log["validation_accuracy"], color=color, linewidth=1.4, label=shown(name))
        panels[0].plot(epoch, log["train_accuracy"], ":", color=color, linewidth=1.2)
        panels[1].plot(epoch, log["train_loss"], color=color, linewidth=1.4)
        if name in penalized:
            panels[2].plot(epoch, log["penalty"] / log["penalty"].iloc[0], color=color, linewidth=1.4)
    titles = ["accuracy: held out, training (dotted)", "training loss, without the penalty",
              "penalty, relative to epoch 1"]
    for axes, title in zip(panels, titles, strict=False):
        axes.set_title(title, fontsize=9)
        axes.set_xlabel("epoch", fontsize=9)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25, linewidth=0.6)
        axes.tick_params(labelsize=8)
    panels[0].yaxis.set_major_formatter(PercentFormatter(1))
    if penalized:
        log_ticks(panels[2])
    legend_above(figure, panels[0])
    return figure
