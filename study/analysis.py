"""Everything that the account says, as numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from study import plan, regression
from study.endpoints import ENDPOINTS, PRIMARY, Endpoint
from study.rows import FOLDED, Made, made, measured
from study.statistics import Against, Crossed, Estimate, Floats, Precision, dunnett

#: Data set -> the arm that the others are compared with.
CONTROLS = {"cifar10": "plain", "cifar100": "cifar100-plain"}
CONTROL = CONTROLS["cifar10"]
#: Images that a rate must have on either side, in the mean over the trainings, to be compared at all.
EVENTS = 10
#: A smaller standard error is none: arms without any variance are not compared.
ROUNDING = 1e-9

@dataclass(frozen=True)
class Result:
    """What the trainings score in one endpoint.

    Attributes:
        endpoint: Which.
        trainings: Those that have its rows.
        data: Their scores, in the order of the trainings.
        methods: Arms that can be compared with plain training: no plain training of another length, and two trainings
            or more; none where plain training was not repeated, or the endpoint is `scarce`.
        spanning: Arms that are plain training for another number of epochs.
    """

    endpoint: Endpoint
    trainings: Sequence[Made]
    data: Crossed
    methods: tuple[str, ...]
    spanning: tuple[str, ...]

    @property
    def control(self) -> str:
        """The arm that the others are compared with."""
        return CONTROLS[self.endpoint.dataset]

    @property
    def scarce(self) -> bool:
        """Whether too few images are on one side of a rate for intervals."""
        images = self.data.scores.shape[1]
        events = float(self.data.values.mean()) * images
        return self.endpoint.counts and min(events, images - events) < EVENTS

    @cached_property
    def accuracy(self) -> Floats:
        """[trainings]: clean accuracy by the cards."""
        return np.array([one.accuracy for one in self.trainings])

    def mean(self, group: str) -> float | None:
        """Return the mean over a group's trainings; None where it has none."""
        index = self.data.index(group)
        return float(self.data.values[index].mean()) if len(index) else None

    @cached_property
    def differences(self) -> dict[str, Estimate]:
        """Method -> its difference to plain training."""
        return {group: self.data.estimate(self.data.weights(group, self.control)) for group in self.methods}

    @cached_property
    def simultaneous(self) -> dict[str, Against]:
        """Method -> its difference to plain training, all at once."""
        return dunnett(self.data, self.control, self.methods)

    @cached_property
    def adjusted(self) -> dict[str, Estimate]:
        """Method -> its difference to plain training at equal clean accuracy; empty where it can't be had."""
        if self.endpoint.covariate:
            return {}
        found = regression.at_equal_accuracy(self.data, self.accuracy, self.control, self.spanning, self.methods)
        return found or {}

    @cached_property
    def precision(self) -> Precision | None:
        """What the trainings can tell; None where nothing can be compared."""
        return Precision(self.data, self.control, self.methods) if self.methods else None

    @property
    def repeats(self) -> int:
        """The fewest trainings of what is compared."""
        return min(len(self.data.index(group)) for group in (self.control, *self.methods))

    def interval(self, arm: str) -> tuple[float, float]:
        """Return the 95% interval of a difference: for all methods at once in the primary endpoint, else by itself."""
        if self.endpoint is PRIMARY:
            return self.simultaneous[arm].low, self.simultaneous[arm].high
        return self.differences[arm].interval()

    def frameness(self, measure: str = FOLDED) -> Floats:
        """Return [trainings]: `Made.frameness`."""
        return np.array([one.frameness[measure] for one in self.trainings])

    def slopes(self, *predictors: Floats) -> list[Estimate]:
        """Return the slopes on predictors, each with the others held; none where there are too few arms or events."""
        if self.scarce:
            return []
        return regression.slopes(self.data.values, predictors, [one.training.arm for one in self.trainings]) or []


@dataclass(frozen=True)
class Study:
    """The study.

    Attributes:
        titles: Arm -> its title, in the order of the manifest.
        trainings: All that have been made.
        failed: Names of those that could not be finished.
        results: Endpoint -> what there is of it.
        spanning: Arms that are plain training for another number of epochs.
    """

    titles: dict[str, str]
    trainings: list[Made]
    failed: list[str]
    results: dict[str, Result]
    spanning: tuple[str, ...]

    def arms(self, dataset: str) -> list[str]:
        """Return the arms of a data set that have a training, in the order of the manifest."""
        there = {one.training.arm for one in self.trainings if one.training.dataset == dataset}
        return [arm for arm in self.titles if arm in there]

    def count(self, group: str) -> int:
        """Return how many trainings a group has."""
        return sum(one.group == group for one in self.trainings)


def analyse() -> Study:
    """Read and analyse what there is."""
    arms = plan.manifest()["arms"]
    spanning = tuple(arm for arm, entry in arms.items() if arm != CONTROL and set(entry) == {"title", "epochs"})
    trainings = made()
    read = measured(trainings)
    results = {}
    for endpoint in ENDPOINTS:
        if endpoint.key in read:
            there, data = read[endpoint.key]
            result = Result(endpoint, there, data, (), spanning)
            if result.control in data.repeated() and not result.scarce:
                result = replace(result, methods=tuple(
                    arm for arm in arms if arm in data.repeated() and arm not in (result.control, *spanning) and
                    data.estimate(data.weights(arm, result.control)).error > ROUNDING))
            results[endpoint.key] = result
    failed = [training.name for training in plan.trainings() if training.failed]
    return Study({arm: entry["title"] for arm, entry in arms.items()}, trainings, failed, results, spanning)
