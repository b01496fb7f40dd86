"""Tables of attacks. Every rate has its n and an interval; queries and L2 are means and medians."""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Iterable
from typing import Any

import numpy as np
import pandas as pd

from bench.analysis.measured import Measured
from bench.analysis.outcomes import (
    attacked,
    correct,
    distances_known,
    queries_within,
    robust,
    succeeded,
    units,
    until_success,
)
from bench.analysis.stats import wilson

ATTACK_COLUMNS = ["model", "domain", "attack", "epsilon", "unit", "budget", "n", "n_correct", "successes", "asr",
                  "ci_low", "ci_high", "clean_accuracy", "robust_accuracy", "queries_mean", "queries_median",
                  "l2_median", "norm", "bound", "robust_low", "robust_high", "clean_low", "clean_high"]

PART_COLUMNS = ["model", "domain", "attack", "epsilon", "part", "n", "attacked", "broken", "robust_accuracy",
                "robust_low", "robust_high", "queries", "gradients"]


def capped(name: str, cap: float | None) -> str:
    """Return the name of an attack whose successes count up to a cap on L2."""
    return name if cap is None else f"{name}-L2cap{cap:g}"


def runs_by_name(runs: Iterable[Measured]) -> dict[Hashable, Measured]:
    """Return model, domain and attack, as ``attack.csv`` has them -> run; of each run once per cap on L2."""
    return {(run.model, run.domain, capped(run.name, cap)): run for run in runs for cap in run.caps}


def attack_table(runs: Iterable[Measured]) -> pd.DataFrame:
    """Return ``attack.csv``: one entry per run, cap on L2, unit and budget. Rates are fractions.

    Successes count within `bound` in `norm`. Both are empty if any distance counts (then epsilon is a step). For an
    attack that minimises, which has a norm only, budgets before the end of the run have no median L2, and no entry with
    a cap.
    """
    entries: list[dict[str, Any]] = []
    for run in runs:
        frame, traits = run.frame(), run.traits
        among = attacked(frame, traits)
        clean_correct = int(correct(frame).sum())
        budgets = sorted({0, *run.facts.budgets})
        for cap, unit in itertools.product(run.caps, units(traits)):
            spent = queries_within(frame, run, unit, budgets)[among]
            norm, bound = (traits.norm, traits.bound) if cap is None else ("l2", cap)
            for column, budget in enumerate(budgets):
                known = distances_known(traits, unit, budget)
                if cap is not None and not known:
                    continue
                won = succeeded(frame, traits, unit, budget, cap) & among
                n_correct, successes = int(among.sum()), int(won.sum())
                n_robust = int(robust(frame, traits, unit, budget, cap).sum())
                entries.append({
                    "model": run.model, "domain": run.domain, "attack": capped(run.name, cap),
                    "epsilon": traits.epsilon, "unit": unit, "budget": budget, "n": len(frame),
                    "n_correct": n_correct, "successes": successes, **_rate("asr", "ci", successes, n_correct),
                    **_rate("clean_accuracy", "clean", clean_correct, len(frame)),
                    **_rate("robust_accuracy", "robust", n_robust, len(frame)),
                    "queries_mean": float(spent[:, column].mean()) if n_correct else np.nan,
                    "queries_median": float(np.median(spent[:, column])) if n_correct else np.nan,
                    "l2_median": float(frame["l2"][won].median()) if known else np.nan, "norm": norm, "bound": bound})
    numbers = {"epsilon": float, "bound": float}  # also if no attack has one
    return pd.DataFrame(entries, columns=ATTACK_COLUMNS).astype(numbers)


