"""Variation over the seeds of attacks and trainings."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import pandas as pd

from framebench.reports.document import Cell, Part, Text, table
from framebench.reports.format import count, distance, points, rate

_METRICS = {"asr": "ASR", "robust_accuracy": "robust accuracy", "accuracy": "accuracy", "gap": "gap", "mce": "mCE"}
_PARTS = {"all": "", "benchmark": "benchmark's cells", "extras": "extra cells"}


def attack_seeds_sections(seeds: pd.DataFrame) -> list[Part]:
    """Return the part on several seeds of an attack; [] if no attack has several.

    Args:
        seeds: The table of ``attack_seeds.csv``.
    """
    rows = [[row["model"], row["domain"], row["attack"], distance(row["epsilon"]), count(row["budget"]),
             count(row["seeds"]), count(row["n_correct"]), rate(row["asr"], row["ci_low"], row["ci_high"]),
             points(row["sd"]), rate(row["asr_any"], row["any_low"], row["any_high"])]
            for row in seeds.to_dict("records") if row["unit"] == "iterations" and row["budget"] > 0]
    if not rows:
        return []
    header = ["model", "data", "attack", "epsilon", "iterations", "seeds", "n", "mean ASR", "sd of seeds, points",
              "broken by any seed"]
    return [Part("Over the seeds of the attack", [table(
        "attack seeds", header, rows, 3, settings=("data", "attack", "epsilon", "iterations", "seeds", "n")), Text(
        "On the images that were attacked with every seed. In brackets: 95% intervals over images. All seeds share "
        "these, so the intervals are Wilson's for the number of independent outcomes whose mean would vary as much. "
        "Broken by any seed: the worst case over restarts, which spends the queries of all of them.", "soft")])]


def trainings_sections(trainings: pd.DataFrame) -> list[Part]:
    """Return the part on trainings that differ only by their seed; [] if there are none.

    Args:
        trainings: Entries of ``trainings.csv``, of attacks or of shifts.
    """
    if not len(trainings):
        return []
    shown = trainings[(trainings["unit"] != "queries") & (trainings["budget"] != 0)]
    if not len(shown):
        return []
    rows = [[row["trained"], *_what(row), _METRICS[row["metric"]], count(row["trainings"]), count(row["n"]),
             rate(row["mean"], row["ci_low"], row["ci_high"]), points(row["sd"])]
            for row in shown.to_dict("records")]
    header = ["trained", "data", "", "of", "trainings", "n", "mean", "sd of trainings, points"]
    return [Part("Over the seeds of the training", [table(
        "trainings", header, rows, 4, settings=("data", "trainings", "n")), Text(
        "Models whose trainings differ by the seed alone, on the same images. In brackets: Student's 95% intervals "
        "over the trainings; they say what other trainings would give on these images. There is none where all "
        "trainings have the same value.", "soft")])]


def _what(row: dict[Hashable, Any]) -> list[str | Cell]:
    """Return the domain, and the attack with epsilon and budget or the part of a corrupted set."""
    if pd.isna(row["attack"]):
        return [row["domain"], _PARTS[row["part"]]]
    return [row["domain"], Cell(row["attack"], f"epsilon {distance(row['epsilon'])}, {row['budget']:,.0f} iterations")]
