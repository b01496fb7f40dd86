"""Rows to tables. Every number carries its n and an interval; comparisons are paired on the same images."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from bench.protocol import Evaluation
from bench.stats import holm, mcnemar, paired_difference, wilson
from bench.store import Rows

ATTACK_COLUMNS = ["model", "domain", "attack", "epsilon", "norm", "bound", "unit", "budget", "n", "n_correct",
                  "successes", "asr", "ci_low", "ci_high", "clean_accuracy", "robust_accuracy", "queries_mean",
                  "queries_median", "l2_median"]

PAIRED_COLUMNS = ["model_a", "model_b", "domain", "attack", "metric", "budget", "n", "a", "b", "difference", "ci_low",
                  "ci_high", "only_a", "only_b", "p_value", "p_holm"]


def attacked(rows: pd.DataFrame, evaluation: Evaluation) -> np.ndarray:
    """Return which rows are in ASR's denominator, bool [n].

    Those that the model classifies right; in a targeted attack those that are not at the target from the start.
    """
    first = rows["clean_prediction"].to_numpy()
    if evaluation.options.get("targeted"):
        return np.asarray(first != rows["goal"].to_numpy())
    return np.asarray(first == rows["label"].to_numpy())


def units(evaluation: Evaluation) -> tuple[str, ...]:
    """Return the units that an attack's budgets are counted in. Gradients don't belong on the axis of queries."""
    return ("iterations",) if evaluation.options.get("white_box") else ("iterations", "queries")


def name_of(evaluation: Evaluation, cap: float | None) -> str:
    """Return the attack's label, with the cap on L2 under which its successes count."""
    return evaluation.label if cap is None else f"{evaluation.label}-L2cap{cap:g}"


def caps(rows: Rows) -> list[float | None]:
    """Return the caps on L2 under which an evaluation is tabled, None (no cap) first."""
    return [None, *sorted(rows.facts.get("l2_caps", []))]


def longest(evaluation: Evaluation) -> int:
    """Return the largest budget of iterations that an attack's rows answer for."""
    options = evaluation.options
    return int(options["max_iterations"] if "max_iterations" in options else options["schedule"])


def succeeded(rows: pd.DataFrame, unit: str, budget: int, cap: float | None = None) -> np.ndarray:
    """Return which rows the attack has succeeded on within a budget of "iterations" or "queries", bool [n].

    Args:
        rows: Rows of one evaluation.
        unit: "iterations" or "queries".
        budget: How many.
        cap: The largest L2 distance of a success, or None.
    """
    success = rows["success_iteration"].to_numpy()
    spent = success if unit == "iterations" else rows["queries"].to_numpy()
    # A budget of 0 queries is the clean image: looking at it is not an attack.
    won = (success >= 0) & ((spent <= budget) | (success == 0))
    return np.asarray(won if cap is None else won & (rows["l2"].to_numpy() <= cap))


def robust(rows: pd.DataFrame, unit: str, budget: int, cap: float | None = None) -> np.ndarray:
    """Return which rows were classified right at first and are not broken within a budget, bool [n]."""
    right = rows["clean_prediction"].to_numpy() == rows["label"].to_numpy()
    return np.asarray(right & ~succeeded(rows, unit, budget, cap))


def queries_within(rows: pd.DataFrame, evaluation: Evaluation, unit: str, budgets: Sequence[int]) -> np.ndarray:
    """Return the queries that each row has spent within each budget, int64 [n, len(budgets)]."""
    total = rows["queries"].to_numpy()[:, None]
    if unit == "queries":
        return np.asarray(np.minimum(total, np.array(budgets)[None]))
    if evaluation.attack != "simba":  # an iteration is a query after the clean image's
        return np.asarray(np.minimum(total, 1 + np.array(budgets)[None]))
    one_sided = evaluation.options.get("step") == "first-improving"
    spent = np.ones((len(rows), len(budgets)), dtype=np.int64)  # the clean image
    for i, blob in enumerate(rows["steps"]):
        steps = np.frombuffer(blob, dtype=np.int8)
        cost = np.cumsum(2 - (steps == 1) if one_sided else np.full(len(steps), 2), dtype=np.int64)
        within = np.minimum(budgets, len(steps))
        spent[i] += np.where(within > 0, np.append(cost, 0)[within - 1], 0)
    return np.asarray(np.minimum(spent, total))