def parts_table(runs: Iterable[Measured]) -> pd.DataFrame:
    """Return ``autoattack.csv``: one entry per run and part, for attacks that have several parts."""
    entries: list[dict[str, Any]] = []
    for run in runs:
        frame, start = run.frame(), 0
        success, n = frame["success_iteration"].to_numpy(), len(frame)
        for part in run.traits.parts:
            if start >= run.length:
                break
            spent = np.diff(queries_within(frame, run, "iterations", [start, part.end]), axis=1)
            steps = (spent - part.extra).clip(min=0)
            entries.append({
                "model": run.model, "domain": run.domain, "attack": run.name, "epsilon": run.traits.epsilon,
                "part": part.name, "n": n, "attacked": int(((success < 0) | (success > start)).sum()),
                "broken": int(((success > start) & (success <= part.end)).sum()),
                **_rate("robust_accuracy", "robust", int(robust(frame, run.traits, "iterations", part.end).sum()), n),
                "queries": int(spent.sum()), "gradients": int(np.ceil(steps * part.gradients).sum())})
            start = part.end
    return pd.DataFrame(entries, columns=PART_COLUMNS)


def epsilon_curves(runs: Iterable[Measured]) -> list[tuple[str, str, pd.DataFrame]]:
    """Return robust accuracy against epsilon for every attack that ran with several bounds on some model.

    Returns:
        A description of each attack, its norm as leaderboards write it, and a frame: model, epsilon (0 for clean
        images), accuracy, ci_low, ci_high.
    """
    groups: dict[tuple[str, ...], list[Measured]] = {}
    for run in runs:
        if run.traits.bound is not None and not run.traits.targeted:
            settings = {key: value for key, value in run.evaluation.settings.items() if key != "epsilon"}
            title = f"{run.evaluation.attack}, {run.traits.norm}, {run.length:,} iterations, on {run.domain}"
            norm, seed = (run.traits.norm or "").capitalize(), str(run.evaluation.seed)
            groups.setdefault((title, norm, repr(sorted(settings.items())), seed), []).append(run)
    curves = []
    for (title, norm, *_), group in groups.items():
        points = [{"model": run.model, "epsilon": epsilon, **_rate("accuracy", "ci", int(held.sum()), len(held))}
                  for run in group for epsilon, held in (
                      (0.0, robust(run.frame(), run.traits, "iterations", 0)),
                      (run.traits.bound, robust(run.frame(), run.traits, "iterations", run.length)))]
        frame = pd.DataFrame(points).drop_duplicates(["model", "epsilon"])
        if len(frame) > 2 and frame["model"].value_counts().max() > 2:
            curves.append((title, norm, frame.sort_values("epsilon")))
    return curves


def _rate(name: str, ends: str, count: int, n: int) -> dict[str, float]:
    """Return the entries of a rate and its interval."""
    low, high = wilson(count, n)
    return {name: count / n if n else np.nan, f"{ends}_low": low, f"{ends}_high": high}


def curve(run: Measured, unit: str) -> pd.DataFrame:
    """Return ASR and robust accuracy at every budget where they change, with their intervals.

    Columns: budget, asr, ci_low, ci_high, robust, robust_low, robust_high. For an attack with gradients, the curve
    against queries has budget 0 only.
    """
    frame = run.frame()
    among = attacked(frame, run.traits)
    success = frame["success_iteration"].to_numpy()
    won = among & (success >= 0)
    spent = until_success(frame, run.traits, unit)
    if unit not in units(run.traits):
        won &= success == 0
        end = 0
    elif unit == "iterations":
        end = run.length
    else:
        end = int(frame["queries"].max())
    budgets = np.unique(np.concatenate([[0], spent[won], [end]]))
    if len(budgets) > 400:
        budgets = budgets[np.unique(np.linspace(0, len(budgets) - 1, 400).astype(int))]
    entries = []
    for budget in budgets:
        within = spent <= budget
        unbroken = correct(frame) & ~((success >= 0) & within)
        entries.append({"budget": budget, **_rate("asr", "ci", int((won & within).sum()), int(among.sum())),
                        **_rate("robust", "robust", int(unbroken.sum()), len(frame))})
    return pd.DataFrame(entries)
