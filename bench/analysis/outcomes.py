"""Outcomes of the rows of an attack within a budget: which count, which succeeded, and how many queries they took."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from framebench.attacks.autoattack import queries_after
from framebench.attacks.base import Traits

if TYPE_CHECKING:
    from bench.analysis.measured import Measured


def units(traits: Traits) -> tuple[str, ...]:
    """Return the units of an attack's budgets: an attack with gradients is not compared by queries."""
    return ("iterations",) if traits.needs == "gradients" else ("iterations", "queries")


def correct(rows: pd.DataFrame) -> np.ndarray:
    """Return which rows the model classified correctly before the attack, bool [n]."""
    return np.asarray(rows["clean_prediction"].to_numpy() == rows["label"].to_numpy())


def attacked(rows: pd.DataFrame, traits: Traits) -> np.ndarray:
    """Return which rows are in the denominator of ASR, bool [n].

    These are the images that the model classifies correctly. In a targeted attack, they are those whose first
    prediction is not the target.
    """
    if traits.targeted:
        return np.asarray(rows["clean_prediction"].to_numpy() != rows["goal"].to_numpy())
    return correct(rows)


def until_success(rows: pd.DataFrame, traits: Traits, unit: str) -> np.ndarray:
    """Return the iterations or queries until the success of each row, int64 [n]; of no meaning without a success.

    A success at 0 is one of the clean image, whose query is not part of the attack.
    """
    success = rows["success_iteration"].to_numpy()
    if unit == "iterations":
        return np.asarray(success)
    # The queries of an attack that minimises continue after its success. Its iterations are queries.
    queries = success + 1 if traits.minimises else rows["queries"].to_numpy()
    return np.where(success == 0, 0, queries)


def succeeded(rows: pd.DataFrame, traits: Traits, unit: str, budget: int, cap: float | None = None) -> np.ndarray:
    """Return on which rows the attack succeeded within a budget, bool [n].

    Args:
        rows: Rows of one evaluation.
        traits: Those of its attack.
        unit: "iterations" or "queries".
        budget: The number of iterations or queries.
        cap: The largest L2 distance of a success, or None.
    """
    won = (rows["success_iteration"].to_numpy() >= 0) & (until_success(rows, traits, unit) <= budget)
    return np.asarray(won if cap is None else won & (rows["l2"].to_numpy() <= cap))


def distances_known(traits: Traits, unit: str, budget: int) -> bool:
    """Tell whether rows have the distances of successes within a budget.

    An attack that minimises continues after a success, and its rows have the distances of the nearest image of the
    whole run: after all iterations, and one query more for the clean image.
    """
    return not traits.minimises or budget == 0 or budget >= traits.budget + (unit == "queries")


def robust(rows: pd.DataFrame, traits: Traits, unit: str, budget: int, cap: float | None = None) -> np.ndarray:
    """Return which rows were classified correctly and are not broken within a budget, bool [n]."""
    return np.asarray(correct(rows) & ~succeeded(rows, traits, unit, budget, cap))


def queries_within(rows: pd.DataFrame, run: Measured, unit: str, budgets: Sequence[int]) -> np.ndarray:
    """Return the queries of each row of a run within each budget, int64 [n, len(budgets)]."""
    total, within, traits = rows["queries"].to_numpy()[:, None], np.array(budgets), run.traits
    if unit == "queries":
        return np.asarray(np.minimum(total, within))
    if traits.parts:
        return np.asarray(np.minimum(total, queries_after(
            traits.parts, run.evaluation.settings, len(run.facts.classes), within)))
    if traits.cost != "one-or-two":  # the clean image's query comes first
        return np.asarray(np.minimum(total, 1 + within * (2 if traits.cost == "two" else 1)))
    spent = np.empty((len(rows), len(budgets)), dtype=np.int64)
    for i, blob in enumerate(rows["steps"]):
        steps = np.frombuffer(blob, dtype=np.int8)
        after = np.cumsum(np.append(1, 2 - (steps == 1)))  # queries after 0, 1, ... steps; the clean image costs one
        # Beyond the finished steps the total, with the queries of an iteration that the query limit cut short.
        spent[i] = np.where(within < len(after), after[np.minimum(within, len(steps))], total[i])
    return np.asarray(np.minimum(spent, total))


def cut(rows: pd.DataFrame, run: Measured) -> pd.DataFrame:
    """Return rows of a longer run of the same attack as this run would have them.

    Intermediate images are not kept. So distances, margin and confidence are nan for images that were not broken
    within its budget.
    """
    success, budget = rows["success_iteration"].to_numpy(), run.length
    unbroken = (success < 0) | (success > budget)
    missing = {name: np.where(unbroken, np.nan, rows[name]) for name in ("l2", "linf", "margin", "confidence")}
    queries = queries_within(rows, run, "iterations", [budget])[:, 0]
    return rows.assign(
        success_iteration=np.where(unbroken, -1, success), queries=queries,
        prediction=np.where(unbroken, rows["clean_prediction"], rows["prediction"]),
        steps=[blob[:budget] for blob in rows["steps"]], **missing)
