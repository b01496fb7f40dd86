from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from study.regression import at_equal_accuracy, partial, slopes
from study.statistics import Crossed


def test_one_predictor_is_linear_regression():
    rng = np.random.default_rng(0)
    x = rng.normal(size=30)
    y = 2 * x + rng.normal(size=30)
    (found,) = slopes(y, [x], [str(i // 3) for i in range(30)])
    assert found.value == pytest.approx(stats.linregress(x, y).slope) and found.df == 9


def test_with_one_training_per_arm_errors_are_the_jackknifes():
    """Leaving out one moves the fit by (X'X)^-1 x e / (1 - h), in closed form."""
    rng = np.random.default_rng(1)
    x, z = rng.normal(size=(2, 20))
    y = x - z + rng.normal(size=20) * (1 + x ** 2)
    design = np.column_stack([np.ones(20), x, z])
    inverse = np.linalg.inv(design.T @ design)
    left = y - design @ inverse @ design.T @ y
    leverage = np.einsum("ij,jk,ik->i", design, inverse, design)
    moved = inverse @ design.T * (left / (1 - leverage))
    expected = np.sqrt(19 / 20 * (moved ** 2).sum(1))[1:]
    np.testing.assert_allclose([one.error for one in slopes(y, [x, z], list(map(str, range(20))))], expected)


def test_trainings_of_an_arm_are_not_independent():
    """Predictor and noise are the arm's: with errors by arm the slope is found rarely, as it should be."""
    rng = np.random.default_rng(2)
    found = 0
    for _ in range(200):
        x, y = np.repeat(rng.normal(size=(2, 10)), 5, axis=1)
        (one,) = slopes(y, [x], [str(i // 5) for i in range(50)])
        found += one.interval()[0] > 0 or one.interval()[1] < 0
    assert found <= 20


def test_too_few_arms_or_a_slope_that_one_arm_decides_give_none():
    y = np.arange(6.0)
    assert slopes(y, [y], ["a", "a", "b", "b", "c", "c"]) is None
    only_one_differs = np.array([0, 0, 0, 0, 0, 1.0])
    assert slopes(y, [only_one_differs], list("abcdef")) is None


def test_partial_is_free_of_the_covariate():
    rng = np.random.default_rng(3)
    x = rng.normal(size=40)
    left = partial(3 * x + rng.normal(size=40) + 5, x)
    assert abs(np.corrcoef(left, x)[0, 1]) < 1e-9 and left.mean() == pytest.approx(5, abs=0.6)


def confounded(rng: np.random.Generator, effect: float) -> tuple[Crossed, np.ndarray]:
    """A method that fits less, which alone costs it 2 per unit of accuracy, beside its own effect."""
    groups = tuple(np.repeat(["plain", "plain-4", "plain-6", "method"], 4))
    accuracy = np.repeat([0.0, -2.0, -1.0, -1.5], 4) + rng.normal(0, 0.1, 16)
    own = np.repeat([0.0, 0.0, 0.0, effect], 4)
    image = rng.normal(0, 1, 100)
    scores = (2 * accuracy + own + rng.normal(0, 0.1, 16))[:, None] + image + rng.normal(0, 0.3, (16, 100))
    return Crossed(scores, groups), accuracy


def test_at_equal_accuracy_only_the_methods_own_effect_is_left_and_covered():
    rng = np.random.default_rng(4)
    covered = 0
    for _ in range(300):
        data, accuracy = confounded(rng, 0.5)
        found = at_equal_accuracy(data, accuracy, "plain", ["plain-4", "plain-6"], ["method"])
        low, high = found["method"].interval()
        covered += low <= 0.5 <= high
    assert stats.binomtest(covered, 300, 0.95).pvalue > 0.002
    assert data.estimate(data.weights("method", "plain")).interval()[1] < -1


def test_equal_accuracy_needs_plain_trainings_of_two_other_lengths():
    data, accuracy = confounded(np.random.default_rng(5), 0.0)
    assert at_equal_accuracy(data, accuracy, "plain", ["plain-4"], ["method"]) is None
