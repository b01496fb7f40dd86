"""The interface of attacks: an attack takes a stream of images, queries a model, and yields images as they finish.

An attack declares in its `Traits` what the benchmark must know: the access to the model that it needs, the distance
within which a success counts, how its budget is counted, and its label.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from framebench.errors import InputError

#: Maps images [m, C, H, W] in [0, 1] to logits [m, classes].
Predict = Callable[[torch.Tensor], torch.Tensor]
#: Maps ids, int64 [r], to images float [r, C, H, W] in [0, 1] and labels int64 [r].
Load = Callable[[np.ndarray], tuple[torch.Tensor, torch.Tensor]]

#: Access that an attack needs to a model: predicted classes, scores (logits or probabilities), or gradients as well.
Needs = Literal["labels", "scores", "gradients"]
#: Queries of an iteration: one; two; or one where the first sign of a step is kept, else two.
Cost = Literal["one", "two", "one-or-two"]


@dataclass(frozen=True)
class Part:
    """One attack of an ensemble, whose attacks run in turn on the images that are not broken yet.

    Attributes:
        name: Its name in tables.
        end: Its last iteration, counted over the whole ensemble.
        gradients: Gradients per iteration: 1, or 0.5 if every second iteration takes one.
    """

    name: str
    end: int
    gradients: float

    @property
    def extra(self) -> int:
        """Queries that are no iterations: targeted FAB forwards the clean image again."""
        return int(self.name == "fab-t")


@dataclass(frozen=True)
class Traits:
    """What an attack declares about itself.

    Attributes:
        label: Its name in tables, such as ``simba-dct``, which contains every option that is not the default.
        needs: Access to the model that it needs.
        budget: The largest number of iterations.
        epsilon: Its step or its bound, as the user gives it, in [0, 1] pixel units; None if it has none.
        norm: Norm of `bound` or, without a bound, of the distance that the attack minimises: "l0", "l1", "l2" or
            "linf"; None if any distance counts.
        bound: The distance within which a success counts; None if any distance counts.
        targeted: Whether a success is a prediction of a target class, instead of any but the label.
        prefix: Whether iterations 1 to k are the same for every budget of at least k, so that rows of a longer run are
            valid for a shorter one.
        cost: Queries per iteration.
        parts: The attacks of an ensemble; () for a single attack.
    """

    label: str
    needs: Needs
    budget: int
    epsilon: float | None = None
    norm: str | None = None
    bound: float | None = None
    targeted: bool = False
    prefix: bool = True
    cost: Cost = "one"
    parts: tuple[Part, ...] = ()

    @property
    def minimises(self) -> bool:
        """Whether the attack continues after a success, to find a nearer one: then it has a norm, but no bound."""
        return self.norm is not None and self.bound is None


@dataclass
class MarginPath:
    """The smallest margin so far (the largest, if targeted) of images within the bound, at each query that changed it.

    Attributes:
        queries: Numbers of these queries, ascending; 1 is that of the clean image.
        margins: z_goal - logsumexp of the other logits, at each of them.
    """

    queries: list[int] = field(default_factory=list)
    margins: list[float] = field(default_factory=list)

    def add(self, query: int, margin: float) -> None:
        """Add a query at which it changed."""
        self.queries.append(query)
        self.margins.append(margin)


@dataclass(frozen=True)
class Finished:
    """Images that have finished, in this order; NumPy arrays of length r.

    Attributes:
        ids: Example ids.
        labels: Labels.
        goals: The class attacked: the label, or the target.
        clean_prediction: Prediction of the clean image.
        clean_confidence: Its softmax probability.
        prediction: Prediction of the final image.
        success_iteration: Iterations after which the attack succeeded; 0 from the start, -1 never.
        queries: Forward passes spent.
        l2: L2 distance to the clean image, in [0, 1] pixel units.
        linf: Linf distance.
        margin: Final z_goal - logsumexp of the other logits.
        confidence: Final softmax probability of the prediction.
        steps: One int8 array per image: +1, -1 or 0 (no sign helped) of every iteration; empty for attacks but SimBA.
        x_adv: Final images, [r, C, H, W].
        paths: One per image: the path of its margin if it is watched (`Attack.watching`), else None.
    """

    ids: np.ndarray
    labels: np.ndarray
    goals: np.ndarray
    clean_prediction: np.ndarray
    clean_confidence: np.ndarray
    prediction: np.ndarray
    success_iteration: np.ndarray
    queries: np.ndarray
    l2: np.ndarray
    linf: np.ndarray
    margin: np.ndarray
    confidence: np.ndarray
    steps: list[np.ndarray]
    x_adv: torch.Tensor
    paths: list[MarginPath | None]

    def each(self) -> Iterator[Finished]:
        """Return the images one by one."""
        for i in range(len(self.ids)):
            yield Finished(*(getattr(self, field.name)[i : i + 1] for field in fields(self)))


class Attack(ABC):
    """One attack with its options, to be run on any model.

    Attributes:
        traits: What it declares about itself.
        settings: All that the outcome of an image depends on besides the attack's name, the model, the image and the
            seed, as JSON values. They include the budget only if `traits.prefix` is false.
        watched: Ids of the examples whose margin's path is kept (`watching`).
    """

    traits: Traits
    settings: dict[str, Any]
    watched: frozenset[int] = frozenset()

    def watching(self, ids: Iterable[int]) -> Attack:
        """Return a copy that keeps the paths of the margins of some examples; AutoAttack keeps none."""
        attack = copy.copy(self)
        attack.watched = frozenset(map(int, ids))
        return attack

    def on(self, module: nn.Module) -> Attack:
        """Return the attack, prepared for one model if it needs more than the model's outputs.

        Raises:
            InputError: if the model lacks what the attack needs.
        """
        return self

    def check(self, shape: tuple[int, int, int]) -> None:  # noqa: B027  # most take any images
        """Check that images of shape (C, H, W) can be attacked for the whole budget.

        Raises:
            InputError: if they can't.
        """

    @abstractmethod
    def stream(self, predict: Predict, load: Load, ids: np.ndarray, *, seed: int,
               batch_size: int) -> Iterator[Finished]:
        """Attack the examples `ids` (int64 [n]) in this order, and yield images as they finish.

        Args:
            predict: The model; differentiable if `traits.needs` is "gradients". It may write into its input.
            load: Loads images and labels.
            ids: Examples to attack.
            seed: Seed of the random draws, which depend on the id of an example too.
            batch_size: Images per forward pass; changes the speed, not the outcome.

        Raises:
            InputError: if logits are not finite or not [n, classes], or if a library's attack fails.
        """


def guarded(predict: Predict) -> Predict:
    """Return a model whose inputs and outputs are copies, so that it can't change tensors of the attack in place.

    A model with an attribute `copies` that is true does so itself, and is returned as it is.
    """
    if getattr(predict, "copies", False):
        return predict

    def ask(x: torch.Tensor) -> torch.Tensor:
        answer: Any = predict(x.clone())
        if not isinstance(answer, torch.Tensor):
            raise InputError(f"the model must return logits as a tensor, not a {type(answer).__name__}")
        return answer.clone()

    return ask


def label(name: str, words: Iterable[str] = (), *, linf: float | None = None, max_queries: int | None = None,
          schedule: int | None = None, options: Mapping[str, Any] | None = None, epsilon: float | None = None,
          usual: float | None = None) -> str:
    """Return the label of an attack in tables, such as ``simba-dct`` or ``square-Linf-schedule1000``.

    Args:
        name: The name of the attack.
        words: Words that follow it.
        linf: Bound of SimBA's perturbation.
        max_queries: Limit of queries.
        schedule: Length of the run, if the steps depend on it.
        options: Further options.
        epsilon: The step or the bound.
        usual: The default of epsilon, which is left out.
    """
    numbers = {"linf": linf, "maxqueries": max_queries, "schedule": schedule}
    parts = [name, *words, *(f"{key}{value:g}" for key, value in numbers.items() if value is not None)]
    parts += [f"{key}={_text(value)}" for key, value in sorted((options or {}).items())]
    if epsilon is not None and epsilon != usual:
        parts.append(f"eps{_shortest(epsilon)}")
    return "-".join(parts)


def _shortest(epsilon: float) -> str:
    """Return an epsilon as a decimal number, or as a fraction of 255 if that is exact and shorter: 0.1, but 2/255."""
    plain, fraction = str(epsilon).removesuffix(".0"), f"{round(epsilon * 255)}/255"
    return fraction if round(epsilon * 255) / 255 == epsilon and len(fraction) < len(plain) else plain


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
