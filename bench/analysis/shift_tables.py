"""Rows of unattacked images to the tables of a shift test.

The cells of a corrupted set (corruption x severity) reuse the same images, so they are not independent: intervals of
means over cells come from resampling images, all cells of an image together, and the same resamples serve every model.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from bench.analysis.stats import (
    holm,
    independent_difference,
    mcnemar,
    paired_difference,
    paired_proportions,
    resample_weights,
    sign_flip,
    wilson,
)
from bench.rows.store import Rows
from framebench.domains.corruptions import BENCHMARK, EXTRAS, NAMES

SHIFT_COLUMNS = ["model", "domain", "corruption", "severity", "n", "accuracy", "ci_low", "ci_high", "correct"]
SUMMARY_COLUMNS = ["model", "domain", "part", "cells", "n", "accuracy", "ci_low", "ci_high", "clean_accuracy", "gap",
                   "gap_low", "gap_high", "mce", "mce_low", "mce_high", "relative_mce", "relative_mce_low",
                   "relative_mce_high", "mce_baseline", "worst_corruption", "worst_corruption_accuracy", "worst_class",
                   "worst_class_accuracy"]
PAIRED_COLUMNS = ["model_a", "model_b", "domain", "part", "cells", "n", "a", "b", "difference", "ci_low", "ci_high",
                  "test", "p_value", "p_holm"]

#: Parts of a corrupted set over which means are taken: the benchmark's 15 corruptions, and the extra four.
PARTS = {"benchmark": BENCHMARK, "extras": EXTRAS}


@dataclass(frozen=True, eq=False)
class Part:
    """One model's outcomes on a domain without corruptions, or on one part of a corrupted one.

    Attributes:
        model: Label of the model.
        domain: Name of the domain.
        name: "all" for a domain without corruptions, else a name of `PARTS`.
        cells: (corruption, severity) of each column.
        examples: Ids of the images that all cells have rows for, int64 [n].
        labels: int64 [n].
        right: bool [n, cells].
        classes: Class names.
    """

    model: str
    domain: str
    name: str
    cells: tuple[tuple[str, int], ...]
    examples: np.ndarray
    labels: np.ndarray
    right: np.ndarray
    classes: tuple[str, ...]

    @cached_property
    def scores(self) -> np.ndarray:
        """Share of the cells in which each image is right, float [n]."""
        return np.asarray(self.right.mean(1))

    def errors(self) -> tuple[list[str], np.ndarray]:
        """Return the corruptions and every image's error share over the severities of each, float [n, corruptions]."""
        names = list(dict.fromkeys(corruption for corruption, _ in self.cells))
        columns = [[i for i, (corruption, _) in enumerate(self.cells) if corruption == name] for name in names]
        return names, np.stack([1 - self.right[:, own].mean(1) for own in columns], axis=1)


def shift_table(stored: Sequence[Rows]) -> pd.DataFrame:
    """Return ``shift.csv``: an entry a model and cell; corruption empty and severity 0 for images as they are."""
    entries = []
    for rows in stored:
        evaluation = rows.evaluation
        _, labels, predictions = rows.outcomes()
        correct, n = int((predictions == labels).sum()), len(labels)
        low, high = wilson(correct, n)
        entries.append({"model": evaluation.model, "domain": evaluation.domain, "corruption": evaluation.corruption,
                        "severity": evaluation.severity, "n": n, "accuracy": correct / n if n else np.nan,
                        "ci_low": low, "ci_high": high, "correct": correct})
    return pd.DataFrame(entries, columns=SHIFT_COLUMNS)


def parts(stored: Sequence[Rows]) -> list[Part]:
    """Gather rows into parts: one a model and domain, two where the domain has extra corruptions too.

    Models and domains are told apart by their labels, which must be unique (`bench.analysis.labels.unique_labels`).
    """
    found = []
    groups: dict[tuple[str, str, str], list[Rows]] = {}
    for rows in stored:
        evaluation = rows.evaluation
        name = "all" if not evaluation.corruption else "extras" if evaluation.corruption in EXTRAS else "benchmark"
        groups.setdefault((evaluation.model, evaluation.domain, name), []).append(rows)
    for (model, domain, name), group in groups.items():
        group.sort(key=lambda rows: (NAMES.index(rows.evaluation.corruption) if rows.evaluation.corruption else 0,
                                     rows.evaluation.severity))
        outcomes = [rows.outcomes() for rows in group]
        common = outcomes[0][0]
        for examples, _, _ in outcomes[1:]:
            common = np.intersect1d(common, examples, assume_unique=True)
        if not len(common):
            continue
        at = [np.searchsorted(examples, common) for examples, _, _ in outcomes]
        right = np.stack([(predictions == labels)[own] for (_, labels, predictions), own in
                          zip(outcomes, at, strict=True)], axis=1)
        found.append(Part(model, domain, name, tuple((r.evaluation.corruption, r.evaluation.severity) for r in group),
                          common, outcomes[0][1][at[0]], right, tuple(group[0].facts["classes"])))
    return found


