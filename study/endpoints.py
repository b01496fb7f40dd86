"""The endpoints: one score per image.

Every endpoint is the mean of these scores, so that the same statistics apply to all of them. If the endpoint itself is
not a mean (a rate over the correctly classified images, a median, a calibration error), the score of an image is the
endpoint plus the image's influence on it; the mean of these scores is the endpoint.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd

from framebench.errors import InputError
from study.statistics import Floats

#: Upper limit of the area, in queries. An attack makes at least one query per iteration.
QUERIES = 1000
#: The study's budgets, in iterations.
BUDGETS = (1, 10, 50, 100, 1000)
#: The L2 norm within which a success of SimBA counts in one of the endpoints.
NORM = 1.0
#: Bins of the expected calibration error.
BINS = 15

Score = Callable[[pd.DataFrame], Floats]


def area(rows: pd.DataFrame) -> Floats:
    """Area under robust accuracy against log queries, from 1 to `QUERIES`, as a share of the largest possible area.

    An image broken by t queries scores log(t) / log(QUERIES). One that is not broken scores 1, and one that is
    misclassified before the attack 0.
    """
    spent = np.clip(np.log(np.maximum(rows["queries"], 1)) / np.log(QUERIES), 0, 1)
    success = rows["success_iteration"]
    return np.where(success == 0, 0.0, np.where(success < 0, 1.0, spent))


def robust(rows: pd.DataFrame) -> Floats:
    """Robust accuracy: images classified correctly and never broken, over all images."""
    return np.asarray(rows["success_iteration"] < 0, dtype=float)


def success_rate(rows: pd.DataFrame, iterations: int, norm: float = np.inf) -> Floats:
    """Attack success rate: images broken within these iterations and this L2 norm, over those classified correctly."""
    attacked = (rows["success_iteration"] != 0).to_numpy(float)
    broken = (rows["success_iteration"].between(1, iterations) & (rows["l2"] <= norm)).to_numpy(float)
    rate = broken.sum() / attacked.sum()
    return np.asarray(rate + (broken - rate * attacked) / attacked.mean())


def median_norm(rows: pd.DataFrame) -> Floats:
    """Median over all images of the smallest L2 norm found: 0 if misclassified, infinite if not broken.

    The density at the median comes from the order statistics one standard error to either side (Woodruff 1952).

    Raises:
        InputError: if so many images are not broken that one of these is infinite.
    """
    norms = rows["l2"].to_numpy(float).copy()
    norms[rows["success_iteration"] == 0] = 0.0
    norms[rows["success_iteration"] < 0] = np.inf
    median = np.median(norms)
    share = 0.5 / len(norms) ** 0.5
    low, high = np.quantile(norms, [0.5 - share, 0.5 + share])
    if not np.isfinite(high):
        raise InputError(f"{(norms == np.inf).mean():.0%} of the images are not broken, so that the median of the "
                         "smallest L2 norm has no interval; measure it with more steps")
    below = np.where(norms <= median, 1.0, 0.0)
    return np.asarray(median + (below.mean() - below) * (high - low) / (2 * share))


def accuracy(rows: pd.DataFrame) -> Floats:
    """Accuracy."""
    return np.asarray(rows["prediction"] == rows["label"], dtype=float)


def calibration_error(rows: pd.DataFrame) -> Floats:
    """Expected calibration error over `BINS` bins of equal width (Guo et al. 2017, arXiv 1706.04599)."""
    confidence = rows["confidence"].to_numpy(float)
    excess = accuracy(rows) - confidence
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    sign = np.sign(np.bincount(bins, excess, BINS))
    return np.asarray(sign[bins] * excess)


def mean_over_cells(rows: pd.DataFrame) -> Floats:
    """Accuracy, as the mean over the cells of a corrupted set."""
    return rows.groupby("example")["correct"].mean().to_numpy(float)


@dataclass(frozen=True)
class Endpoint:
    """An endpoint.

    Attributes:
        key: Its name in `claims.toml` and in this code.
        title: Its name in the account.
        rows: Name in the manifest of the rows that it is computed from.
        score: Function from the rows of one training, by ascending example, to float64 [images].
        better: 1 if higher is better, -1 if lower is better.
        percent: Whether it is printed in percent.
        counts: Whether it counts images. Then it has no interval if too few of them are on one side.
        dataset: Data set of the trainings that have it.
    """

    key: str
    title: str
    rows: str
    score: Score
    better: int = 1
    percent: bool = True
    counts: bool = True
    dataset: str = "cifar10"

    @property
    def covariate(self) -> bool:
        """Whether it is clean accuracy, the covariate of comparisons at equal clean accuracy."""
        return self.score is accuracy and self.rows.startswith("clean")

    @property
    def scale(self) -> float:
        """Factor of its numbers in print: 100 for percent, else 1."""
        return 100.0 if self.percent else 1.0

    @property
    def digits(self) -> int:
        """Decimals of its numbers in print."""
        return 2 if self.percent else 3


#: Named before any training was measured.
PRIMARY = Endpoint("area", "area under robust accuracy", "simba-pixel", area, counts=False)
ENDPOINTS = (
    PRIMARY,
    *(Endpoint(f"asr-{budget}", f"ASR at {budget:,}", "simba-pixel", partial(success_rate, iterations=budget), -1)
      for budget in BUDGETS),
    Endpoint("asr-l2", f"ASR within L2 {NORM:g}", "simba-pixel",
             partial(success_rate, iterations=BUDGETS[-1], norm=NORM), -1),
    Endpoint("area-dct", "area, SimBA-DCT", "simba-dct", area, counts=False),
    Endpoint("apgd-1", "robust accuracy, APGD Linf 1/255", "apgd-1", robust),
    Endpoint("apgd-2", "robust accuracy, APGD Linf 2/255", "apgd-2", robust),
    Endpoint("min-l2", "median smallest L2", "min-l2", median_norm, percent=False, counts=False),
    Endpoint("clean", "clean accuracy", "clean", accuracy),
    Endpoint("ece", "calibration error", "clean", calibration_error, -1, counts=False),
    Endpoint("cifar10-c", "CIFAR-10-C", "cifar10-c", mean_over_cells),
    Endpoint("clean-cifar100", "clean accuracy, CIFAR-100", "clean-cifar100", accuracy, dataset="cifar100"),
    Endpoint("tinyimagenet7", "TinyImageNet, seven classes", "tinyimagenet7", accuracy),
)
