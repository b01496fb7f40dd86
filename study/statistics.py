"""Intervals for trainings evaluated on the same images: images and trainings are crossed, not nested.

The score of a training on an image is modelled as

    score[training, image] = method + image + method x image + training + residual,

so the difference of two methods, with S trainings each on the same N images, has the variance

    s2(method x image) / N + 2 s2(training) / S + 2 s2(residual) / (N S).

`Crossed` estimates these terms and uses Student's t for intervals. The variance between trainings is pooled over all
methods, since each has only a few trainings. The alternative is a bootstrap over trainings and images
(`CrossedBootstrap`, Owen 2007, "The pigeonhole bootstrap", arXiv 0712.1111). It counts the residual about three times,
and its percentiles ignore degrees of freedom, so with five trainings or fewer they can be too wide or too narrow. So
it is given in the appendix alone. The tests measure the coverage of Student's intervals.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy import stats

Floats = npt.NDArray[np.float64]

#: Draws from the multivariate t distribution in Dunnett's test. The smallest p-value is one over this number.
DUNNETT_DRAWS = 200_000
#: Probability of detecting an effect, in `Precision.detectable`.
POWER = 0.8


@dataclass(frozen=True)
class Estimate:
    """An approximately t-distributed estimate: its value, standard error and degrees of freedom."""

    value: float
    error: float
    df: float

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Return Student's confidence interval."""
        half = float(stats.t.ppf(0.5 + level / 2, self.df)) * self.error
        return self.value - half, self.value + half

    def scaled(self, factor: float) -> Estimate:
        """Return the estimate of `factor` times the value."""
        return Estimate(factor * self.value, abs(factor) * self.error, self.df)

    def equivalence(self, margin: float) -> float:
        """Return p of two one-sided tests (TOST) that the value lies within -margin to margin, Schuirmann 1987."""
        below = float(stats.t.sf((margin - self.value) / self.error, self.df))
        above = float(stats.t.sf((self.value + margin) / self.error, self.df))
        return max(below, above)


@dataclass(frozen=True)
class Crossed:
    """Scores of the trainings of several methods on the same images.

    Args:
        scores: float64 [trainings, images]; the mean of a row is the score of the training.
        groups: The method of each training.
    """

    scores: Floats
    groups: tuple[str, ...]

    @cached_property
    def values(self) -> Floats:
        """[trainings]: mean over the images."""
        return np.asarray(self.scores.mean(1))

    @cached_property
    def images(self) -> Floats:
        """[trainings, trainings]: covariance of `values` due to the sampling of images."""
        return np.asarray(np.atleast_2d(np.cov(self.scores)) / self.scores.shape[1])

    def index(self, group: str) -> npt.NDArray[np.intp]:
        """Return the indices of a group's trainings."""
        return np.flatnonzero(np.array(self.groups) == group)

    def repeated(self) -> list[str]:
        """Return the groups with two trainings or more, in order."""
        return [group for group in dict.fromkeys(self.groups) if len(self.index(group)) > 1]

    @cached_property
    def df(self) -> int:
        """Degrees of freedom of the pooled variance of trainings; 0 if no method was trained twice."""
        return sum(len(self.index(group)) - 1 for group in self.repeated())

    @cached_property
    def within(self) -> float:
        """Variance of trainings' values within their groups, pooled: s2(training) + s2(residual) / N."""
        squares = (float(np.var(self.values[self.index(g)])) * len(self.index(g)) for g in self.repeated())
        return sum(squares) / self.df if self.df else float("nan")

    @cached_property
    def residual(self) -> float:
        """s2(residual) / N: variance between trainings of a group due to the sampling of images."""
        total = 0.0
        for group in self.repeated():
            index = self.index(group)
            block = self.images[np.ix_(index, index)]
            total += float(np.trace(block)) - float(block.sum()) / len(index)
        return total / self.df if self.df else float("nan")

    @property
    def training(self) -> float:
        """s2(training), at least 0."""
        return max(0.0, self.within - self.residual)

    def weights(self, group: str, control: str | None = None) -> Floats:
        """Return the weights [trainings] of a group's mean, or of its difference to another's."""
        weights = np.zeros(len(self.groups))
        weights[self.index(group)] = 1 / len(self.index(group))
        if control is not None:
            weights[self.index(control)] -= 1 / len(self.index(control))
        return weights

    def covariance(self, weights: Floats) -> Floats:
        """Return the covariance [k, k] of k sums of trainings, from their weights [k, trainings]."""
        return weights @ (self.images + self.training * np.eye(len(self.groups))) @ weights.T

    def estimate(self, weights: Floats) -> Estimate:
        """Estimate a weighted sum of trainings; degrees of freedom by Satterthwaite 1946."""
        variance = max(0.0, float(self.covariance(weights[None])[0, 0]))
        from_trainings = float(weights @ weights) * self.within
        from_images = float(weights @ self.images @ weights)
        spread = from_trainings ** 2 / self.df + from_images ** 2 / (self.scores.shape[1] - 1)
        df = variance ** 2 / spread if spread else float(self.df)
        return Estimate(float(weights @ self.values), variance ** 0.5, max(df, float(self.df)))


