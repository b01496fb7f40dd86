"""Compute the frame bounds of every convolution and linear layer of models.

Writes OUT/frames.csv (one row per layer: A, B, B/A, certified bounds, and how well the layer's input can be
reconstructed from its output) and OUT/report/index.html. Bounds are those of the layer alone, or with --fold those of
the layer and the batch norm after it. A second call with the same OUT adds to it without repeating work.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.cli.messages import report_line
from bench.options.frames import FramesOptions

if TYPE_CHECKING:
    import pandas as pd

    from framebench.models.registry import LoadedModel

OPTIONS = FramesOptions


def run(options: FramesOptions) -> None:
    """Measure, and print a line for every model."""
    from bench.frames.bounds import run as frames
    from bench.running.checks import load_models

    models = load_models(options.models)
    _print(frames(options, models).frames, models, options)
    print(f"{report_line(options.out)}\ntable: {options.out / 'frames.csv'}")


def _print(table: pd.DataFrame, models: list[LoadedModel], options: FramesOptions) -> None:
    """Print the models and options of this call; the table has those of earlier calls too."""
    from bench.analysis.labels import with_digest
    from framebench.reports.frames import summary_line

    names = {name for model in models for name in (model.name, with_digest(model.name, model.digest))}
    requested = table[table["model"].isin(names) & (table["padding"] == options.padding)
                      & (table["image"] == options.size) & (table["images"] == options.images)
                      & (table["batch_norm"] == ("folded" if options.fold else "left out"))]
    for name, group in requested.groupby("model", sort=False):
        print(f"{name}: {summary_line(group)}")
    if not requested["lower_converged"].all():
        print("<=: A has not converged: the true A may be far smaller, and B/A far larger (lower_converged in the "
              "table)")
