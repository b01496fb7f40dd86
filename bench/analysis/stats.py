"""Intervals and paired tests."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy import stats

from framebench.seeding import generator

#: Counts that resampling holds in memory at a time: 16 MB.
_DRAWN = 1 << 21


def wilson(successes: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Return Wilson's score interval of a proportion (Wilson 1927), (0, 1) for n = 0.

    Raises:
        ValueError: if not 0 <= successes <= n, or the level is not in (0, 1).
    """
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n} are not possible")
    if not 0 < level < 1:
        raise ValueError(f"the level must lie in (0, 1), not {level}")
    return _score_interval(successes / n, n, level) if n else (0.0, 1.0)


def _score_interval(p: float, n: float, level: float) -> tuple[float, float]:
    """Return Wilson's interval of a proportion p of n outcomes; n need not be an integer."""
    z = _quantile(level)
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + (z / (2 * n)) ** 2)
    # Exactly 0 or 1 for p = 0 or 1, without rounding errors.
    return 0.0 if p == 0 else centre - half, 1.0 if p == 1 else centre + half


@lru_cache
def _quantile(level: float) -> float:
    """Return the standard normal quantile of a two-sided interval."""
    return float(stats.norm.ppf(0.5 + level / 2))


def shares_interval(shares: np.ndarray, outcomes: int, level: float = 0.95) -> tuple[float, float]:
    """Return the interval of the mean of examples' shares, each over the same number of outcomes: seeds, or cells.

    The outcomes of an example are correlated. So the interval is Wilson's for the effective number of independent
    outcomes, whose mean would have the variance of the mean over examples (Korn & Graubard 1998; with Wilson's interval
    Dean & Pagano 2015). It is n, with the interval of `wilson`, if the outcomes of every example agree, and at most
    n * outcomes. The variance is poorly estimated from few successes or few failures. So it is taken with four examples
    added, two with successes only and two with failures only (as in Agresti & Coull 1998).

    Args:
        shares: Shares of successes [n], each in [0, 1]; n = 0 gives (0, 1).
        outcomes: Number of outcomes per example; the interval is for these outcomes, not for others, such as new seeds.
        level: Coverage of the interval.
    """
    if not len(shares):
        return 0.0, 1.0
    added = np.concatenate([shares, [0, 0, 1, 1]])
    effective = added.mean() * (1 - added.mean()) / added.var()  # independent outcomes per example
    p, n = float(np.mean(shares)), len(shares) * float(np.clip(effective, 1, outcomes))
    return _score_interval(p, n, level)