@dataclass(frozen=True)
class Against:
    """A difference to the control.

    Attributes:
        estimate: The difference by itself.
        low: Lower end of the simultaneous 95% interval.
        high: Upper end.
        p: Simultaneous p-value.
        bound: Whether `p` is only an upper bound.
    """

    estimate: Estimate
    low: float
    high: float
    p: float
    bound: bool


def dunnett(data: Crossed, control: str, groups: Sequence[str], seed: int = 0) -> dict[str, Against]:
    """Compare groups with one control simultaneously (Dunnett 1955), for crossed images and trainings.

    The differences share the control and the images; their correlation is estimated. Without variance from images this
    is Dunnett's test with a pooled variance.

    Args:
        data: The scores.
        control: The group that the others are compared with.
        groups: The others, each with two trainings or more.
        seed: Seed of the draws from the multivariate t distribution.

    Returns:
        Group -> its difference to the control.
    """
    if not groups:
        return {}
    weights = np.stack([data.weights(group, control) for group in groups])
    estimates = [data.estimate(row) for row in weights]
    covariance = data.covariance(weights)
    errors = np.sqrt(np.diag(covariance))
    df = min(estimate.df for estimate in estimates)
    rng = np.random.default_rng(seed)
    values, vectors = np.linalg.eigh(covariance / np.outer(errors, errors))
    root = vectors * np.sqrt(np.clip(values, 0, None))
    normal = rng.standard_normal((DUNNETT_DRAWS, len(groups))) @ root.T
    largest = np.sort(np.abs(normal).max(1) / np.sqrt(rng.chisquare(df, DUNNETT_DRAWS) / df))
    critical = float(np.quantile(largest, 0.95))
    differences = {}
    for group, estimate in zip(groups, estimates, strict=True):
        beyond = DUNNETT_DRAWS - int(np.searchsorted(largest, abs(estimate.value) / estimate.error))
        half = critical * estimate.error
        differences[group] = Against(estimate, estimate.value - half, estimate.value + half,
                                     max(1, beyond) / DUNNETT_DRAWS, beyond == 0)
    return differences


@dataclass(frozen=True)
class Precision:
    """The power of a number of trainings per method.

    Args:
        data: The trainings whose variances are used.
        control: The group that the others are compared with.
        groups: The others, each with two trainings or more.
    """

    data: Crossed
    control: str
    groups: tuple[str, ...]

    @cached_property
    def interaction(self) -> float:
        """s2(method x image) / N, the median over the differences, at least 0."""
        weights = [self.data.weights(group, self.control) for group in self.groups]
        variances = [float(w @ self.data.images @ w) - self.data.residual * float(w @ w) for w in weights]
        return max(0.0, float(np.median(variances)))

    def error(self, trainings: int, images: float = 1.0) -> float:
        """Return the standard error of a difference.

        Args:
            trainings: Per method.
            images: Number of images, as a multiple of the current one.
        """
        of_images = (self.interaction + 2 * self.data.residual / trainings) / images
        return float((of_images + 2 * self.data.training / trainings) ** 0.5)

    def detectable(self, trainings: int, images: float = 1.0) -> float:
        """Return the smallest difference detected with probability `POWER`, at 5% two-sided, unadjusted."""
        df = (len(self.groups) + 1) * (trainings - 1)
        return float(stats.t.ppf(0.975, df) + stats.t.ppf(POWER, df)) * self.error(trainings, images)

    def needed(self, effect: float, most: int = 100) -> int | None:
        """Return the trainings per method to detect `effect`; None if more than `most` are needed."""
        return next((n for n in range(2, most + 1) if self.detectable(n) <= effect), None)


class CrossedBootstrap:
    """A bootstrap over trainings and images, crossed.

    Trainings are drawn within their group. The variance of the mean of S drawn trainings is too small by (S - 1) / S,
    so their deviations from the mean are scaled up (Rao & Wu 1988).

    Args:
        data: The scores.
        draws: Number of draws.
        seed: Seed of the draws.
    """

    def __init__(self, data: Crossed, draws: int = 1000, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        n = data.scores.shape[1]
        # One draw at a time: the counts of all draws would need too much memory.
        self.means = np.column_stack([data.scores @ np.bincount(rng.integers(0, n, n), minlength=n) / n
                                      for _ in range(draws)])
        self.shares = np.ones((len(data.groups), draws))
        for group in data.repeated():
            index = data.index(group)
            size = len(index)
            counts = rng.multinomial(size, np.full(size, 1 / size), size=draws).T
            self.shares[index] += (size / (size - 1)) ** 0.5 * (counts - 1)

    def interval(self, weights: Floats) -> tuple[float, float]:
        """Return the 95% percentile interval of a weighted sum of trainings; for weights see `Crossed.weights`."""
        low, high = np.quantile(weights @ (self.shares * self.means), [0.025, 0.975])
        return float(low), float(high)
