"""The finished trainings of the study: their cards, layers and rows."""

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

#: Smaller eigenvalues are rounding errors: the stored weights have half precision.
SMALLEST = 1e-7
#: The account's measure of a layer: A and B are the 1% and 99% quantiles of its eigenvalues, batch norm folded in.
FOLDED = "B/A: 1% and 99% quantiles, batch norm folded"
#: Measure of a layer -> its column of `layers.csv`, or the two columns whose ratio it is.
MEASURES = {
    FOLDED: ("folded_q99", "folded_q01"),
    "B/A: the same, kernel alone": ("q99", "q01"),
    "B/A: extremes, batch norm folded": ("folded_upper", "folded_lower"),
    "B/A: extremes, kernel alone": ("upper", "lower"),
    "B: 99% quantile, batch norm folded": ("folded_q99",),
    "A: 1% quantile, batch norm folded": ("folded_q01",),
}
#: Data set of a training -> the entry of its card with clean accuracy, the covariate.
TEST = {"cifar10": "CIFAR-10 test (lossless class folders)", "cifar100": "CIFAR-100 test (lossless class folders)"}


@dataclass(frozen=True)
class Trained:
    """A finished training.

    Attributes:
        training: Its entry in the plan.
        group: Its arm; if its coefficient was not chosen, the arm and the coefficient.
        card: Its card.
    """

    training: plan.Training
    group: str
    card: dict[str, Any]

    @property
    def accuracy(self) -> float:
        """Accuracy on the test images of its data set, in [0, 1], from the card.

        Raises:
            InputError: if the card lacks it.
        """
        for entry in self.card["accuracy"]:
            if entry["data"] == TEST[self.training.dataset]:
                return float(entry["accuracy"])
        raise InputError(f"the card of {self.training.name} has no accuracy on {TEST[self.training.dataset]}; train it "
                         "with these data")

    @cached_property
    def frameness(self) -> dict[str, float]:
        """Key of `MEASURES` -> its log10 after the last epoch, the median over the layers.

        Raises:
            InputError: if `layers.csv` can't be read or lacks a column.
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


def finished() -> list[Trained]:
    """Return the finished trainings, in the order of the manifest."""
    arms = list(plan.manifest()["arms"])
    coefficients: dict[str, float | None] = {}
    for arm in arms:
        try:
            coefficients[arm] = plan.chosen(arm)
        except InputError:  # no coefficient chosen yet: all its trainings are tries
            continue
    trainings = []
    for training in plan.trainings():
        if (card := training.card) is not None:
            chosen = training.arm in coefficients and coefficients[training.arm] == training.gamma
            group = training.arm if chosen else f"{training.arm} {training.gamma:g}"
            trainings.append(Trained(training, group, card))
    return sorted(trainings, key=lambda trained: (arms.index(trained.training.arm), trained.training.seed))


def measured(trainings: Sequence[Trained]) -> dict[str, tuple[list[Trained], Crossed]]:
    """Read the rows.

    Returns:
        Key of an endpoint -> the trainings that have its rows, and their scores; without endpoints that none has.

    Raises:
        InputError: for a damaged file, or one whose images or labels differ from those of the other trainings.
    """
    results = {}
    for source in dict.fromkeys(endpoint.rows for endpoint in ENDPOINTS):
        members = [trained for trained in trainings if (trained.training.folder / f"{source}.parquet").is_file()]
        if not members:
            continue
        scores: dict[str, list[Floats]] = {endpoint.key: [] for endpoint in ENDPOINTS if endpoint.rows == source}
        images: npt.NDArray[np.int64] | None = None
        for trained in members:
            path = trained.training.folder / f"{source}.parquet"
            own_images, own_scores = _scores(path, source)
            images = own_images if images is None else images
            if not np.array_equal(own_images, images):
                raise InputError(f"{path}: its images or their labels are not those of {members[0].training.name}; "
                                 "measure it again")
            for key, values in own_scores.items():
                scores[key].append(values)
        groups = tuple(trained.group for trained in members)
        results.update({key: (members, Crossed(np.stack(values), groups)) for key, values in scores.items()})
    return results


def _scores(path: Path, source: str) -> tuple[npt.NDArray[np.int64], dict[str, Floats]]:
    """Return the images of a file, ascending, with their labels if it has them, and the scores of its endpoints."""
    try:
        rows = pd.read_parquet(path)
        images = rows[[name for name in ("example", "label") if name in rows]].drop_duplicates().to_numpy(np.int64)
        scores = {endpoint.key: endpoint.score(rows) for endpoint in ENDPOINTS if endpoint.rows == source}
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} has no rows of {source} ({type(error).__name__}); measure it again") from None
    n = len(images)
    whole = n > 1 and len(rows) % n == 0 and all(len(values) == n for values in scores.values())
    if not whole or (np.diff(images[:, 0]) <= 0).any():
        raise InputError(f"{path}: images are missing, repeated or out of order; measure it again")
    return images, scores
