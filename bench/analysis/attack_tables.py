"""Rows to tables. Every rate carries its n and an interval; queries and L2 are summaries; comparisons are paired."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from bench.analysis.stats import holm, mcnemar, paired_proportions, wilson
from bench.rows.evaluation import Evaluation
from bench.rows.store import Rows
from framebench.attacks.registry import bound_of

ATTACK_COLUMNS = ["model", "domain", "attack", "epsilon", "unit", "budget", "n", "n_correct", "successes", "asr",
                  "ci_low", "ci_high", "clean_accuracy", "robust_accuracy", "queries_mean", "queries_median",
                  "l2_median", "norm", "bound", "robust_low", "robust_high", "clean_low", "clean_high"]

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


def name_of(rows: Rows) -> str:
    """Return the attack's label, or the name that `longest_runs` has given the run."""
    return str(rows.facts.get("name", rows.evaluation.label))


def capped(name: str, cap: float | None) -> str:
    """Return an attack's name with the cap on L2 under which its successes count."""
    return name if cap is None else f"{name}-L2cap{cap:g}"


def caps(rows: Rows) -> list[float | None]:
    """Return the caps on L2 under which an evaluation is tabled, None (no cap) first."""
    return [None, *sorted(rows.facts.get("l2_caps", []))]


def longest(evaluation: Evaluation) -> int:
    """Return the largest budget of iterations that an attack's rows answer for."""
    options = evaluation.options
    return int(options["max_iterations"] if "max_iterations" in options else options["schedule"])


def longest_runs(stored: Iterable[Rows]) -> list[Rows]:
    """Return views of attacks' rows without the runs that a longer one of the same attack on the same model answers.

    That is one which has all their examples; their budgets and caps on L2 are then its own. Where it lacks some of
    them, both are returned, named by their lengths.
    """
    groups: dict[tuple[str, ...], list[Rows]] = {}
    for rows in stored:
        evaluation = rows.evaluation
        key = (evaluation.model_digest, evaluation.domain_digest, evaluation.family, str(evaluation.seed))
        groups.setdefault(key, []).append(rows)
    views = []
    for group in groups.values():
        kept: list[Rows] = []
        for rows in sorted(group, key=lambda rows: -longest(rows.evaluation)):
            longer = next((other for other in kept if np.isin(rows.ids, other.ids).all()), None)
            if longer is None:
                kept.append(copy.copy(rows))
                kept[-1].facts = dict(rows.facts)
                continue
            for name in ("budgets", "l2_caps"):
                longer.facts[name] = sorted({*longer.facts.get(name, []), *rows.facts.get(name, [])})
        if len(kept) > 1:
            for rows in kept:
                rows.facts["name"] = f"{rows.evaluation.label}-iterations{longest(rows.evaluation)}"
        views += kept
    return views


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
    total, within = rows["queries"].to_numpy()[:, None], np.array(budgets)
    if unit == "queries":
        return np.asarray(np.minimum(total, within))
    if evaluation.attack != "simba":  # an iteration is a query after the clean image's
        return np.asarray(np.minimum(total, 1 + within))
    one_sided = evaluation.options.get("step") == "first-improving"
    spent = np.empty((len(rows), len(budgets)), dtype=np.int64)
    for i, blob in enumerate(rows["steps"]):
        steps = np.frombuffer(blob, dtype=np.int8)
        each = 2 - (steps == 1) if one_sided else np.full(len(steps), 2)
        after = np.cumsum([1, *each])  # queries after so many steps, the clean image's first
        # Beyond the finished steps the total: an iteration that the query limit has cut short has cost one too.
        spent[i] = np.where(within < len(after), after[np.minimum(within, len(steps))], total[i])
    return np.asarray(np.minimum(spent, total))


