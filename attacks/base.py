"""What an attack is: it takes a stream of images, asks a model, and gives finished images out as they finish.

SimBA, its control, attacks of other libraries and a user's own are all of this kind. What the benchmark must know of an
attack (what it needs to see, the distance within which a success counts, how its budget is counted, what tables call
it) the attack declares itself, in its `Traits`.
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

#: What an attack must see of a model: predicted classes, scores (logits or probabilities), or gradients as well.
Needs = Literal["labels", "scores", "gradients"]
#: Queries of an iteration: one; two; or one where the first sign of a step is kept, else two.
Cost = Literal["one", "two", "one-or-two"]


@dataclass(frozen=True)
class Part:
    """One of several attacks that make up one, run one after the other on the images that are not broken yet.

    Attributes:
        name: What tables call it.
        end: The last iteration that is its own.
        gradients: Gradients that an iteration takes: 1, or 0.5 where every second one does.
    """

    name: str
    end: int
    gradients: float


@dataclass(frozen=True)
class Traits:
    """What an attack declares of itself.

    Attributes:
        label: What tables call it, such as ``simba-dct``; every option that is not the default is part of it.
        needs: What it must see of a model.
        budget: The largest number of iterations.
        epsilon: Its step or its bound, as its user gives it, in [0, 1] pixel units; None where it has none.
        norm: Norm of the distance within which a success counts: "l0", "l1", "l2", "linf", or None where any counts.
        bound: That distance; None where any counts.
        targeted: Whether it goes towards a class, so that a success is a prediction of that class.
        prefix: Whether what it does by iteration k does not depend on how many are to follow, so that rows of a longer
            run answer for a shorter one.
        cost: Queries of an iteration.
        parts: The attacks that make up this one; () where it is one by itself.
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


@dataclass
class MarginPath:
    """The smallest margin so far (of a targeted attack the largest), at each query where it changed.

    An image beyond the bound does not count, whatever its margin.

    Attributes:
        queries: Numbers of these queries, ascending; 1 is the clean image's.
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
    """Images that the attack is done with, in the order in which they finished; numpy arrays of length r.

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
        paths: One per image: its margin's path where the attack watches it (`Attack.watching`), else None.
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
        traits: What it declares of itself.
        settings: All that an image's outcome depends on besides the attack's name, the model, the image and the seed:
            plain values, as JSON has them. The budget is among them only if `traits.prefix` is false.
        watched: Ids of the examples whose margin's path is kept, see `watching`.
    """

    traits: Traits
    settings: dict[str, Any]
    watched: frozenset[int] = frozenset()

    def watching(self, ids: Iterable[int]) -> Attack:
        """Return the same attack, which keeps the margin's paths of some examples.

        It is kept by all attacks but AutoAttack.
        """
        made = copy.copy(self)
        made.watched = frozenset(map(int, ids))
        return made

    def on(self, module: nn.Module) -> Attack:
        """Return the attack made ready for one model; most need nothing of it but its answers.

        Raises:
            InputError: if the model lacks what the attack needs.
        """
        return self

    def check(self, shape: tuple[int, int, int]) -> None:  # noqa: B027  # most take any images
        """Check that images of a shape (C, H, W) can be attacked for the whole budget.

        Raises:
            InputError: if they can't.
        """

    @abstractmethod
    def stream(self, predict: Predict, load: Load, ids: np.ndarray, *, seed: int,
               batch_size: int) -> Iterator[Finished]:
        """Attack the examples `ids` (int64 [n]), giving finished images out as they finish.

        Args:
            predict: The model; differentiable where `traits.needs` is "gradients". It gets copies, so that a model that
                writes into its input changes nothing of the attack's.
            load: The images.
            ids: Examples to attack, in this order.
            seed: Keys the draws, together with each example's id.
            batch_size: Images per forward pass; changes the speed, not the outcome.

        Raises:
            InputError: for logits that are not finite or not [n, classes], and where a library's attack fails.
        """


def guarded(predict: Predict) -> Predict:
    """Return a model that takes and gives copies: one that writes into either changes nothing of the attack's.

    One that says by its attribute `copies` that it does so itself is returned as it is.
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
    """Return what tables call an attack, such as ``simba-dct`` or ``square-Linf-schedule1000``.

    Args:
        name: The attack's name.
        words: Words to follow it.
        linf: Bound of SimBA's perturbation.
        max_queries: Limit of queries.
        schedule: Length of the run, where the steps depend on it.
        options: Options of a library's class or a user's function.
        epsilon: The step or the bound.
        usual: The epsilon that the label leaves out.
    """
    numbers = {"linf": linf, "maxqueries": max_queries, "schedule": schedule}
    parts = [name, *words, *(f"{key}{value:g}" for key, value in numbers.items() if value is not None)]
    parts += [f"{key}={_text(value)}" for key, value in sorted((options or {}).items())]
    if epsilon is not None and epsilon != usual:
        parts.append(f"eps{_shortest(epsilon)}")
    return "-".join(parts)


def _shortest(epsilon: float) -> str:
    """Return an epsilon in full, as a fraction of 255 where that is shorter: 0.1, but 2/255."""
    plain, fraction = str(epsilon).removesuffix(".0"), f"{round(epsilon * 255)}/255"
    return fraction if round(epsilon * 255) / 255 == epsilon and len(fraction) < len(plain) else plain


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