def summary_table(found: Sequence[Part], clean_of: dict[str, str], baseline: str | None) -> pd.DataFrame:
    """Return ``shift_summary.csv``: means over cells, gap to clean accuracy, mCE, worst corruption, worst class.

    Args:
        found: The parts.
        clean_of: Domain -> the domain whose images it shifts, by whose accuracy the gap is measured.
        baseline: The model by whose errors those of each corruption are divided in mCE (Hendrycks & Dietterich 2019,
            arXiv 1903.12261); None for no division: then mCE is the mean error.
    """
    by_key = {(part.model, part.domain, part.name): part for part in found}
    entries = []
    for part in found:
        low, high = _mean_interval(part.scores)
        clean = by_key.get((part.model, clean_of.get(part.domain, ""), "all"))
        entry: dict[str, Any] = {
            "model": part.model, "domain": part.domain, "part": part.name, "cells": len(part.cells),
            "n": len(part.examples), "accuracy": part.scores.mean(), "ci_low": low, "ci_high": high,
            **_gap(part, clean), **_worst(part)}
        reference = by_key.get((baseline or "", part.domain, part.name))
        if part.name != "all" and baseline is None:
            entry |= {"mce": 1 - entry["accuracy"], "mce_low": 1 - high, "mce_high": 1 - low}
        elif part.name != "all" and reference is not None and reference.cells == part.cells:
            reference_clean = by_key.get((reference.model, clean_of.get(part.domain, ""), "all"))
            entry |= {**_mce(part, reference, clean, reference_clean), "mce_baseline": baseline}
        entries.append(entry)
    return pd.DataFrame(entries, columns=SUMMARY_COLUMNS)


def severity_table(found: Sequence[Part]) -> pd.DataFrame:
    """Return mean accuracy over the benchmark's corruptions at each severity: model, domain, severity, accuracy, CI."""
    entries = []
    for part in found:
        if part.name != "benchmark":
            continue
        for severity in sorted({severity for _, severity in part.cells}):
            scores = part.right[:, [i for i, (_, s) in enumerate(part.cells) if s == severity]].mean(1)
            low, high = _mean_interval(scores)
            entries.append({"model": part.model, "domain": part.domain, "severity": severity,
                            "accuracy": scores.mean(), "ci_low": low, "ci_high": high})
    return pd.DataFrame(entries, columns=["model", "domain", "severity", "accuracy", "ci_low", "ci_high"])


def paired_shift_table(found: Sequence[Part]) -> pd.DataFrame:
    """Compare every two models on the images and the cells that both have rows for.

    Accuracy of a minus b. Of one cell: with Newcombe's interval and McNemar's exact test; of the mean over cells: with
    a bootstrap interval over images and a sign-flip test of the images' differences. p adjusted (Holm) over the pairs
    of models.
    """
    entries: list[dict[str, Any]] = []
    for _, group in itertools.groupby(sorted(found, key=lambda p: (p.domain, p.name)), lambda p: (p.domain, p.name)):
        compared = []
        for a, b in itertools.combinations(group, 2):
            common, rows_a, rows_b = np.intersect1d(a.examples, b.examples, return_indices=True)
            cells = [cell for cell in a.cells if cell in b.cells]
            if not len(common) or not cells:
                continue
            right_a, right_b = (part.right[rows][:, [part.cells.index(cell) for cell in cells]]
                                for part, rows in ((a, rows_a), (b, rows_b)))
            x, y, single = right_a.mean(1), right_b.mean(1), len(cells) == 1
            difference, low, high = paired_proportions(x, y) if single else paired_difference(x, y)
            p_value = mcnemar(right_a[:, 0], right_b[:, 0]).p_value if single else sign_flip(x, y)
            compared.append({"model_a": a.model, "model_b": b.model, "domain": a.domain, "part": a.name,
                             "cells": len(cells), "n": len(common), "a": x.mean(), "b": y.mean(),
                             "difference": difference, "ci_low": low, "ci_high": high,
                             "test": "McNemar" if single else "sign flip", "p_value": p_value})
        for entry, adjusted in zip(compared, holm(np.array([c["p_value"] for c in compared])), strict=True):
            entries.append({**entry, "p_holm": float(adjusted)})
    return pd.DataFrame(entries, columns=PAIRED_COLUMNS)


