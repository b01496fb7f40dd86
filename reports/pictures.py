"""Which attacked images the report shows, and what it says of each."""

from __future__ import annotations

import numpy as np

from bench.analysis.measured import Measured
from bench.analysis.outcomes import attacked
from bench.rows.pictures import Pictures
from framebench.reports.format import number_of

#: How many attacked images of a run are shown.
_SHOWN = 8


def attacked_pictures(run: Measured) -> list[tuple[str, np.ndarray, np.ndarray, str]]:
    """Return the pictures of a run to show, see `framebench.reports.plots.attacked_images`.

    Images that were attacked come before those that were misclassified from the start. The classes take turns, since
    examples can be in the order of their classes.
    """
    kept, classes, frame = Pictures(run.rows.folder), run.facts.classes, run.rows.frame()
    frame = frame.assign(idle=~attacked(frame, run.traits))[frame["example"].isin(kept.examples)]
    frame = frame.assign(turn=frame.groupby(["idle", "label"]).cumcount())
    columns = []
    for row in frame.sort_values(["idle", "turn", "example"]).head(_SHOWN).to_dict("records"):
        example, iteration = int(row["example"]), int(row["success_iteration"])
        picture = kept.get(example)
        assert picture is not None
        if row["clean_prediction"] == row["label"]:
            start = "broken by the clip"
        else:
            start = "misclassified from the start"
        if run.traits.targeted:
            start = "at the target from the start"
        outcome = {-1: "not broken", 0: start}.get(iteration, f"broken at {iteration}")
        columns.append((f"{example}: {classes[row['label']]}", picture.clean.transpose(1, 2, 0),
                        picture.attacked.transpose(1, 2, 0),
                        f"{classes[row['prediction']]}\n{outcome}\n{number_of(row['queries'], 'query', 'queries')}"))
    return columns
