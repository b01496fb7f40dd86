"""The study's claims, as effects on the endpoints."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from scipy.integrate import trapezoid
from scipy.stats import fisher_exact

from study.plan import read_toml

#: The row that the others are compared with.
CONTROL = "no regularization"
#: Row of the study's tables -> the arm that is the same method.
ARMS = {"frame": "frame", "OCNN": "ocnn"}
#: What precedes the name of an arm that is the same method on CIFAR-100.
CIFAR100 = "cifar100-"
#: Endpoint -> column of the study's table of accuracies.
COLUMNS = {"clean": "CIFAR-10", "clean-cifar100": "CIFAR-100", "cifar10-c": "CIFAR-10-C"}


@cache
def claims() -> dict[str, Any]:
    """Return the study's tables."""
    return read_toml("claims.toml")


def effects(method: str) -> dict[str, float]:
    """Return endpoint -> the claimed difference of a method to no regularization, in points.

    The study gives no area. Its area is computed here from its clean accuracy and its success rates: robust accuracy
    against the logarithm of iterations, by trapezoids.
    """
    accuracy, success = claims()["accuracy"], claims()["success"]
    result = {"area": _area(method) - _area(CONTROL)}
    for budget, rate, control in zip(success["iterations"], success["rows"][method], success["rows"][CONTROL],
                                     strict=True):
        result[f"asr-{budget}"] = rate - control
    for endpoint, column in COLUMNS.items():
        place = accuracy["columns"].index(column)
        result[endpoint] = accuracy["rows"][method][place][0] - accuracy["rows"][CONTROL][place][0]
    return result


def _area(method: str) -> float:
    accuracy, success = claims()["accuracy"], claims()["success"]
    log = np.log(success["iterations"])
    robust = accuracy["rows"][method][0][0] * (1 - np.array(success["rows"][method]) / 100)
    return float(trapezoid(robust, log) / log[-1])


def chance_of_reading() -> float:
    """Return p of Fisher's exact test of the study's last success rates, as counts of images."""
    counts = claims()["reading"].values()
    table = np.array([[count["broken"], count["of"] - count["broken"]] for count in counts], dtype=int)
    return float(fisher_exact(table)[1])
