"""Rows of unattacked images to the tables of a shift test.

The cells of a corrupted set (corruption x severity) reuse the same images, so they are not independent: intervals of
means over cells come from resampling images, all cells of an image together, and the same resamples serve every model.
"""

from __future__ import annotations

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
    wilson,
)
from bench.rows.evaluation import Evaluation
from framebench.domains.corruptions import BENCHMARK, EXTRAS, NAMES, SEVERITIES

SHIFT_COLUMNS = ["model", "domain", "corruption", "severity", "n", "accuracy", "ci_low", "ci_high", "correct"]
SUMMARY_COLUMNS = ["model", "domain", "part", "cells", "n", "accuracy", "ci_low", "ci_high", "clean_accuracy", "gap",
                   "gap_low", "gap_high", "mce", "mce_low", "mce_high", "relative_mce", "relative_mce_low",
                   "relative_mce_high", "mce_baseline", "worst_corruption", "worst_corruption_accuracy", "worst_class",
                   "worst_class_accuracy", "classes", "clean_n"]

#: The published errors of AlexNet on the official files of ImageNet-C, means over the severities: those by which mCE
#: divides there (Hendrycks & Dietterich 2019, arXiv 1903.12261; six digits: github.com/google-research/augmix).
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
        name: "all" for a domain without corruptions; of a corrupted one "benchmark" for the benchmark's 15
            corruptions, and "extras" for the four others.
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
        return names, np.stack([1 - self.correct[:, own].mean(1) for own in columns], axis=1)


def shift_table(found: Sequence[Measured]) -> pd.DataFrame:
    """Return ``shift.csv``: one entry per model and cell; corruption empty and severity 0 for images as they are."""
    entries = []
    for cell in found:
        evaluation = cell.evaluation
        _, labels, predictions = cell.outcomes()
        correct, n = int((predictions == labels).sum()), len(labels)
        low, high = wilson(correct, n)
        entries.append({"model": cell.model, "domain": cell.domain, "corruption": evaluation.corruption,
                        "severity": evaluation.severity, "n": n, "accuracy": correct / n if n else np.nan,
                        "ci_low": low, "ci_high": high, "correct": correct})
    return pd.DataFrame(entries, columns=SHIFT_COLUMNS)


def parts(found: Sequence[Measured]) -> list[Part]:
    """Gather rows into parts: one per model and domain, two where the domain has extra corruptions too."""
    gathered = []
    groups: dict[tuple[str, str, str], list[Measured]] = {}
    for cell in found:
        corruption = cell.evaluation.corruption
        name = "all" if not corruption else "extras" if corruption in EXTRAS else "benchmark"
        groups.setdefault((cell.model, cell.domain, name), []).append(cell)
    for (model, domain, name), group in groups.items():
        group.sort(key=lambda cell: _place(cell.evaluation))
        outcomes = [cell.outcomes() for cell in group]
        common = outcomes[0][0]
        for examples, _, _ in outcomes[1:]:
            common = np.intersect1d(common, examples, assume_unique=True)
        if not len(common):
            continue
        at = [np.searchsorted(examples, common) for examples, _, _ in outcomes]
        correct = np.stack([(predictions == labels)[own] for (_, labels, predictions), own in
                            zip(outcomes, at, strict=True)], axis=1)
        gathered.append(Part(model, domain, name, _cells(group), common, outcomes[0][1][at[0]], correct,
                             group[0].facts.classes))
    return gathered


def _cells(group: Sequence[Measured]) -> tuple[tuple[str, int], ...]:
    return tuple((cell.evaluation.corruption, cell.evaluation.severity) for cell in group)


def _place(evaluation: Evaluation) -> tuple[int, int]:
    """Return the place of a cell: by the benchmark's order of corruptions, then by severity."""
    return NAMES.index(evaluation.corruption) if evaluation.corruption in NAMES else -1, evaluation.severity


