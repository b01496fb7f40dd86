"""The attacked images that the report shows, and their captions."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np

from bench.analysis.measured import Measured
from bench.analysis.outcomes import attacked
from bench.rows.pictures import Pictures
from framebench.attacks.base import Traits
from framebench.reports.format import number_of

#: Most attacked images of a run that are shown.
_SHOWN = 8


def outcome(row: Mapping[Hashable, Any], traits: Traits) -> tuple[str, str]:
    """Return the outcome of an image: "broken", "unbroken" or "start" (not attacked), and its description."""
    iteration = int(row["success_iteration"])
    if iteration < 0:
        return "unbroken", "not broken"
    if iteration > 0:
        return "broken", f"broken at {iteration:,}"
    if traits.targeted:
        return "start", "at the target from the start"
    if row["clean_prediction"] == row["label"]:
        return "broken", "broken by the clip"
    return "start", "misclassified from the start"


def attacked_pictures(run: Measured) -> list[tuple[str, np.ndarray, np.ndarray, str]]:
    """Return the pictures of a run for `framebench.reports.plots.attacked_images`.

    Attacked images come before those that were misclassified from the start. Classes take turns, since examples can be
    sorted by class.
    """
    kept, classes, frame = Pictures(run.rows.folder), run.facts.classes, run.rows.frame()
    frame = frame.assign(idle=~attacked(frame, run.traits))[frame["example"].isin(kept.examples)]
    frame = frame.assign(turn=frame.groupby(["idle", "label"]).cumcount())
    columns = []
    for row in frame.sort_values(["idle", "turn", "example"]).head(_SHOWN).to_dict("records"):
        example = int(row["example"])
        picture = kept.get(example)
        assert picture is not None
        words = [classes[row["prediction"]], outcome(row, run.traits)[1],
                 number_of(row["queries"], "query", "queries")]
        columns.append((f"{example}: {classes[row['label']]}", picture.clean.transpose(1, 2, 0),
                        picture.attacked.transpose(1, 2, 0), "\n".join(words)))
    return columns
