"""Regressions over trainings: slopes on frameness and accuracy, and differences at equal clean accuracy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from study.statistics import Crossed, Estimate, Floats


def slopes(y: Floats, predictors: Sequence[Floats], clusters: Sequence[str]) -> list[Estimate] | None:
    """Regress y on predictors and a constant, by ordinary least squares.

    Trainings of an arm share their recipe and are not independent. Standard errors come from leaving out one arm at a
    time (the cluster jackknife CV3, MacKinnon, Nielsen & Webb 2023, doi 10.1016/j.jeconom.2022.04.001; with one
    training per arm it is HC3 up to a factor). The degrees of freedom are the number of arms minus 1.

    Args:
        y: [trainings].
        predictors: Each [trainings].
        clusters: The arm of each training.

    Returns:
        One estimate per predictor, adjusted for the others; None if there are too few arms to leave one out.
    """
    design = np.column_stack([np.ones(len(y)), *predictors])
    labels = np.array(clusters)
    arms = list(dict.fromkeys(clusters))
    kept = [design[labels != arm] for arm in arms]
    if len(arms) < design.shape[1] + 2 or any(np.linalg.matrix_rank(rows) < design.shape[1] for rows in kept):
        return None
    fit = _fit(design, y)
    left_out = np.stack([_fit(rows, y[labels != arm]) for rows, arm in zip(kept, arms, strict=True)])
    errors = np.sqrt((len(arms) - 1) / len(arms) * ((left_out - fit) ** 2).sum(0))
    return [Estimate(float(value), float(error), len(arms) - 1.0)
            for value, error in zip(fit[1:], errors[1:], strict=True)]


def partial(y: Floats, covariate: Floats) -> Floats:
    """Return the residuals of y regressed on the covariate, plus the mean of y; all [trainings]."""
    design = np.column_stack([np.ones(len(y)), covariate])
    residuals: Floats = y - design @ _fit(design, y) + y.mean()
    return residuals


def at_equal_accuracy(data: Crossed, accuracy: Floats, control: str, spanning: Sequence[str],
                      groups: Sequence[str]) -> dict[str, Estimate] | None:
    """Compare groups with a control at equal clean accuracy (analysis of covariance).

    Every group has its own level, and all share one slope on accuracy. The spanning groups share the control's level:
    they are the control trained for longer or shorter, and determine the slope, since accuracies within a group hardly
    differ. An adjusted difference is a weighted sum of trainings, so its variance has the terms of `study.statistics`,
    with the residual variance of this regression instead of the variance within groups.

    Args:
        data: The scores.
        accuracy: [trainings]: clean accuracy in [0, 1].
        control: The group to compare with.
        spanning: The groups that are the control at other accuracies.
        groups: The groups to compare.

    Returns:
        Group -> its adjusted difference; None if there are fewer than two spanning groups, or too few trainings.
    """
    levels = [control if group in spanning else group for group in data.groups]
    others = [group for group in dict.fromkeys(levels) if group != control]
    design = np.column_stack([np.ones(len(levels)), accuracy - accuracy.mean(),
                              *(np.array([level == group for level in levels], float) for group in others)])
    df = len(levels) - design.shape[1]
    if sum(group in data.groups for group in spanning) < 2 or control not in data.groups or df < 2:
        return None
    solve = np.linalg.pinv(design)
    projection = np.eye(len(levels)) - design @ solve
    within = float(data.values @ projection @ data.values) / df
    training = max(0.0, within - float((projection * data.images).sum()) / df)
    estimates = {}
    for group in groups:
        weights = solve[2 + others.index(group)]
        variance = max(0.0, float(weights @ data.images @ weights + training * (weights @ weights)))
        estimates[group] = Estimate(float(weights @ data.values), variance ** 0.5, float(df))
    return estimates


def _fit(design: Floats, y: Floats) -> Floats:
    return np.asarray(np.linalg.lstsq(design, y, rcond=None)[0], dtype=np.float64)
