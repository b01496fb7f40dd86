"""Tables of a shift test.

The cells of a corrupted set (corruption x severity) reuse the same images, so they are not independent. Intervals of
means over cells, and of their differences, count the images with all their cells together; those of ratios come from
resampling images, with the same resamples for all models.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from bench.analysis.measured import Measured
from bench.analysis.stats import (
    independent_difference,
    paired_difference,
    paired_proportions,
    resampled_means,
    shares_interval,
    wilson,
)
from bench.rows.evaluation import Evaluation
from framebench.domains.corruptions import BENCHMARK, EXTRAS, NAMES, SEVERITIES

SHIFT_COLUMNS = ["model", "domain", "corruption", "severity", "n", "accuracy", "ci_low", "ci_high", "correct"]
SUMMARY_COLUMNS = ["model", "domain", "part", "cells", "n", "accuracy", "ci_low", "ci_high", "clean_accuracy", "gap",
                   "gap_low", "gap_high", "mce", "mce_low", "mce_high", "relative_mce", "relative_mce_low",
                   "relative_mce_high", "mce_baseline", "worst_corruption", "worst_corruption_accuracy", "worst_class",
                   "worst_class_accuracy", "classes", "clean_n"]

#: Published errors of AlexNet on the official files of ImageNet-C, means over the severities: the divisors of mCE there
#: (Hendrycks & Dietterich 2019, arXiv 1903.12261; six digits: github.com/google-research/augmix).
ALEXNET = dict(zip(BENCHMARK, (
    0.886428, 0.894468, 0.922640, 0.819880, 0.826268, 0.785948, 0.798360, 0.866816, 0.826572, 0.819324, 0.564592,
    0.853204, 0.646056, 0.717840, 0.606500), strict=True))
ALEXNET_NAME = "AlexNet (published)"


@dataclass(frozen=True, eq=False)
class Part:
    """One model's outcomes on a domain without corruptions, or on one part of a corrupted one.

    Attributes:
        model: Label of the model.
        domain: Name of the domain.
        name: "all" for a domain without corruptions; else "benchmark" for the benchmark's 15 corruptions, or "extras"
            for the four others.
        cells: (corruption, severity) of each column.
        examples: Ids of the images that all cells have rows for, int64 [n].
        labels: int64 [n].
        correct: bool [n, cells], whether each image is classified correctly in each cell.
        classes: Class names.
    """

    model: str
    domain: str
    name: str
    cells: tuple[tuple[str, int], ...]
    examples: np.ndarray
    labels: np.ndarray
    correct: np.ndarray
    classes: tuple[str, ...]

    @cached_property
    def scores(self) -> np.ndarray:
        """Share of the cells in which each image is classified correctly, float [n]."""
        return np.asarray(self.correct.mean(1))

    def errors(self) -> tuple[list[str], np.ndarray]:
        """Return the corruptions, and each image's share of errors over their severities, float [n, corruptions]."""
        names = list(dict.fromkeys(corruption for corruption, _ in self.cells))
        columns = [[i for i, (corruption, _) in enumerate(self.cells) if corruption == name] for name in names]
        return names, np.stack([1 - self.correct[:, severities].mean(1) for severities in columns], axis=1)


def shift_table(found: Sequence[Measured]) -> pd.DataFrame:
    """Return ``shift.csv``: one entry per model and cell; without corruption, it is empty and the severity 0."""
    entries = []
    for cell in found:
        evaluation = cell.evaluation
        _, labels, predictions = cell.rows.outcomes()
        correct, n = int((predictions == labels).sum()), len(labels)
        low, high = wilson(correct, n)
        entries.append({"model": cell.model, "domain": cell.domain, "corruption": evaluation.corruption,
                        "severity": evaluation.severity, "n": n, "accuracy": correct / n if n else np.nan,
                        "ci_low": low, "ci_high": high, "correct": correct})
    return pd.DataFrame(entries, columns=SHIFT_COLUMNS)


