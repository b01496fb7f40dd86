from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from framebench.errors import InputError
from study import endpoints


@pytest.fixture
def attacked() -> pd.DataFrame:
    """Attacked images: 30 misclassified, 50 never broken, the others broken."""
    rng = np.random.default_rng(0)
    iteration = rng.integers(1, 600, 300)
    iteration[:30], iteration[30:80] = 0, -1
    queries = np.where(iteration == 0, 1, np.where(iteration < 0, 1500, iteration + rng.integers(0, 600, 300)))
    return pd.DataFrame({"success_iteration": iteration, "queries": queries, "l2": rng.uniform(0.1, 3, 300)})


def test_area_of_known_images():
    rows = pd.DataFrame({"success_iteration": [0, -1, 1, 20, 900], "queries": [1, 1400, 1, 10, 1300]})
    np.testing.assert_allclose(endpoints.area(rows), [0, 1, 0, 1 / 3, 1])


def test_area_is_the_integral_of_robust_accuracy(attacked):
    queries = np.exp(np.linspace(0, np.log(endpoints.QUERIES), 5001))[:, None]
    steps, spent = attacked["success_iteration"].to_numpy(), attacked["queries"].to_numpy()
    robust = (steps != 0) & ((steps < 0) | (spent > queries))
    assert endpoints.area(attacked).mean() == pytest.approx(robust.mean(), abs=1e-3)


def test_success_rate_is_over_the_images_classified_correctly(attacked):
    steps = attacked["success_iteration"]
    within = steps.between(1, 100).sum() / (steps != 0).sum()
    assert endpoints.success_rate(attacked, 100).mean() == pytest.approx(within)
    near = (steps.between(1, 100) & (attacked["l2"] <= 1)).sum() / (steps != 0).sum()
    assert endpoints.success_rate(attacked, 100, norm=1.0).mean() == pytest.approx(near)
    assert endpoints.robust(attacked).mean() == 50 / 300


def test_median_norm_counts_misclassified_as_zero_and_unbroken_as_infinite(attacked):
    norms = np.sort(np.r_[np.zeros(30), attacked["l2"][80:], np.full(50, np.inf)])
    assert endpoints.median_norm(attacked).mean() == pytest.approx((norms[149] + norms[150]) / 2)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # infinite less infinite
@pytest.mark.parametrize("unbroken", [9, 11])
def test_a_median_beside_images_that_are_not_broken_is_refused(unbroken):
    rows = pd.DataFrame({"success_iteration": np.r_[np.ones(20 - unbroken), np.full(unbroken, -1)], "l2": 0.1})
    with pytest.raises(InputError, match="more steps"):
        endpoints.median_norm(rows)


@pytest.mark.parametrize("score", [lambda rows: endpoints.success_rate(rows, 100), endpoints.median_norm],
                         ids=["rate", "median"])
def test_scores_vary_as_the_number_does_when_images_are_drawn_again(attacked, score):
    rng = np.random.default_rng(1)
    drawn = [score(attacked.sample(frac=1, replace=True, random_state=rng)).mean() for _ in range(400)]
    assert score(attacked).std() / 300 ** 0.5 == pytest.approx(np.std(drawn), rel=0.2)


def test_calibration_error_is_the_weighted_gap_of_the_bins():
    rng = np.random.default_rng(2)
    rows = pd.DataFrame({"label": 0, "confidence": rng.uniform(0, 1, 500).astype(np.float32)})
    rows["prediction"] = (rng.random(500) < 0.4).astype(int)
    expected = 0.0
    for low in range(endpoints.BINS):
        inside = rows[(rows["confidence"] * endpoints.BINS).astype(int) == low]
        expected += len(inside) / 500 * abs((inside["prediction"] == 0).mean() - inside["confidence"].mean())
    assert endpoints.calibration_error(rows).mean() == pytest.approx(expected, abs=1e-6)
    assert endpoints.accuracy(rows).mean() == (rows["prediction"] == 0).mean()


def test_a_confidence_of_one_is_in_the_last_bin():
    rows = pd.DataFrame({"label": [0, 0], "prediction": [0, 1], "confidence": [1.0, 1.0]})
    assert endpoints.calibration_error(rows).mean() == 0.5


def test_corrupted_images_are_averaged_over_their_cells():
    rows = pd.DataFrame({"example": [3, 3, 5, 5], "correct": [True, False, True, True]})
    np.testing.assert_allclose(endpoints.mean_over_cells(rows), [0.5, 1])