def _mean_interval(scores: np.ndarray) -> tuple[float, float]:
    """Return the 95% interval of a mean over images: Wilson's for outcomes of one cell, else a bootstrap."""
    if set(np.unique(scores)) <= {0.0, 1.0}:
        return wilson(int(scores.sum()), len(scores))
    _, low, high = paired_difference(scores, np.zeros(len(scores)))
    return low, high


def _gap(part: Part, clean: Part | None) -> dict[str, float]:
    if clean is None:
        return {}
    if part.name == "all":  # other images: the two accuracies are independent
        gap, low, high = independent_difference((int(clean.scores.sum()), int(part.scores.sum())),
                                                (len(clean.scores), len(part.scores)))
        return {"clean_accuracy": clean.scores.mean(), "gap": gap, "gap_low": low, "gap_high": high}
    _, own, theirs = np.intersect1d(part.examples, clean.examples, return_indices=True)
    paired = paired_proportions if len(part.cells) == 1 else paired_difference
    gap, low, high = paired(clean.scores[theirs], part.scores[own])
    return {"clean_accuracy": clean.scores[theirs].mean() if len(theirs) else np.nan, "gap": gap, "gap_low": low,
            "gap_high": high}


def _worst(part: Part) -> dict[str, Any]:
    by_class = [(part.scores[part.labels == label].mean(), part.classes[label]) for label in np.unique(part.labels)]
    accuracy, name = min(by_class)
    worst: dict[str, Any] = {"worst_class": name, "worst_class_accuracy": accuracy}
    if part.name != "all":
        names, errors = part.errors()
        mean = errors.mean(0)
        worst |= {"worst_corruption": names[int(mean.argmax())], "worst_corruption_accuracy": 1 - mean.max()}
    return worst


def _mce(part: Part, reference: Part, clean: Part | None, reference_clean: Part | None) -> dict[str, float]:
    common, own, theirs = np.intersect1d(part.examples, reference.examples, return_indices=True)
    errors, base = part.errors()[1][own], reference.errors()[1][theirs]
    weights = resample_weights(len(common))
    result = dict(zip(("mce", "mce_low", "mce_high"), _ratio(errors, base, weights), strict=True))
    if clean is not None and reference_clean is not None:
        shared = [np.intersect1d(common, c.examples, return_indices=True) for c in (clean, reference_clean)]
        if all(len(ids) == len(common) for ids, _, _ in shared):
            clean_error, base_error = (1 - c.scores[rows][:, None] for c, (_, _, rows) in
                                       zip((clean, reference_clean), shared, strict=True))
            relative = _ratio(errors - clean_error, base - base_error, weights)
            result |= dict(zip(("relative_mce", "relative_mce_low", "relative_mce_high"), relative, strict=True))
    return result


def _ratio(own: np.ndarray, base: np.ndarray, weights: np.ndarray) -> tuple[float, float, float]:
    """Return the mean over corruptions of the ratio of mean errors, and its percentile interval over `weights`.

    nan where the baseline makes no error (none beyond its clean error) on a corruption: then there is no ratio. A
    resample in which that happens counts as infinite.
    """
    if (base.mean(0) <= 0).any():
        return np.nan, np.nan, np.nan
    drawn = weights @ base
    with np.errstate(divide="ignore", invalid="ignore"):
        draws = np.where((drawn > 0).all(1), ((weights @ own) / drawn).mean(1), np.inf)
    low, high = np.quantile(draws, [0.025, 0.975], method="inverted_cdf")
    return float((own.mean(0) / base.mean(0)).mean()), float(low), float(high)