def clean_domains(found: Sequence[Measured]) -> dict[str, str]:
    """Return domain -> the domain that it shifts: its own clean images, else CIFAR-10's test set, if classes agree."""
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

    Clean accuracy and the gap are over the classes that the shifted images have; `classes` is their number, and
    `clean_n` the number of clean images of these classes.

    Args:
        found: The parts.
        clean_of: Domain -> the domain that it shifts, by whose accuracy the gap is measured.
        baseline: The model by whose errors those of each corruption are divided in mCE (Hendrycks & Dietterich 2019,
            arXiv 1903.12261). None for `ALEXNET` on all 75 cells of ImageNet-C, and for no division elsewhere: then mCE
            is the mean error.
    """
    by_key = {(part.model, part.domain, part.name): part for part in found}
    entries = []
    for part in found:
        low, high = _mean_interval(part.scores)
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
    """Return mean accuracy over the benchmark's corruptions by severity, 0 for the same images as they are.

    Columns: model, domain, severity, accuracy, ci_low, ci_high.
    """
    by_key = {(part.model, part.domain, part.name): part for part in found}
    entries = []
    for part in found:
        if part.name != "benchmark":
            continue
        scores = {severity: part.correct[:, [i for i, (_, s) in enumerate(part.cells) if s == severity]].mean(1)
                  for severity in sorted({severity for _, severity in part.cells})}
        clean = by_key.get((part.model, clean_of.get(part.domain, ""), "all"))
        if clean is not None and np.isin(part.examples, clean.examples).all():
            scores = {0: clean.scores[np.isin(clean.examples, part.examples)], **scores}
        for severity, own in scores.items():
            low, high = _mean_interval(own)
            entries.append({"model": part.model, "domain": part.domain, "severity": severity, "accuracy": own.mean(),
                            "ci_low": low, "ci_high": high})
    return pd.DataFrame(entries, columns=["model", "domain", "severity", "accuracy", "ci_low", "ci_high"])


def _mean_interval(scores: np.ndarray) -> tuple[float, float]:
    """Return the 95% interval of a mean over images: Wilson's for outcomes of one cell, else a bootstrap."""
    if set(np.unique(scores)) <= {0.0, 1.0}:
        return wilson(int(scores.sum()), len(scores))
    _, low, high = paired_difference(scores, np.zeros(len(scores)))
    return low, high


def _gap(part: Part, clean: Part | None) -> dict[str, float]:
    """Return the gap to clean accuracy, which is over the same images, or over the classes that the part has."""
    if clean is None:
        return {}
    if part.name == "all":  # other images: the two accuracies are independent
        scores = clean.scores[np.isin(clean.labels, part.labels)]
        if not len(scores):
            return {"clean_n": 0}
        gap, low, high = independent_difference((int(scores.sum()), int(part.scores.sum())),
                                                (len(scores), len(part.scores)))
    else:
        _, own, theirs = np.intersect1d(part.examples, clean.examples, return_indices=True)
        scores = clean.scores[theirs]
        paired = paired_proportions if len(part.cells) == 1 else paired_difference
        gap, low, high = paired(scores, part.scores[own])
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
    """Return whether a part is the whole benchmark of ImageNet-C, at the size that its files have."""
    return part.domain.partition(" #")[0] == "imagenet-c" and part.cells == tuple(
        (corruption, severity) for corruption in BENCHMARK for severity in SEVERITIES)


def _mce(part: Part, reference: Part, clean: Part | None, reference_clean: Part | None) -> dict[str, float]:
    common, own, theirs = np.intersect1d(part.examples, reference.examples, return_indices=True)
    errors, base = part.errors()[1][own], reference.errors()[1][theirs]
    result = dict(zip(("mce", "mce_low", "mce_high"), _ratio(errors, base), strict=True))
    if clean is not None and reference_clean is not None:
        shared = [np.intersect1d(common, c.examples, return_indices=True) for c in (clean, reference_clean)]
        if all(len(ids) == len(common) for ids, _, _ in shared):
            clean_error, base_error = (1 - c.scores[rows][:, None] for c, (_, _, rows) in
                                       zip((clean, reference_clean), shared, strict=True))
            relative = _ratio(errors - clean_error, base - base_error)
            result |= dict(zip(("relative_mce", "relative_mce_low", "relative_mce_high"), relative, strict=True))
    return result


def _ratio(own: np.ndarray, base: np.ndarray) -> tuple[float, float, float]:
    """Return the mean over corruptions of the ratio of mean errors, and its percentile interval over resamples.

    nan where the baseline makes no error (none beyond its clean error) on a corruption: then there is no ratio. A
    resample in which that happens counts as infinite.
    """
    if (base.mean(0) <= 0).any():
        return np.nan, np.nan, np.nan
    of_own, of_base = resampled_means([own, base])
    with np.errstate(divide="ignore", invalid="ignore"):
        draws = np.where((of_base > 0).all(1), (of_own / of_base).mean(1), np.inf)
    low, high = np.quantile(draws, [0.025, 0.975], method="inverted_cdf")
    return float((own.mean(0) / base.mean(0)).mean()), float(low), float(high)