def parts(found: Sequence[Measured]) -> list[Part]:
    """Group cells into parts: one per model and domain, or two if the domain has extra corruptions."""
    gathered = []
    groups: dict[tuple[str, str, str], list[Measured]] = {}
    for cell in found:
        corruption = cell.evaluation.corruption
        name = "all" if not corruption else "extras" if corruption in EXTRAS else "benchmark"
        groups.setdefault((cell.model, cell.domain, name), []).append(cell)
    for (model, domain, name), group in groups.items():
        group.sort(key=lambda cell: _place(cell.evaluation))
        outcomes = [cell.rows.outcomes() for cell in group]
        common = outcomes[0][0]
        for examples, _, _ in outcomes[1:]:
            common = np.intersect1d(common, examples, assume_unique=True)
        if not len(common):
            continue
        places = [np.searchsorted(examples, common) for examples, _, _ in outcomes]
        correct = np.stack([(predictions == labels)[place] for (_, labels, predictions), place in
                            zip(outcomes, places, strict=True)], axis=1)
        cells = tuple((cell.evaluation.corruption, cell.evaluation.severity) for cell in group)
        gathered.append(Part(model, domain, name, cells, common, outcomes[0][1][places[0]], correct,
                             group[0].facts.classes))
    return gathered


def _place(evaluation: Evaluation) -> tuple[int, int]:
    """Return the sort key of a cell: the benchmark's order of corruptions, then severity."""
    return NAMES.index(evaluation.corruption) if evaluation.corruption in NAMES else -1, evaluation.severity


def clean_domains(found: Sequence[Measured]) -> dict[str, str]:
    """Return domain -> its clean domain: the same images, else CIFAR-10's test set if the classes agree."""
    by_digest = {cell.evaluation.domain_digest: cell.domain for cell in found if not cell.evaluation.corruption}
    source = next((cell for cell in found if cell.domain == "cifar10"), None)
    clean = {}
    for cell in found:
        if cell.facts.clean in by_digest:
            clean[cell.domain] = by_digest[cell.facts.clean]
        elif not cell.evaluation.corruption and source is not None and cell.domain not in ("cifar10", "samples") \
                and cell.facts.classes == source.facts.classes:
            clean[cell.domain] = "cifar10"
    return clean


def summary_table(found: Sequence[Part], clean_of: dict[str, str], baseline: str | None) -> pd.DataFrame:
    """Return ``shift_summary.csv``: means over cells, gap to clean accuracy, mCE, worst corruption, worst class.

    Clean accuracy and the gap are over the classes of the shifted images; `classes` is their number, and `clean_n` the
    number of clean images of these classes.

    Args:
        found: The parts.
        clean_of: Domain -> the clean domain for its gap.
        baseline: The model whose errors are the divisors of mCE (Hendrycks & Dietterich 2019, arXiv 1903.12261). None
            for `ALEXNET` on all 75 cells of ImageNet-C, and for the mean error elsewhere.
    """
    by_key = {(part.model, part.domain, part.name): part for part in found}
    entries = []
    for part in found:
        low, high = shares_interval(part.scores, len(part.cells))
        clean = by_key.get((part.model, clean_of.get(part.domain, ""), "all"))
        entry: dict[str, Any] = {
            "model": part.model, "domain": part.domain, "part": part.name, "cells": len(part.cells),
            "n": len(part.examples), "accuracy": part.scores.mean(), "ci_low": low, "ci_high": high,
            "classes": len(np.unique(part.labels)), **_gap(part, clean), **_worst(part)}
        reference = by_key.get((baseline or "", part.domain, part.name))
        if baseline is None and _is_imagenet_c(part):
            base = np.broadcast_to([ALEXNET[name] for name in BENCHMARK], (len(part.examples), len(BENCHMARK)))
            mce = _ratio(part.errors()[1], base)
            entry |= {**dict(zip(("mce", "mce_low", "mce_high"), mce, strict=True)), "mce_baseline": ALEXNET_NAME}
        elif part.name != "all" and baseline is None:
            entry |= {"mce": 1 - entry["accuracy"], "mce_low": 1 - high, "mce_high": 1 - low}
        elif part.name != "all" and reference is not None and reference.cells == part.cells:
            reference_clean = by_key.get((reference.model, clean_of.get(part.domain, ""), "all"))
            entry |= {**_mce(part, reference, clean, reference_clean), "mce_baseline": baseline}
        entries.append(entry)
    return pd.DataFrame(entries, columns=SUMMARY_COLUMNS)


