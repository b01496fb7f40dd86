"""Compares models on the same images, two at a time, with one rule for families of comparisons."""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from bench.analysis.measured import Measured, reaching
from bench.analysis.outcomes import attacked, correct, robust, succeeded
from bench.analysis.shift_tables import Part
from bench.analysis.stats import holm, mcnemar, paired_difference, paired_proportions, sign_flip

PAIRED_COLUMNS = ["model_a", "model_b", "domain", "attack", "metric", "budget", "n", "a", "b", "difference", "ci_low",
                  "ci_high", "only_a", "only_b", "p_value", "p_holm"]
SHIFT_PAIRED_COLUMNS = ["model_a", "model_b", "domain", "part", "cells", "n", "a", "b", "difference", "ci_low",
                        "ci_high", "test", "p_value", "p_holm", "p_bound", "sd"]

#: Metrics that compare models under attack.
METRICS = ("robust_accuracy", "asr")

#: The rule, as the report states it.
FAMILIES = ("A family of comparisons is everything that asks one question: one data set, one attack with one seed (or "
            "one part of a shifted set) and one metric, over all pairs of models and all budgets. Within each family, "
            "p-values are adjusted by Holm's method.")


def paired_table(found: Sequence[Measured]) -> pd.DataFrame:
    """Return ``paired.csv``: every pair of models under the same attack, on the images that both have rows for.

    Robust accuracy is compared over all these images, ASR over those that both models classify correctly before the
    attack. Entries: values, paired difference a - b with Newcombe's interval, discordant counts, McNemar's exact p, and
    p adjusted within its family (`FAMILIES`). Targeted attacks are left out.
    """
    entries: list[dict[str, Any]] = []
    for family, by_model in by_attack(run for run in found if not run.traits.targeted).items():
        tabled = tabled_budgets(by_model)
        for a, b in itertools.combinations(by_model, 2):
            for metric, budget in itertools.product(METRICS, sorted(tabled[a] & tabled[b])):
                first, second = reaching(by_model[a], budget), reaching(by_model[b], budget)
                assert first is not None and second is not None
                entries.append({**_compared(first, second, metric, budget), "family": (family, metric)})
    return pd.DataFrame(_adjusted(entries), columns=PAIRED_COLUMNS)


def by_attack(found: Iterable[Measured]) -> dict[Hashable, dict[str, list[Measured]]]:
    """Return (data set, attack, seed) -> model -> its runs."""
    attacks: dict[Hashable, dict[str, list[Measured]]] = {}
    for run in found:
        of = run.evaluation
        attack = attacks.setdefault((of.domain_digest, of.family, of.seed), {})
        attack.setdefault(run.model, []).append(run)
    return attacks


def tabled_budgets(by_model: Mapping[str, Iterable[Measured]]) -> dict[str, set[int]]:
    """Return model -> the budgets, in iterations, at which its runs of one attack are tabled."""
    return {model: {budget for run in runs for budget in run.facts.budgets} for model, runs in by_model.items()}


def clean_pairs(found: Sequence[Measured]) -> pd.DataFrame:
    """Return every pair of models on the clean images of attacks that both have, in the columns of ``paired.csv``.

    All attacks start from the same clean images, so for each model and data set the run with the most images counts. A
    family is one data set.
    """
    domains: dict[str, dict[str, Measured]] = {}
    for run in found:
        by_model = domains.setdefault(run.evaluation.domain_digest, {})
        if run.model not in by_model or len(run.ids) > len(by_model[run.model].ids):
            by_model[run.model] = run
    entries = [{**_compared(by_model[a], by_model[b], "clean_accuracy", 0), "attack": "", "family": domain}
               for domain, by_model in domains.items() for a, b in itertools.combinations(by_model, 2)]
    return pd.DataFrame(_adjusted(entries), columns=PAIRED_COLUMNS)


