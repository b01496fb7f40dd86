"""Rows of attacks to tables. Every rate carries its n and an interval; queries and L2 are summaries."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from bench.analysis.measured import Measured
from bench.analysis.outcomes import attacked, queries_within, robust, succeeded, units
from bench.analysis.stats import wilson

ATTACK_COLUMNS = ["model", "domain", "attack", "epsilon", "unit", "budget", "n", "n_correct", "successes", "asr",
                  "ci_low", "ci_high", "clean_accuracy", "robust_accuracy", "queries_mean", "queries_median",
                  "l2_median", "norm", "bound", "robust_low", "robust_high", "clean_low", "clean_high"]

PART_COLUMNS = ["model", "domain", "attack", "epsilon", "part", "n", "attacked", "broken", "robust_accuracy",
                "robust_low", "robust_high", "queries", "gradients"]


def capped(name: str, cap: float | None) -> str:
    """Return an attack's name with the cap on L2 under which its successes count."""
    return name if cap is None else f"{name}-L2cap{cap:g}"


def attack_table(found: Iterable[Measured]) -> pd.DataFrame:
    """Return ``attack.csv``: one entry per run, cap on L2, unit and budget. Rates are fractions.

    Successes count within `bound` in `norm`; both are empty where any distance counts (then epsilon is a step).
    """
    entries: list[dict[str, Any]] = []
    for run in found:
        frame, traits = run.frame(), run.traits
        among = attacked(frame, traits)
        correct = int((frame["clean_prediction"] == frame["label"]).sum())
        budgets = sorted({0, *run.facts.budgets})
        for cap, unit in itertools.product(run.caps, units(traits)):
            spent = queries_within(frame, traits, unit, budgets)[among]
            norm, bound = (traits.norm, traits.bound) if cap is None else ("l2", cap)
            for column, budget in enumerate(budgets):
                won = succeeded(frame, unit, budget, cap) & among
                n_correct, successes = int(among.sum()), int(won.sum())
                held = int(robust(frame, unit, budget, cap).sum())
                entries.append({
                    "model": run.model, "domain": run.domain, "attack": capped(run.name, cap),
                    "epsilon": traits.epsilon, "unit": unit, "budget": budget, "n": len(frame),
                    "n_correct": n_correct, "successes": successes, **_rate("asr", "ci", successes, n_correct),
                    **_rate("clean_accuracy", "clean", correct, len(frame)),
                    **_rate("robust_accuracy", "robust", held, len(frame)),
                    "queries_mean": float(spent[:, column].mean()) if n_correct else np.nan,
                    "queries_median": float(np.median(spent[:, column])) if n_correct else np.nan,
                    "l2_median": float(frame["l2"][won].median()), "norm": norm, "bound": bound})
    numbers = {"epsilon": float, "bound": float}  # of attacks that have none too
    return pd.DataFrame(entries, columns=ATTACK_COLUMNS).astype(numbers)


def parts_table(found: Iterable[Measured]) -> pd.DataFrame:
    """Return ``autoattack.csv``: one entry per run and part of it, for attacks that are made of several."""
    entries: list[dict[str, Any]] = []
    for run in found:
        frame, start = run.frame(), 0
        success, n = frame["success_iteration"].to_numpy(), len(frame)
        for part in run.traits.parts:
            if start >= run.length:
                break
            spent = np.diff(queries_within(frame, run.traits, "iterations", [start, part.end]), axis=1)
            entries.append({
                "model": run.model, "domain": run.domain, "attack": run.name, "epsilon": run.traits.epsilon,
                "part": part.name, "n": n, "attacked": int(((success < 0) | (success > start)).sum()),
                "broken": int(((success > start) & (success <= part.end)).sum()),
                **_rate("robust_accuracy", "robust", int(robust(frame, "iterations", part.end).sum()), n),
                "queries": int(spent.sum()), "gradients": int(np.ceil(spent * part.gradients).sum())})
            start = part.end
    return pd.DataFrame(entries, columns=PART_COLUMNS)


def epsilon_curves(found: Iterable[Measured]) -> list[tuple[str, str, pd.DataFrame]]:
    """Return robust accuracy against epsilon, for every attack that was run with several bounds on some model.

    Returns:
        What tells the attack from others, its norm as leaderboards write it, and a frame: model, epsilon (0 for clean
        images), accuracy, ci_low, ci_high.
    """
    groups: dict[tuple[str, ...], list[Measured]] = {}
    for run in found:
        if run.traits.bound is not None and not run.traits.targeted:
            others = {key: value for key, value in run.evaluation.settings.items() if key != "epsilon"}
            what = f"{run.evaluation.attack}, {run.traits.norm}, {run.length:,} iterations, on {run.domain}"
            key = (what, (run.traits.norm or "").capitalize(), repr(sorted(others.items())), str(run.evaluation.seed))
            groups.setdefault(key, []).append(run)
    curves = []
    for (what, norm, *_), runs in groups.items():
        points = [{"model": run.model, "epsilon": epsilon, **_rate("accuracy", "ci", int(held.sum()), len(held))}
                  for run in runs for epsilon, held in (
                      (0.0, robust(run.frame(), "iterations", 0)),
                      (run.traits.bound, robust(run.frame(), "iterations", run.length)))]
        frame = pd.DataFrame(points).drop_duplicates(["model", "epsilon"])
        if len(frame) > 2 and frame["model"].value_counts().max() > 2:
            curves.append((what, norm, frame.sort_values("epsilon")))
    return curves


def _rate(name: str, ends: str, count: int, n: int) -> dict[str, float]:
    """Return the entries of a rate and of the ends of its interval."""
    low, high = wilson(count, n)
    return {name: count / n if n else np.nan, f"{ends}_low": low, f"{ends}_high": high}


def curve(run: Measured, unit: str) -> pd.DataFrame:
    """Return ASR and robust accuracy at every budget where they change, with their intervals.

    Columns: budget, asr, ci_low, ci_high, robust, robust_low, robust_high.

    Of an attack that takes gradients, the curve against queries is its control alone.
    """
    frame = run.frame()
    among = attacked(frame, run.traits)
    success = frame["success_iteration"].to_numpy()
    won = among & (success >= 0)
    spent = np.where(success == 0, 0, success if unit == "iterations" else frame["queries"].to_numpy())
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
    correct = (frame["clean_prediction"] == frame["label"]).to_numpy()
    entries = []
    for budget in budgets:
        within = spent <= budget
        entries.append({"budget": budget, **_rate("asr", "ci", int((won & within).sum()), int(among.sum())),
                        **_rate("robust", "robust", int((correct & ~((success >= 0) & within)).sum()), len(frame))})
    return pd.DataFrame(entries)