def t_interval(values: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """Return Student's interval of the mean of at least two independent values (Student 1908).

    Raises:
        ValueError: for fewer values.
    """
    if len(values) < 2:
        raise ValueError(f"an interval takes at least two values, not {len(values)}")
    half = stats.t.ppf(0.5 + level / 2, len(values) - 1) * np.std(values, ddof=1) / math.sqrt(len(values))
    return float(np.mean(values) - half), float(np.mean(values) + half)


@dataclass(frozen=True)
class McNemar:
    """McNemar's exact test.

    Attributes:
        only_a: Number of examples that are true only in a.
        only_b: Number of examples that are true only in b.
        p_value: Two-sided; 1 if no example differs.
    """

    only_a: int
    only_b: int
    p_value: float


def mcnemar(a: np.ndarray, b: np.ndarray) -> McNemar:
    """Test whether two outcomes of the same examples have the same rate (McNemar 1947, exact binomial form).

    Args:
        a: bool [n], e.g. whether model A was correct.
        b: bool [n], the same examples in the same order.

    Raises:
        ValueError: if the two don't have the same length.
    """
    first, second = _paired(a, b)
    only_a, only_b = int((first & ~second).sum()), int((~first & second).sum())
    total = only_a + only_b
    return McNemar(only_a, only_b, float(stats.binomtest(only_a, total).pvalue) if total else 1.0)


def _paired(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    first, second = np.asarray(a, dtype=bool), np.asarray(b, dtype=bool)
    if first.shape != second.shape or first.ndim != 1:
        raise ValueError(f"paired outcomes must be vectors of one length, not {first.shape} and {second.shape}")
    return first, second


def paired_proportions(a: np.ndarray, b: np.ndarray, level: float = 0.95) -> tuple[float, float, float]:
    """Return the difference of two proportions of the same examples and its interval (Newcombe 1998, paired).

    Method 10 of Statistics in Medicine 17:2635: Wilson's intervals of both, combined with the correlation phi of the
    outcomes, which is corrected towards 0 if positive. Unlike a bootstrap, it has good coverage if few examples differ
    or none.

    Args:
        a: bool [n].
        b: bool [n], the same examples in the same order.
        level: Coverage of the interval.

    Returns:
        difference a - b, low, high; nan for n = 0.

    Raises:
        ValueError: if the two don't have the same length.
    """
    first, second = _paired(a, b)
    n, true_a, true_b = len(first), int(first.sum()), int(second.sum())
    if n == 0:
        return math.nan, math.nan, math.nan
    covariance = n * int((first & second).sum()) - true_a * true_b  # times n^2
    scale = math.sqrt(true_a * (n - true_a) * true_b * (n - true_b))
    phi = (max(covariance - n / 2, 0) if covariance > 0 else covariance) / scale if scale else 0.0
    p1, p2, (l1, u1), (l2, u2) = true_a / n, true_b / n, wilson(true_a, n, level), wilson(true_b, n, level)

    def combined(x: float, y: float) -> float:
        return math.sqrt(x * x - 2 * phi * x * y + y * y)

    difference = (true_a - true_b) / n
    return difference, difference - combined(p1 - l1, u2 - p2), difference + combined(u1 - p1, p2 - l2)


def paired_difference(a: np.ndarray, b: np.ndarray, outcomes: int, level: float = 0.95) -> tuple[float, float, float]:
    """Return mean(a) - mean(b) of shares of the same examples and its interval (Student 1908, of paired differences).

    It is for shares over several outcomes, such as cells; for one outcome use `paired_proportions`. The variance is
    poorly estimated if few examples differ. So one more squared difference is counted, 1 / outcomes: that of an example
    on which all outcomes differ, independently and equally often in either direction. (For the same reason, Agresti &
    Min 2005, Statistics in Medicine 24:729, add examples that differ.) One example has no spread, so its interval is
    all that is possible.

    Args:
        a: Shares [n], each in [0, 1].
        b: Shares [n] of the same examples.
        outcomes: Number of outcomes per share.
        level: Coverage of the interval.

    Returns:
        difference, low, high; nan for n = 0.
    """
    difference = np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)
    n = len(difference)
    if n == 0:
        return math.nan, math.nan, math.nan
    mean = float(difference.mean())
    if n == 1:
        return mean, -1.0, 1.0
    squares = float(((difference - mean) ** 2).sum()) + 1 / outcomes
    half = float(stats.t.ppf(0.5 + level / 2, n - 1)) * math.sqrt(squares / (n - 1) / n)
    return mean, max(mean - half, -1.0), min(mean + half, 1.0)


def holm(p_values: np.ndarray) -> np.ndarray:
    """Return p-values adjusted for testing several hypotheses (Holm 1979), in the order given."""
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(p[order] * (len(p) - np.arange(len(p)))))
    return adjusted


class SignFlip(NamedTuple):
    """The outcome of a sign-flip test.

    Attributes:
        p_value: Two-sided; 1 if no example differs.
        bound: Whether no flip was as extreme as the observation: then p is at most `p_value`, 1 / (draws + 1).
    """

    p_value: float
    bound: bool