def attack_table(stored: Iterable[Rows]) -> pd.DataFrame:
    """Return ``attack.csv``: an entry an evaluation, cap on L2, unit and budget. Rates are fractions.

    Successes count within `bound` in `norm`; both are empty where any distance counts (then epsilon is a step).
    """
    entries: list[dict[str, Any]] = []
    for rows in stored:
        evaluation, frame, own = rows.evaluation, rows.frame(), _bound(rows)
        among = attacked(frame, evaluation)
        right = int((frame["clean_prediction"] == frame["label"]).sum())
        budgets = sorted({0, *rows.facts["budgets"]})
        for cap, unit in itertools.product(caps(rows), units(evaluation)):
            spent = queries_within(frame, evaluation, unit, budgets)[among]
            norm, bound = own if cap is None else ("l2", cap)
            for column, budget in enumerate(budgets):
                won = succeeded(frame, unit, budget, cap) & among
                n_correct, successes = int(among.sum()), int(won.sum())
                held = int(robust(frame, unit, budget, cap).sum())
                entries.append({
                    "model": evaluation.model, "domain": evaluation.domain, "attack": capped(name_of(rows), cap),
                    "epsilon": evaluation.options.get("epsilon"), "unit": unit, "budget": budget, "n": len(frame),
                    "n_correct": n_correct, "successes": successes, **_rate("asr", "ci", successes, n_correct),
                    **_rate("clean_accuracy", "clean", right, len(frame)),
                    **_rate("robust_accuracy", "robust", held, len(frame)),
                    "queries_mean": float(spent[:, column].mean()) if n_correct else np.nan,
                    "queries_median": float(np.median(spent[:, column])) if n_correct else np.nan,
                    "l2_median": float(frame["l2"][won].median()), "norm": norm, "bound": bound})
    return pd.DataFrame(entries, columns=ATTACK_COLUMNS)


def _rate(name: str, ends: str, count: int, n: int) -> dict[str, float]:
    """Return the entries of a rate and of the ends of its interval."""
    low, high = wilson(count, n)
    return {name: count / n if n else np.nan, f"{ends}_low": low, f"{ends}_high": high}


def _bound(rows: Rows) -> tuple[str | None, float | None]:
    """Return norm and bound of successes, None where there is none; rows that don't tell are older than the fact."""
    if "norm" in rows.facts:
        return rows.facts["norm"], rows.facts["bound"]
    bound = bound_of(rows.evaluation.attack, rows.evaluation.options)
    return bound.norm, None if bound.norm is None else bound.epsilon


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
    paired difference a - b with Newcombe's interval, discordant counts, McNemar's exact p, and p adjusted (Holm) over
    the budgets of one comparison.
    """
    entries: list[dict[str, Any]] = []
    for a, b in itertools.combinations(stored, 2):
        first, second = a.evaluation, b.evaluation
        same = (first.domain_digest, first.family, first.seed) == (second.domain_digest, second.family, second.seed)
        if not same or first.model_digest == second.model_digest or first.options.get("targeted"):
            continue
        merged = a.frame().merge(b.frame(), on="example", suffixes=("_a", "_b"))
        needed = ("label", "goal", "clean_prediction", "success_iteration", "queries")
        sides = [merged[[f"{name}_{side}" for name in needed]].set_axis(list(needed), axis=1) for side in "ab"]
        both = attacked(sides[0], first) & attacked(sides[1], second)
        name = " / ".join(dict.fromkeys([name_of(a), name_of(b)]))
        for metric in ("robust_accuracy", "asr"):
            compared = []
            for budget in sorted({*a.facts["budgets"]} & {*b.facts["budgets"]}):
                if metric == "asr":
                    x, y = (succeeded(side, "iterations", budget)[both] for side in sides)
                else:
                    x, y = (robust(side, "iterations", budget) for side in sides)
                difference, low, high = paired_proportions(x, y)
                test = mcnemar(x, y)
                compared.append({
                    "model_a": first.model, "model_b": second.model, "domain": first.domain, "attack": name,
                    "metric": metric, "budget": budget, "n": len(x), "a": x.mean() if len(x) else np.nan,
                    "b": y.mean() if len(y) else np.nan, "difference": difference, "ci_low": low, "ci_high": high,
                    "only_a": test.only_a, "only_b": test.only_b, "p_value": test.p_value})
            for entry, adjusted in zip(compared, holm(np.array([c["p_value"] for c in compared])), strict=True):
                entries.append({**entry, "p_holm": float(adjusted)})
    return pd.DataFrame(entries, columns=PAIRED_COLUMNS)
