"""What the study claims, as effects on our endpoints."""

from __future__ import annotations

import sys
from functools import cache
from typing import Any

import numpy as np
from scipy.integrate import trapezoid
from scipy.stats import fisher_exact

from study.plan import STUDY

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

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
    return tomllib.loads((STUDY / "claims.toml").read_text(encoding="utf-8"))


def effects(method: str) -> dict[str, float]:
    """Return endpoint -> the claimed difference of a method to no regularization, in points.

    The study has no area. Its table is read in the same way: robust accuracy, from its clean accuracy and its success
    rates, against the logarithm of iterations, by trapezoids.
    """
    found = claims()
    accuracy, success = found["accuracy"], found["success"]
    result = {"area": _area(method) - _area(CONTROL)}
    for budget, ours, theirs in zip(success["iterations"], success["rows"][method], success["rows"][CONTROL],
                                    strict=True):
        result[f"asr-{budget}"] = ours - theirs
    for endpoint, column in COLUMNS.items():
        place = accuracy["columns"].index(column)
        result[endpoint] = accuracy["rows"][method][place][0] - accuracy["rows"][CONTROL][place][0]
    return result


def _area(method: str) -> float:
    found = claims()
    clean = found["accuracy"]["rows"][method][0][0]
    log = np.log(found["success"]["iterations"])
    robust = clean * (1 - np.array(found["success"]["rows"][method]) / 100)
    return float(trapezoid(robust, log) / log[-1])


def chance_of_reading() -> float:
    """Return p of Fisher's exact test of the study's last success rates, as counts of images."""
    table = np.array([[one["broken"], one["of"] - one["broken"]] for one in claims()["reading"].values()], dtype=int)
    return float(fisher_exact(table)[1])
