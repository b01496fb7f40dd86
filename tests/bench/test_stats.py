from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import scipy.stats

from bench.stats import holm, independent_difference, mcnemar, paired_difference, resample_weights, sign_flip, wilson


@pytest.mark.parametrize(("successes", "n"), [(0, 10), (1, 10), (50, 96), (90, 96), (96, 96), (844, 1000)])
def test_wilson_solves_its_defining_equation(successes, n):
    """Its ends are the p at which |p_hat - p| = z sqrt(p (1 - p) / n)."""
    z = 1.959963984540054
    low, high = wilson(successes, n)
    for end in (low, high):
        assert abs(successes / n - end) == pytest.approx(z * math.sqrt(end * (1 - end) / n), abs=1e-9)
    assert low <= successes / n <= high


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


def test_bootstrap_agrees_with_resampling_examples():
    rng = np.random.default_rng(0)
    a, b = rng.random(200) < 0.7, rng.random(200) < 0.6
    difference, low, high = paired_difference(a, b)
    assert difference == pytest.approx(a.mean() - b.mean())
    index = rng.integers(0, 200, (10000, 200))
    direct = np.quantile((a[index].mean(1) - b[index].mean(1)), [0.025, 0.975])
    assert (low, high) == pytest.approx(tuple(direct), abs=0.008)
    assert paired_difference(a, b) == (difference, low, high), "it is seeded"
    assert math.isnan(paired_difference(a[:0], b[:0])[0])


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
    assert sign_flip(a, b, draws=99999) == pytest.approx(exact, abs=0.006)
    reference = scipy.stats.permutation_test((a, b), lambda x, y: np.mean(x - y), permutation_type="samples",
                                             n_resamples=np.inf)
    assert sign_flip(a, b, draws=99999) == pytest.approx(reference.pvalue, abs=0.006)
    assert sign_flip(a, a) == 1.0 and sign_flip(np.ones(100), np.zeros(100)) == pytest.approx(1 / 10000)


def test_resample_weights_are_those_of_a_bootstrap():
    weights = resample_weights(50, draws=4000)
    assert weights.shape == (4000, 50) and np.allclose(weights.sum(1), 1)
    assert np.allclose((weights * 50).var(0), 1 - 1 / 50, atol=0.15), "a multinomial's variance"
    assert np.array_equal(weights, resample_weights(50, draws=4000))


def test_newcombes_interval_against_his_own_examples():
    """Newcombe 1998, Statistics in Medicine 17, 873-890, table II, method 10."""
    assert independent_difference((56, 48), (70, 80)) == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)
    assert independent_difference((9, 3), (10, 10)) == pytest.approx((0.6, 0.1705, 0.8090), abs=5e-5)
    assert independent_difference((10, 0), (10, 10)) == pytest.approx((1.0, 0.6075, 1.0), abs=5e-5)