def _compared(a: Measured, b: Measured, metric: str, budget: int) -> dict[str, Any]:
    """Return the entry of two models under an attack, or before it for clean accuracy."""
    _, rows_a, rows_b = np.intersect1d(a.ids, b.ids, assume_unique=True, return_indices=True)
    sides = a.frame().iloc[rows_a], b.frame().iloc[rows_b]
    if metric == "asr":
        both = attacked(sides[0], a.traits) & attacked(sides[1], b.traits)
        x, y = (succeeded(side, a.traits, "iterations", budget)[both] for side in sides)
    elif metric == "clean_accuracy":
        x, y = map(correct, sides)
    else:
        x, y = (robust(side, a.traits, "iterations", budget) for side in sides)
    difference, low, high = paired_proportions(x, y)
    test = mcnemar(x, y)
    return {"model_a": a.model, "model_b": b.model, "domain": a.domain, "attack": a.seeded, "metric": metric,
            "budget": budget, "n": len(x), "a": x.mean() if len(x) else np.nan, "b": y.mean() if len(y) else np.nan,
            "difference": difference, "ci_low": low, "ci_high": high, "only_a": test.only_a, "only_b": test.only_b,
            "p_value": test.p_value if len(x) else np.nan}


def paired_shift_table(found: Sequence[Part]) -> pd.DataFrame:
    """Return ``shift_paired.csv``: every pair of models on the images and cells that both have rows for.

    Accuracy of a minus b. For one cell: Newcombe's interval and McNemar's exact test. For the mean over cells:
    Student's interval and a sign-flip test of the images' differences. If its p is the smallest that the number of
    flips allows, `p_bound` is true, and p and the adjusted p are upper bounds. `sd` is the standard deviation of the
    images' differences.
    """
    entries: list[dict[str, Any]] = []
    families: dict[tuple[str, str], list[Part]] = {}
    for part in sorted(found, key=lambda part: (part.domain, part.name)):
        families.setdefault((part.domain, part.name), []).append(part)
    for family, members in families.items():
        for a, b in itertools.combinations(members, 2):
            common, rows_a, rows_b = np.intersect1d(a.examples, b.examples, return_indices=True)
            cells = [cell for cell in a.cells if cell in b.cells]
            if not len(common) or not cells:
                continue
            correct_a, correct_b = (part.correct[rows][:, [part.cells.index(cell) for cell in cells]]
                                    for part, rows in ((a, rows_a), (b, rows_b)))
            x, y = correct_a.mean(1), correct_b.mean(1)
            if len(cells) == 1:
                (difference, low, high), test, bound = paired_proportions(x, y), "McNemar", False
                p_value = mcnemar(correct_a[:, 0], correct_b[:, 0]).p_value
            else:
                (difference, low, high), test = paired_difference(x, y, len(cells)), "sign flip"
                p_value, bound = sign_flip(x, y)
            entries.append({"model_a": a.model, "model_b": b.model, "domain": a.domain, "part": a.name,
                            "cells": len(cells), "n": len(common), "a": x.mean(), "b": y.mean(),
                            "difference": difference, "ci_low": low, "ci_high": high, "test": test,
                            "p_value": p_value, "p_bound": bound, "sd": (x - y).std(), "family": family})
    return pd.DataFrame(_adjusted(entries), columns=SHIFT_PAIRED_COLUMNS)


def _adjusted(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Add to each entry `p_holm`, its `p_value` adjusted within the entries of its `family`.

    An entry without images has no p-value and does not count in its family.
    """
    families: dict[Hashable, list[dict[str, Any]]] = {}
    for entry in entries:
        entry["p_holm"] = np.nan
        if not np.isnan(entry["p_value"]):
            families.setdefault(entry["family"], []).append(entry)
    for family in families.values():
        for entry, adjusted in zip(family, holm(np.array([entry["p_value"] for entry in family])), strict=True):
            entry["p_holm"] = float(adjusted)
    return entries