def severity_table(found: Sequence[Part], clean_of: dict[str, str]) -> pd.DataFrame:
    """Return mean accuracy over the benchmark's corruptions by severity; severity 0 is the same images, clean.

    Columns: model, domain, severity, accuracy, ci_low, ci_high.
    """
    by_key = {(part.model, part.domain, part.name): part for part in found}
    entries = []
    for part in found:
        if part.name != "benchmark":
            continue
        counts = Counter(severity for _, severity in part.cells)
        scores = {severity: part.correct[:, [i for i, (_, s) in enumerate(part.cells) if s == severity]].mean(1)
                  for severity in sorted(counts)}
        clean = by_key.get((part.model, clean_of.get(part.domain, ""), "all"))
        if clean is not None and np.isin(part.examples, clean.examples).all():
            scores = {0: clean.scores[np.isin(clean.examples, part.examples)], **scores}
        for severity, shares in scores.items():
            low, high = shares_interval(shares, counts[severity] or 1)
            entries.append({"model": part.model, "domain": part.domain, "severity": severity,
                            "accuracy": shares.mean(), "ci_low": low, "ci_high": high})
    return pd.DataFrame(entries, columns=["model", "domain", "severity", "accuracy", "ci_low", "ci_high"])


def _gap(part: Part, clean: Part | None) -> dict[str, float]:
    """Return the gap to clean accuracy on the same images, or else on the part's classes."""
    if clean is None:
        return {}
    if part.name == "all":  # other images: the two accuracies are independent
        scores = clean.scores[np.isin(clean.labels, part.labels)]
        if not len(scores):
            return {"clean_n": 0}
        gap, low, high = independent_difference((int(scores.sum()), int(part.scores.sum())),
                                                (len(scores), len(part.scores)))
    else:
        _, shifted_rows, clean_rows = np.intersect1d(part.examples, clean.examples, return_indices=True)
        scores, shifted, cells = clean.scores[clean_rows], part.scores[shifted_rows], len(part.cells)
        gap, low, high = paired_proportions(scores, shifted) if cells == 1 else \
            paired_difference(scores, shifted, cells)
    return {"clean_n": len(scores), "clean_accuracy": scores.mean() if len(scores) else np.nan, "gap": gap,
            "gap_low": low, "gap_high": high}


def _worst(part: Part) -> dict[str, Any]:
    by_class = [(part.scores[part.labels == label].mean(), part.classes[label]) for label in np.unique(part.labels)]
    accuracy, name = min(by_class)
    worst: dict[str, Any] = {"worst_class": name, "worst_class_accuracy": accuracy}
    if part.name != "all":
        names, errors = part.errors()
        mean = errors.mean(0)
        worst |= {"worst_corruption": names[int(mean.argmax())], "worst_corruption_accuracy": 1 - mean.max()}
    return worst


def _is_imagenet_c(part: Part) -> bool:
    """Return whether a part is the whole benchmark of ImageNet-C."""
    return part.domain.partition(" #")[0] == "imagenet-c" and part.cells == tuple(
        (corruption, severity) for corruption in BENCHMARK for severity in SEVERITIES)


def _mce(part: Part, reference: Part, clean: Part | None, reference_clean: Part | None) -> dict[str, float]:
    common, rows, base_rows = np.intersect1d(part.examples, reference.examples, return_indices=True)
    if not len(common):
        return {}
    errors, base = part.errors()[1][rows], reference.errors()[1][base_rows]
    result = dict(zip(("mce", "mce_low", "mce_high"), _ratio(errors, base), strict=True))
    if clean is not None and reference_clean is not None:
        shared = [np.intersect1d(common, c.examples, return_indices=True) for c in (clean, reference_clean)]
        if all(len(ids) == len(common) for ids, _, _ in shared):
            clean_error, base_error = (1 - c.scores[places][:, None] for c, (_, _, places) in
                                       zip((clean, reference_clean), shared, strict=True))
            relative = _ratio(errors - clean_error, base - base_error)
            result |= dict(zip(("relative_mce", "relative_mce_low", "relative_mce_high"), relative, strict=True))
    return result


def _ratio(errors: np.ndarray, base: np.ndarray) -> tuple[float, float, float]:
    """Return the mean over corruptions of the ratio of mean errors, and its percentile interval over resamples.

    nan if the baseline makes no error (beyond its clean error) on a corruption. A resample in which that happens
    counts as infinite.
    """
    if (base.mean(0) <= 0).any():
        return np.nan, np.nan, np.nan
    error_means, base_means = resampled_means([errors, base])
    with np.errstate(divide="ignore", invalid="ignore"):
        draws = np.where((base_means > 0).all(1), (error_means / base_means).mean(1), np.inf)
    low, high = np.quantile(draws, [0.025, 0.975], method="inverted_cdf")
    return float((errors.mean(0) / base.mean(0)).mean()), float(low), float(high)
