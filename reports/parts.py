"""The sections on AutoAttack's parts, and on attacks with several epsilons."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pandas as pd

from bench.analysis.attack_tables import epsilon_curves
from framebench.reports import charts
from framebench.reports.colors import model_styles
from framebench.reports.document import Cell, Part, Plot, Row, Text, table
from framebench.reports.format import count, rate
from framebench.reports.plots import accuracy_curves

if TYPE_CHECKING:
    from bench.analysis.findings import Findings


def parts_sections(parts: pd.DataFrame) -> list[Part]:
    """Return the section on ``autoattack.csv``; [] if it has no rows."""
    if not len(parts):
        return []
    rows: list[list[Cell | str]] = [
        [row["model"], row["domain"], row["attack"], row["part"], count(row["attacked"]), count(row["broken"]),
         rate(row["robust_accuracy"], row["robust_low"], row["robust_high"]), count(row["queries"]),
         count(row["gradients"])] for row in parts.to_dict("records")]
    header = ["model", "data", "attack", "part", "attacked", "broken", "robust after it", "queries", "gradients"]
    return [Part("AutoAttack, part by part", [table("autoattack", header, rows, 4, settings=("data", "attack")), Text(
        "Each part attacks the images that those before it have not broken. Queries and gradients are over all images; "
        "a gradient is a backward pass of one image.", "soft")])]


def epsilon_sections(found: Findings) -> list[Part]:
    """Return the section on robust accuracy against epsilon; [] if no attack has several."""
    drawn, styles = [], model_styles(found.models)
    for title, norm, frame in epsilon_curves(found.attacks):
        keys = {model: model for model in frame["model"].unique()}
        lines = charts.published_lines(found.tables.get("published"), norm, "published_epsilon",
                                       "published_robust_accuracy", "accuracy", keys)
        drawn.append(Plot(
            f"robust {title}",
            f"{title}: robust accuracy over all images; bands are 95% Wilson intervals. Epsilon 0 is clean."
            + charts.diamonds(lines),
            partial(accuracy_curves, frame, "epsilon", "robust accuracy", styles, lines),
            charts.accuracy_lines(frame, "epsilon", "robust accuracy", lines)))
    return [Part("Robust accuracy against epsilon", [Row(drawn)])] if drawn else []