def sign_flip(a: np.ndarray, b: np.ndarray, draws: int = 9999, seed: int = 0) -> SignFlip:
    """Test whether mean(a) = mean(b) by a paired sign-flip permutation test.

    Under the null hypothesis, both signs of each example's difference are equally likely. The observation counts as one
    of the draws (Phipson & Smyth 2010), so the p-value is never 0.

    Args:
        a: Scores [n].
        b: Scores [n] of the same examples.
        draws: Random flips.
        seed: Seed of the flips.
    """
    difference = np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)
    # Only the number of differences of each size that keep their sign matters: it is binomial.
    sizes, counts = np.unique(np.abs(difference[difference != 0]).round(12), return_counts=True)
    if not len(sizes):
        return SignFlip(1.0, False)
    positive = generator(seed, "sign-flip").binomial(counts, 0.5, size=(draws, len(sizes)))
    flipped = np.abs((2 * positive - counts) @ sizes)
    extreme = int((flipped >= abs(float(difference.sum())) - 1e-9).sum())
    return SignFlip((1 + extreme) / (draws + 1), extreme == 0)


def pairs_needed(discordant: float, difference: float, level: float = 0.05, power: float = 0.8) -> float:
    """Return how many images a two-sided McNemar test needs to find a difference of two proportions.

    n = (z_(1 - level/2) sqrt(discordant) + z_power sqrt(discordant - difference^2))^2 / difference^2; the exact test
    needs slightly more (Miettinen 1968, Biometrics 24:339; Connor 1987, Biometrics 43:207).

    Args:
        discordant: Share of images on which the two differ, at least |difference|.
        difference: Difference of the proportions.
        level: Level of the test.
        power: Probability that the test finds it.

    Returns:
        The number, not rounded; infinite for a difference of 0.
    """
    if difference == 0:
        return math.inf
    z, z_power = _quantile(1 - level), float(stats.norm.ppf(power))
    return ((z * math.sqrt(discordant) + z_power * math.sqrt(discordant - difference ** 2)) / difference) ** 2


def images_needed(deviation: float, difference: float, level: float = 0.05, power: float = 0.8) -> float:
    """Return how many images a two-sided paired test of a mean difference needs to find it: ((z + z') sd / mean)^2.

    As `pairs_needed`, with the standard deviation of the images' differences instead of the discordant share.
    """
    if difference == 0:
        return math.inf
    return ((_quantile(1 - level) + float(stats.norm.ppf(power))) * deviation / difference) ** 2


def independent_difference(successes: tuple[int, int], n: tuple[int, int]) -> tuple[float, float, float]:
    """Return p1 - p2 of two independent proportions and its 95% interval (Newcombe 1998, method 10, from Wilson's).

    Args:
        successes: Successes of both.
        n: Sizes of both, at least 1.
    """
    p1, p2 = (s / size for s, size in zip(successes, n, strict=True))
    (l1, u1), (l2, u2) = (wilson(s, size) for s, size in zip(successes, n, strict=True))
    difference = p1 - p2
    return difference, difference - math.hypot(p1 - l1, u2 - p2), difference + math.hypot(u1 - p1, p2 - l2)


def resampled_means(values: Sequence[np.ndarray], draws: int = 1000, seed: int = 0) -> list[np.ndarray]:
    """Return the means of bootstrap resamples of n examples.

    All values of the same n share the resamples, so differences are paired. Counts of draws are held in memory for a
    few resamples at a time: all of them would need 400 MB for 50,000 examples.

    Args:
        values: Scores of the same examples, [n, k] each.
        draws: Bootstrap samples.
        seed: Seed of the samples.

    Returns:
        float64 [draws, k] for each of `values`.
    """
    n = len(values[0])
    rng = generator(seed, "resamples", n)
    means = [np.empty((draws, scores.shape[1])) for scores in values]
    drawn = np.empty((max(_DRAWN // n, 1), n))
    for start in range(0, draws, len(drawn)):
        drawn = drawn[: draws - start]
        for times in drawn:
            times[:] = np.bincount(rng.integers(n, size=n), minlength=n)
        for mean, scores in zip(means, values, strict=True):
            mean[start : start + len(drawn)] = drawn @ scores / n
    return means
