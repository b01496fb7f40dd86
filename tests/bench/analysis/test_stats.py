from __future__ import annotations

import math
import tracemalloc
from fractions import Fraction

import numpy as np
import pytest
import scipy.stats

from bench.analysis.stats import (
    holm,
    independent_difference,
    mcnemar,
    paired_difference,
    paired_proportions,
    resampled_means,
    shares_interval,
    sign_flip,
    wilson,
)


@pytest.mark.parametrize(("successes", "n"), [(0, 10), (1, 10), (50, 96), (90, 96), (96, 96), (844, 1000)])
def test_wilson_solves_its_defining_equation(successes, n):
    """Its ends are the p at which |p_hat - p| = z sqrt(p (1 - p) / n)."""
    z = 1.959963984540054
    low, high = wilson(successes, n)
    for end in (low, high):
        assert abs(successes / n - end) == pytest.approx(z * math.sqrt(end * (1 - end) / n), abs=1e-9)
    assert low <= successes / n <= high


@pytest.mark.parametrize("level", [0.8, 0.95])
def test_wilson_is_scipys(level):
    for successes, n in ((0, 1), (1, 1), (0, 90), (1, 90), (50, 96), (96, 96), (9999, 10000)):
        theirs = scipy.stats.binomtest(successes, n).proportion_ci(level, method="wilson")
        assert wilson(successes, n, level) == pytest.approx((theirs.low, theirs.high), abs=1e-12)
    for n in range(1, 400):
        assert wilson(0, n, level)[0] == 0 and wilson(n, n, level)[1] == 1, "exactly"


def test_wilson_published_value_and_edges():
    # Newcombe 1998 (Statistics in Medicine 17:857), table I: 81 of 263.
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(0, 0) == (0, 1)
    assert wilson(50, 100, 0.99)[0] < wilson(50, 100)[0]
    for bad in ((-1, 5), (6, 5)):
        with pytest.raises(ValueError, match="not possible"):
            wilson(*bad)
    with pytest.raises(ValueError, match="level"):
        wilson(1, 2, 1.0)


@pytest.mark.parametrize(("b", "c"), [(0, 0), (3, 9), (10, 10), (0, 6), (25, 11)])
def test_mcnemar_is_the_exact_binomial_tail(b, c):
    x = np.array([True] * b + [False] * c + [True] * 4 + [False] * 5)
    y = np.array([False] * b + [True] * c + [True] * 4 + [False] * 5)
    test = mcnemar(x, y)
    assert (test.only_a, test.only_b) == (b, c)
    tail = sum(Fraction(math.comb(b + c, k), 2 ** (b + c)) for k in range(min(b, c) + 1))
    assert test.p_value == pytest.approx(float(min(Fraction(1), 2 * tail)))
    with pytest.raises(ValueError, match="one length"):
        mcnemar(x, y[:-1])


def _paired(both, only_a, only_b, neither):
    return tuple(np.repeat(outcomes, (both, only_a, only_b, neither)) for outcomes in ([1, 1, 0, 0], [1, 0, 1, 0]))


def test_newcombes_paired_interval_against_published_examples():
    # Bentur 2009 and Cavo 2012 in chapter 8 of Fagerland, Lydersen & Laake, Statistical Analysis of Contingency Tables
    # (2017), with the digits of their R package contingencytables.
    assert paired_proportions(*_paired(1, 1, 7, 12)) == pytest.approx((-6 / 21, -0.507, -0.026), abs=5e-4)
    assert paired_proportions(*_paired(59, 6, 16, 80)) == pytest.approx((-10 / 161, -0.1186, -0.0046), abs=5e-5)


@pytest.mark.parametrize("counts", [(0, 0, 0, 9), (9, 0, 0, 0), (0, 9, 0, 0), (80, 1, 0, 9), (3, 20, 30, 2)])
def test_newcombes_paired_interval_has_its_properties(counts):
    both, only_a, only_b, neither = counts
    difference, low, high = paired_proportions(*_paired(*counts))
    assert -1 <= low < high <= 1 and low <= difference <= high and difference == (only_a - only_b) / sum(counts)
    swapped = paired_proportions(*_paired(both, only_b, only_a, neither))
    assert swapped == pytest.approx((-difference, -high, -low))
    a, b = both + only_a, both + only_b
    apart = independent_difference((a, b), (sum(counts), sum(counts)))
    # The interval of as many independent outcomes is wider where the outcomes go together, and narrower where not.
    width = apart[2] - apart[1]
    assert high - low <= width if both * neither >= only_a * only_b else high - low > width
    assert all(map(math.isnan, paired_proportions(np.zeros(0), np.zeros(0))))


@pytest.mark.parametrize(("n", "only_a", "only_b", "both"), [
    (90, 0.01, 0.0, 0.8), (90, 0.02, 0.01, 0.5), (90, 0.3, 0.2, 0.3), (1000, 0.03, 0.02, 0.1)])
def test_newcombes_paired_interval_covers(n, only_a, only_b, both):
    rng, draws = np.random.default_rng(7), 2000
    drawn = rng.multinomial(n, [both, only_a, only_b, 1 - both - only_a - only_b], size=draws)
    intervals = [paired_proportions(*_paired(*counts)) for counts in drawn]
    assert np.mean([low <= only_a - only_b <= high for _, low, high in intervals]) >= 0.94


def test_paired_differences_of_many_examples_have_the_interval_of_a_bootstrap():
    rng = np.random.default_rng(0)
    a, b = rng.binomial(5, 0.7, 200) / 5, rng.binomial(5, 0.6, 200) / 5
    difference, low, high = paired_difference(a, b, 5)
    assert difference == pytest.approx(a.mean() - b.mean())
    index = rng.integers(0, 200, (10000, 200))
    direct = np.quantile((a[index].mean(1) - b[index].mean(1)), [0.025, 0.975])
    assert (low, high) == pytest.approx(tuple(direct), abs=0.004)