def attack_table(stored: Iterable[Rows]) -> pd.DataFrame:
    """Return ``attack.csv``: an entry an evaluation, cap on L2, unit and budget. Rates are fractions.

    Successes count within `bound` in `norm`; both are empty where any distance counts (then epsilon is a step).
    """
    entries: list[dict[str, Any]] = []
    for rows in stored:
        evaluation, frame = rows.evaluation, rows.frame()
        among = attacked(frame, evaluation)
        budgets = sorted({0, *rows.facts["budgets"]})
        for cap, unit in itertools.product(caps(rows), units(evaluation)):
            spent = queries_within(frame, evaluation, unit, budgets)[among]
            norm, bound = (rows.facts.get("norm"), rows.facts.get("bound")) if cap is None else ("l2", cap)
            for column, budget in enumerate(budgets):
                won = succeeded(frame, unit, budget, cap) & among
                n_correct, successes = int(among.sum()), int(won.sum())
                low, high = wilson(successes, n_correct)
                entries.append({
                    "model": evaluation.model, "domain": evaluation.domain, "attack": name_of(evaluation, cap),
                    "epsilon": evaluation.options.get("epsilon"), "norm": norm, "bound": bound, "unit": unit,
                    "budget": budget, "n": len(frame), "n_correct": n_correct, "successes": successes,
                    "asr": successes / n_correct if n_correct else np.nan, "ci_low": low, "ci_high": high,
                    "clean_accuracy": float((frame["clean_prediction"] == frame["label"]).mean()),
                    "robust_accuracy": float(robust(frame, unit, budget, cap).mean()),
                    "queries_mean": float(spent[:, column].mean()) if n_correct else np.nan,
                    "queries_median": float(np.median(spent[:, column])) if n_correct else np.nan,
                    "l2_median": float(frame["l2"][won].median())})
    return pd.DataFrame(entries, columns=ATTACK_COLUMNS)


def curve(rows: Rows, unit: str) -> pd.DataFrame:
    """Return ASR at every budget where it changes, with its interval: budget, asr, ci_low, ci_high.

    Of a white-box attack the curve against queries is its control alone.
    """
    frame = rows.frame()
    among = attacked(frame, rows.evaluation)
    success = frame["success_iteration"].to_numpy()
    won = among & (success >= 0)
    spent = np.where(success == 0, 0, success if unit == "iterations" else frame["queries"].to_numpy())
    if unit not in units(rows.evaluation):
        won &= success == 0
        end = 0
    elif unit == "iterations":
        end = longest(rows.evaluation)
    else:
        end = int(frame["queries"].max())
    budgets = np.unique(np.concatenate([[0], spent[won], [end]]))
    if len(budgets) > 400:
        budgets = budgets[np.unique(np.linspace(0, len(budgets) - 1, 400).astype(int))]
    counts = [(int((won & (spent <= budget)).sum()), int(among.sum())) for budget in budgets]
    bounds = np.array([wilson(s, n) for s, n in counts])
    asr = [s / n if n else np.nan for s, n in counts]
    return pd.DataFrame({"budget": budgets, "asr": asr, "ci_low": bounds[:, 0], "ci_high": bounds[:, 1]})


def paired_table(stored: Sequence[Rows]) -> pd.DataFrame:
    """Compare every two models under the same attack on the images that both have rows for.

    Robust accuracy is compared over all those images, ASR over those that both models get right. Entries: values,
    paired difference a - b with its bootstrap interval, discordant counts, McNemar's exact p, and p adjusted (Holm)
    over the budgets of one comparison.
    """
    entries: list[dict[str, Any]] = []
    for a, b in itertools.combinations(stored, 2):
        first, second = a.evaluation, b.evaluation
        same = (first.domain_digest, first.attack, first.options, first.seed) == \
               (second.domain_digest, second.attack, second.options, second.seed)
        if not same or first.options.get("targeted"):
            continue
        merged = a.frame().merge(b.frame(), on="example", suffixes=("_a", "_b"))
        needed = ("label", "goal", "clean_prediction", "success_iteration", "queries")
        sides = [merged[[f"{name}_{side}" for name in needed]].set_axis(list(needed), axis=1) for side in "ab"]
        both = attacked(sides[0], first) & attacked(sides[1], second)
        for metric in ("robust_accuracy", "asr"):
            compared = []
            for budget in sorted({*a.facts["budgets"]} & {*b.facts["budgets"]}):
                if metric == "asr":
                    x, y = (succeeded(side, "iterations", budget)[both] for side in sides)
                else:
                    x, y = (robust(side, "iterations", budget) for side in sides)
                difference, low, high = paired_difference(x, y)
                test = mcnemar(x, y)
                compared.append({
                    "model_a": first.model, "model_b": second.model, "domain": first.domain, "attack": first.label,
                    "metric": metric, "budget": budget, "n": len(x), "a": x.mean() if len(x) else np.nan,
                    "b": y.mean() if len(y) else np.nan, "difference": difference, "ci_low": low, "ci_high": high,
                    "only_a": test.only_a, "only_b": test.only_b, "p_value": test.p_value})
            for entry, adjusted in zip(compared, holm(np.array([c["p_value"] for c in compared])), strict=True):
                entries.append({**entry, "p_holm": float(adjusted)})
    return pd.DataFrame(entries, columns=PAIRED_COLUMNS)
