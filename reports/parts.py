"""What the report says of AutoAttack's parts, and of one attack with several epsilons."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from bench.analysis.attack_tables import epsilon_curves
from bench.analysis.measured import Measured
from framebench.reports.page import Cell, figure, interval, paragraph, percent, section, table
from framebench.reports.plots import accuracy_curves


def parts_sections(parts: pd.DataFrame) -> list[str]:
    """Return the section on ``autoattack.csv``, none without it."""
    if not len(parts):
        return []
    rows = [[row["model"], row["domain"], row["attack"], row["part"], f"{row['attacked']:,}", f"{row['broken']:,}",
             Cell(percent(row["robust_accuracy"]), interval(row["robust_low"], row["robust_high"])),
             f"{row['queries']:,}", f"{row['gradients']:,}"] for row in parts.to_dict("records")]
    header = ["model", "data", "attack", "part", "attacked", "broken", "robust after it", "queries", "gradients"]
    return [section("AutoAttack, part by part", table(header, rows, text_columns=4), paragraph(
        "Each part attacks the images that those before it have not broken. Queries and gradients are over all images; "
        "a gradient is a backward pass of one image.", "soft"))]


def epsilon_sections(runs: Iterable[Measured]) -> list[str]:
    """Return the section on robust accuracy against epsilon, none where no attack was run with several."""
    drawn = [figure(accuracy_curves(frame, "epsilon", "robust accuracy"),
                    f"{what}: robust accuracy over all images; bands are 95% Wilson intervals. Epsilon 0 is clean.",
                    f"robust {what}") for what, frame in epsilon_curves(runs)]
    return [section("Robust accuracy against epsilon", f'<div class="row">{"".join(drawn)}</div>')] if drawn else []