@pytest.mark.parametrize("cells", [5, 75])
@pytest.mark.parametrize("n", [5, 20])
@pytest.mark.parametrize(("easy", "shift"), [(3.0, 0.0), (1.0, 0.7), (5.0, 0.0), (-3.0, 0.5)])
def test_the_interval_of_a_paired_difference_covers_it_for_few_images(easy, shift, n, cells):
    """Two models that find the same images hard; at `easy` = 5 they seldom differ."""
    rng = np.random.default_rng(0)

    def shares(size):
        image = easy + rng.normal(0, 2, size)
        answers = (image - part + rng.normal(0, 0.4, size) for part in (0, shift))
        return [rng.binomial(cells, 1 / (1 + np.exp(-answer))) / cells for answer in answers]

    a, b = shares(500_000)
    true, pairs = a.mean() - b.mean(), (shares(n) for _ in range(400))
    covered = [low <= true <= high for _, low, high in (paired_difference(a, b, cells) for a, b in pairs)]
    assert np.mean(covered) >= 0.92


def test_equal_shares_have_an_interval_of_some_width():
    same = np.array([0.0, 0.4, 1.0, 1.0])
    difference, low, high = paired_difference(same, same, 5)
    assert difference == 0 and low == -high and high == pytest.approx(3.1824 * math.sqrt(1 / 5 / 3 / 4), rel=1e-4)
    assert paired_difference(np.ones(2), np.zeros(2), 5)[1:] == (-1, 1), "no difference is larger"


def test_holm():
    np.testing.assert_allclose(holm(np.array([0.01, 0.04, 0.03, 0.005])), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm(np.array([0.9, 0.8])), [1, 1])
    assert len(holm(np.array([]))) == 0


def test_sign_flip_agrees_with_scipy_and_with_exact_enumeration():
    from itertools import product

    rng = np.random.default_rng(3)
    a = rng.integers(0, 5, 12) / 4
    b = np.clip(a - rng.integers(-1, 3, 12) / 4, 0, 1)
    difference = a - b
    sums = [abs(sum(s * d for s, d in zip(signs, difference, strict=True))) for signs in product((-1, 1), repeat=12)]
    exact = np.mean(np.array(sums) >= abs(difference.sum()) - 1e-9)
    assert sign_flip(a, b, draws=99999).p_value == pytest.approx(exact, abs=0.006)
    reference = scipy.stats.permutation_test((a, b), lambda x, y: np.mean(x - y), permutation_type="samples",
                                             n_resamples=np.inf)
    assert sign_flip(a, b, draws=99999).p_value == pytest.approx(reference.pvalue, abs=0.006)
    assert not sign_flip(a, b).bound and sign_flip(a, a) == (1.0, False)
    assert sign_flip(np.ones(100), np.zeros(100)) == (1 / 10000, True), "no flip reaches what was observed"


def test_resamples_are_those_of_a_bootstrap():
    """Each column counts one example: a multinomial's number, which sums to n and varies by 1 - 1/n."""
    ones, scores = np.eye(50), np.random.default_rng(0).random((50, 2))
    counts, means = resampled_means([50 * ones, scores], draws=4000)
    assert counts.shape == (4000, 50) and np.allclose(counts.sum(1), 50)
    assert np.allclose(counts.var(0), 1 - 1 / 50, atol=0.15) and np.allclose(counts.mean(0), 1, atol=0.1)
    assert np.allclose(means, counts @ scores / 50), "the same resamples for all"
    assert np.array_equal(counts, resampled_means([50 * ones], draws=4000)[0])


def test_resampling_takes_little_memory(monkeypatch):
    scores = np.random.default_rng(0).random((400, 3))
    at_once = resampled_means([scores], draws=50)[0]
    for numbers in (1, 3 * 400, 7 * 400):  # one resample at a time, and parts that 50 is no multiple of
        monkeypatch.setattr("bench.analysis.stats._DRAWN", numbers)
        np.testing.assert_allclose(resampled_means([scores], draws=50)[0], at_once)
    monkeypatch.undo()
    tracemalloc.start()
    resampled_means([np.zeros((20_000, 1))], draws=200)
    assert tracemalloc.get_traced_memory()[1] < 25e6, "all at once they are 32 MB"
    tracemalloc.stop()


def test_newcombes_interval_against_his_own_examples():
    """Newcombe 1998, Statistics in Medicine 17, 873-890, table II, method 10."""
    assert independent_difference((56, 48), (70, 80)) == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)
    assert independent_difference((9, 3), (10, 10)) == pytest.approx((0.6, 0.1705, 0.8090), abs=5e-5)
    assert independent_difference((10, 0), (10, 10)) == pytest.approx((1.0, 0.6075, 1.0), abs=5e-5)


@pytest.mark.parametrize("n", [1, 2, 5, 20])
def test_the_interval_of_a_mean_over_cells_covers_it_for_few_images(n):
    rng, covered = np.random.default_rng(0), 0
    for _ in range(200):
        scores = rng.binomial(75, rng.beta(2, 0.5, size=n)) / 75  # the mean is 0.8
        low, high = shares_interval(scores, 75)
        covered += low <= 0.8 <= high
    assert covered >= 186


def test_one_example_tells_nothing_of_a_difference():
    assert paired_difference(np.array([0.7]), np.array([0.2]), 5) == (pytest.approx(0.5), -1, 1)
    assert all(map(math.isnan, paired_difference(np.zeros(0), np.zeros(0), 5)))
