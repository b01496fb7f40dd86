from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from study import statistics
from study.statistics import Crossed, CrossedBootstrap, Estimate, Precision, dunnett


def draw(rng, trainings=3, images=80, arms=4, method=0.3, training=0.1, residual=0.5, effect=0.0) -> Crossed:
    """Crossed scores with known standard deviations; every arm but the first, the control, gains `effect`."""
    image = rng.normal(0, 1, images)
    scores, groups = [], []
    for arm in range(arms):
        own = image + rng.normal(0, method, images) + effect * (arm > 0)
        for _ in range(trainings):
            scores.append(own + rng.normal(0, training) + rng.normal(0, residual, images))
            groups.append(f"arm{arm}")
    return Crossed(np.stack(scores), tuple(groups))


def difference(data: Crossed) -> Estimate:
    return data.estimate(data.weights("arm1", "arm0"))


@pytest.mark.parametrize("spread", [
    {},
    {"training": 0.0},
    {"method": 0.0, "residual": 0.1},
    {"trainings": 2, "arms": 8},
], ids=["all-terms", "no-training", "trainings-alone", "two-trainings"])
def test_intervals_cover_what_they_say(spread):
    rng = np.random.default_rng(1)
    repeats = 600
    covered = 0
    for _ in range(repeats):
        low, high = difference(draw(rng, effect=0.2, **spread)).interval()
        covered += low <= 0.2 <= high
    assert stats.binomtest(covered, repeats, 0.95).pvalue > 0.002


def test_leaving_out_a_term_would_not_cover():
    """The test above can fail: Welch's interval over trainings' means leaves out the images."""
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(300):
        data = draw(rng, effect=0.2, method=1.0)
        a, b = (data.values[data.index(arm)] for arm in ("arm1", "arm0"))
        low, high = stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
        covered += low <= 0.2 <= high
    assert covered < 0.9 * 300


def test_components_are_those_of_the_draw():
    rng = np.random.default_rng(2)
    found = np.mean([[data.within - data.residual, 80 * data.residual]
                     for data in (draw(rng) for _ in range(300))], axis=0)
    np.testing.assert_allclose(found, [0.1 ** 2, 0.5 ** 2], rtol=0.1)


def test_without_variance_of_images_it_is_dunnetts_test():
    rng = np.random.default_rng(3)
    values = [rng.normal(mean, 1, 5) for mean in (0, 0.5, 2.5, -1)]
    data = Crossed(np.repeat(np.concatenate(values)[:, None], 20, axis=1), tuple(np.repeat(["c", "x", "y", "z"], 5)))
    found = dunnett(data, "c", ["x", "y", "z"])
    reference = stats.dunnett(*values[1:], control=values[0])
    interval = reference.confidence_interval(0.95)
    np.testing.assert_allclose([one.p for one in found.values()], reference.pvalue, atol=0.005)
    np.testing.assert_allclose([one.low for one in found.values()], interval.low, atol=0.02)
    np.testing.assert_allclose([one.high for one in found.values()], interval.high, atol=0.02)


def test_without_variance_of_trainings_it_is_the_paired_t_test_over_images():
    rng = np.random.default_rng(4)
    a, b = rng.normal(0, 1, 50), rng.normal(0.2, 1, 50)
    data = Crossed(np.stack([a, a, b, b]), ("arm1", "arm1", "arm0", "arm0"))
    np.testing.assert_allclose(difference(data).interval(), stats.ttest_rel(a, b).confidence_interval(0.95))


def test_dunnett_holds_for_all_at_once(monkeypatch):
    monkeypatch.setattr(statistics, "DUNNETT_DRAWS", 10_000)
    rng = np.random.default_rng(5)
    wrong = 0
    for _ in range(150):
        found = dunnett(draw(rng, images=40, arms=5, trainings=2), "arm0", ["arm1", "arm2", "arm3", "arm4"])
        wrong += any(one.low > 0 or one.high < 0 for one in found.values())
    assert stats.binomtest(wrong, 150, 0.05).pvalue > 0.002


def test_a_p_value_is_a_bound_where_no_draw_is_as_large():
    rng = np.random.default_rng(6)
    found = dunnett(draw(rng, effect=50.0), "arm0", ["arm1"])["arm1"]
    assert found.bound and 0 < found.p < 1e-4
    assert not dunnett(draw(rng), "arm0", ["arm1"])["arm1"].bound
    assert dunnett(draw(rng), "arm0", []) == {}


def test_equivalence_agrees_with_the_90_percent_interval():
    for margin in np.linspace(0.1, 3, 30):
        one = Estimate(0.7, 0.4, 12)
        low, high = one.interval(0.9)
        assert (one.equivalence(margin) < 0.05) == (-margin < low and high < margin)


def test_the_bootstrap_agrees_where_nothing_is_left_over():
    data = draw(np.random.default_rng(7), trainings=30, images=400, residual=0.0, method=1.0, training=0.2, arms=2)
    weights = data.weights("arm1", "arm0")
    np.testing.assert_allclose(CrossedBootstrap(data).interval(weights), data.estimate(weights).interval(), atol=0.03)


def test_the_bootstrap_scales_few_trainings_up():
    """Two trainings that differ by 2: their mean has variance 1, which plain draws would halve."""
    data = Crossed(np.repeat([[-1.0], [1.0]], 10, axis=1), ("a", "a"))
    boot = CrossedBootstrap(data, draws=4000)
    assert np.var(data.weights("a") @ (boot.shares * boot.means)) == pytest.approx(1, rel=0.05)


def test_precision_has_the_error_of_the_trainings_in_hand_and_falls_with_more():
    data = draw(np.random.default_rng(8), trainings=4, method=1.0)
    precision = Precision(data, "arm0", ("arm1",))
    assert precision.error(4) == pytest.approx(difference(data).error)
    assert precision.error(8) < precision.error(4) and precision.error(4, images=4) < precision.error(4)
    needed = precision.needed(precision.detectable(7))
    assert needed == 7
    assert precision.needed(0.01 * precision.interaction ** 0.5) is None


def test_the_power_is_what_is_said():
    rng = np.random.default_rng(9)
    truth = Precision(draw(rng, trainings=40, images=4000), "arm0", ("arm1", "arm2", "arm3"))
    effect = truth.detectable(3, images=80 / 4000)
    found = [difference(draw(rng, effect=effect)).interval()[0] > 0 for _ in range(300)]
    assert 0.72 < np.mean(found) < 0.88
