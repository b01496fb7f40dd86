"""What there is of the study: its trainings, their cards, their layers, and their rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from framebench.errors import InputError
from study import plan
from study.endpoints import ENDPOINTS
from study.statistics import Crossed, Floats

#: A smaller eigenvalue is rounding: the kept weights have half precision.
SMALLEST = 1e-7
#: Eigenvalues that the account takes for A and B of a layer: with batch norm folded in, the 1% and 99% quantiles.
FOLDED = "B/A: 1% and 99% quantiles, batch norm folded"
#: What a layer is measured by -> columns of `layers.csv`, one over the other where there are two.
MEASURES = {
    FOLDED: ("folded_q99", "folded_q01"),
    "B/A: the same, kernel alone": ("q99", "q01"),
    "B/A: extremes, batch norm folded": ("folded_upper", "folded_lower"),
    "B/A: extremes, kernel alone": ("upper", "lower"),
    "B: 99% quantile, batch norm folded": ("folded_q99",),
    "A: 1% quantile, batch norm folded": ("folded_q01",),
}
#: Data set of a training -> its clean accuracy on a card, which serves as a covariate.
TEST = {"cifar10": "CIFAR-10 test (lossless class folders)", "cifar100": "CIFAR-100 test (lossless class folders)"}


@dataclass(frozen=True)
class Made:
    """A training that has been made.

    Attributes:
        training: What was asked for.
        group: Its arm; for a coefficient that was tried and not chosen, the arm with the coefficient.
        card: Its card.
    """

    training: plan.Training
    group: str
    card: dict[str, Any]

    @property
    def accuracy(self) -> float:
        """Accuracy on the test images of its data set, by the card.

        Raises:
            InputError: if the card does not have it.
        """
        for entry in self.card["accuracy"]:
            if entry["data"] == TEST[self.training.dataset]:
                return float(entry["accuracy"])
        raise InputError(f"the card of {self.training.name} has no accuracy on {TEST[self.training.dataset]}; train it "
                         "with these data")

    @cached_property
    def frameness(self) -> dict[str, float]:
        """`MEASURES` -> log10 of it after the last epoch, the median over the layers.

        Raises:
            InputError: if the file of the layers is no such table.
        """
        path = self.training.folder / "layers.csv"
        try:
            table = pd.read_csv(path)
            logs = {name: np.log10(table[name].to_numpy(float).clip(SMALLEST))
                    for name in set(sum(MEASURES.values(), ()))}
        except (OSError, KeyError, ValueError) as error:
            raise InputError(f"{path} is not a table of layers ({type(error).__name__})") from None
        return {measure: float(np.median(logs[names[0]] - (logs[names[1]] if len(names) > 1 else 0)))
                for measure, names in MEASURES.items()}


def made() -> list[Made]:
    """Return the trainings that there are, in the order of the manifest."""
    arms = plan.manifest()["arms"]
    order = {arm: number for number, arm in enumerate(arms)}
    going_on: dict[str, float | None] = {}
    for arm in arms:
        try:
            going_on[arm] = plan.chosen(arm)
        except InputError:  # its coefficient is not chosen yet: its trainings are tries
            continue
    found = []
    for training in plan.trainings():
        if (card := training.card) is not None:
            known = training.arm in going_on and going_on[training.arm] == training.gamma
            group = training.arm if known else f"{training.arm} {training.gamma:g}"
            found.append(Made(training, group, card))
    return sorted(found, key=lambda one: (order[one.training.arm], one.training.seed))


def measured(trainings: Sequence[Made]) -> dict[str, tuple[list[Made], Crossed]]:
    """Read the rows.

    Returns:
        Key of an endpoint -> the trainings that have rows of it, and their scores; without those that no training has.

    Raises:
        InputError: for a file that is damaged, or whose images or labels are not those of the other trainings.
    """
    found = {}
    for source in dict.fromkeys(endpoint.rows for endpoint in ENDPOINTS):
        there = [one for one in trainings if (one.training.folder / f"{source}.parquet").is_file()]
        if not there:
            continue
        scores: dict[str, list[Floats]] = {endpoint.key: [] for endpoint in ENDPOINTS if endpoint.rows == source}
        images: npt.NDArray[np.int64] | None = None
        for one in there:
            path = one.training.folder / f"{source}.parquet"
            found_images, found_scores = _scores(path, source)
            images = found_images if images is None else images
            if not np.array_equal(found_images, images):
                raise InputError(f"{path}: its images or their labels are not those of {there[0].training.name}; "
                                 "measure it again")
            for key, values in found_scores.items():
                scores[key].append(values)
        groups = tuple(one.group for one in there)
        found.update({key: (there, Crossed(np.stack(rows_of), groups)) for key, rows_of in scores.items()})
    return found


def _scores(path: Path, source: str) -> tuple[npt.NDArray[np.int64], dict[str, Floats]]:
    """Return the images of a file, ascending, with their labels where it has them, and the scores made from it."""
    try:
        rows = pd.read_parquet(path)
        images = rows[[name for name in ("example", "label") if name in rows]].drop_duplicates().to_numpy(np.int64)
        scores = {endpoint.key: endpoint.score(rows) for endpoint in ENDPOINTS if endpoint.rows == source}
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} has no rows of {source} ({type(error).__name__}); measure it again") from None
    n = len(images)
    whole = n > 1 and len(rows) % n == 0 and all(len(one) == n for one in scores.values())
    if not whole or (np.diff(images[:, 0]) <= 0).any():
        raise InputError(f"{path}: images are missing, repeated or out of order; measure it again")
    return images, scores
