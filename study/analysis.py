"""The numbers of the account."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from study import plan, regression
from study.endpoints import ENDPOINTS, PRIMARY, Endpoint
from study.rows import FOLDED, Trained, finished, measured
from study.statistics import Against, Crossed, Estimate, Floats, Precision, dunnett

#: Data set -> its control arm.
CONTROLS = {"cifar10": "plain", "cifar100": "cifar100-plain"}
CONTROL = CONTROLS["cifar10"]
#: Least number of images on either side of a rate, in the mean over the trainings, for a comparison.
EVENTS = 10
#: Smaller standard errors are rounding errors: arms without variance are not compared.
ROUNDING = 1e-9


@dataclass(frozen=True)
class Result:
    """The scores of the trainings in one endpoint.

    Attributes:
        endpoint: The endpoint.
        trainings: The trainings that have its rows.
        data: Their scores, in the same order.
        methods: Arms that are compared with plain training. They have two trainings or more, and are not plain training
            of another length. () if plain training was not repeated, or the endpoint is `scarce`.
        spanning: Arms of plain training for other numbers of epochs.
    """

    endpoint: Endpoint
    trainings: Sequence[Trained]
    data: Crossed
    methods: tuple[str, ...]
    spanning: tuple[str, ...]

    @property
    def control(self) -> str:
        """The control arm."""
        return CONTROLS[self.endpoint.dataset]

    @property
    def scarce(self) -> bool:
        """Whether too few images lie on one side of a rate for intervals."""
        images = self.data.scores.shape[1]
        events = float(self.data.values.mean()) * images
        return self.endpoint.counts and min(events, images - events) < EVENTS

    @cached_property
    def accuracy(self) -> Floats:
        """[trainings]: clean accuracy in [0, 1], from the cards."""
        return np.array([trained.accuracy for trained in self.trainings])

    def mean(self, group: str) -> float | None:
        """Return the mean over a group's trainings; None if it has none."""
        index = self.data.index(group)
        return float(self.data.values[index].mean()) if len(index) else None

    @cached_property
    def differences(self) -> dict[str, Estimate]:
        """Method -> its difference to plain training."""
        return {group: self.data.estimate(self.data.weights(group, self.control)) for group in self.methods}

    @cached_property
    def simultaneous(self) -> dict[str, Against]:
        """Method -> its difference to plain training, with simultaneous intervals."""
        return dunnett(self.data, self.control, self.methods)

    @cached_property
    def adjusted(self) -> dict[str, Estimate]:
        """Method -> its difference to plain training at equal clean accuracy; empty if it can't be estimated."""
        if self.endpoint.covariate:
            return {}
        return regression.at_equal_accuracy(self.data, self.accuracy, self.control, self.spanning, self.methods) or {}

    @cached_property
    def precision(self) -> Precision | None:
        """Power of the comparisons; None if there are none."""
        return Precision(self.data, self.control, self.methods) if self.methods else None

    @property
    def repeats(self) -> int:
        """The smallest number of trainings among the compared arms."""
        return min(len(self.data.index(group)) for group in (self.control, *self.methods))

    def interval(self, arm: str) -> tuple[float, float]:
        """Return the 95% interval of a difference: simultaneous in the primary endpoint, else for this method alone."""
        if self.endpoint is PRIMARY:
            return self.simultaneous[arm].low, self.simultaneous[arm].high
        return self.differences[arm].interval()

    def frameness(self, measure: str = FOLDED) -> Floats:
        """Return [trainings]: `Trained.frameness`."""
        return np.array([trained.frameness[measure] for trained in self.trainings])

    def slopes(self, *predictors: Floats) -> list[Estimate]:
        """Return the slopes on predictors [trainings], each adjusted for the others; [] with too few arms or events."""
        arms = [trained.training.arm for trained in self.trainings]
        return [] if self.scarce else regression.slopes(self.data.values, predictors, arms) or []


@dataclass(frozen=True)
class Study:
    """The study.

    Attributes:
        titles: Arm -> its title, in the order of the manifest.
        trainings: The finished trainings.
        failed: Names of the trainings that ended with an error.
        results: Key of an endpoint -> its results.
        spanning: Arms of plain training for other numbers of epochs.
    """

    titles: dict[str, str]
    trainings: list[Trained]
    failed: list[str]
    results: dict[str, Result]
    spanning: tuple[str, ...]

    def arms(self, dataset: str) -> list[str]:
        """Return the arms of a data set with finished trainings, in the order of the manifest."""
        arms = {trained.training.arm for trained in self.trainings if trained.training.dataset == dataset}
        return [arm for arm in self.titles if arm in arms]

    def count(self, group: str) -> int:
        """Return how many trainings a group has."""
        return sum(trained.group == group for trained in self.trainings)


def analyse() -> Study:
    """Read and analyse the finished trainings."""
    arms = plan.manifest()["arms"]
    spanning = tuple(arm for arm, entry in arms.items() if arm != CONTROL and set(entry) == {"title", "epochs"})
    trainings = finished()
    read = measured(trainings)
    results = {}
    for endpoint in ENDPOINTS:
        if endpoint.key in read:
            result = Result(endpoint, *read[endpoint.key], (), spanning)
            data = result.data
            if result.control in data.repeated() and not result.scarce:
                result = replace(result, methods=tuple(
                    arm for arm in arms if arm in data.repeated() and arm not in (result.control, *spanning) and
                    data.estimate(data.weights(arm, result.control)).error > ROUNDING))
            results[endpoint.key] = result
    failed = [training.name for training in plan.trainings() if training.failed]
    return Study({arm: entry["title"] for arm, entry in arms.items()}, trainings, failed, results, spanning)
