"""A model that an attack asks about one image: every forward pass is charged, none goes beyond the budget.

Attacks of other libraries own their loop, count nothing and stop when they like. Run on one image against a
`CountedModel`, each of their forward passes is seen: it is charged to the image, it is checked for success, and the
attack is ended from inside by `AttackOver` at the first success or when the budget is spent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from framebench.attacks.base import Finished, MarginPath
from framebench.attacks.verdict import check_classes, judge, read_logits

#: Norm of a bound -> its order.
NORMS = {"l0": 0, "l1": 1, "l2": 2, "linf": float("inf")}

#: Room for float32 rounding in x + perturbation, relative and, of distances near zero, absolute.
_ROUNDING = 1e-6


class AttackOver(BaseException):
    """Ends an attack from inside its forward pass; no `Exception`, so that no library catches it."""


@dataclass(frozen=True)
class Bound:
    """The distance from the clean image within which an image counts.

    Attributes:
        norm: "l0", "l1", "l2" or "linf", or None for no bound.
        epsilon: The largest distance, in [0, 1] pixel units (l0: number of values); None for no bound.
    """

    norm: str | None = None
    epsilon: float | None = None

    def distances(self, difference: torch.Tensor) -> np.ndarray:
        """Return the norms of differences [m, C, H, W], float64 [m]; 0 without a norm."""
        if self.norm is None:
            return np.zeros(len(difference))
        norms: np.ndarray = torch.linalg.vector_norm(difference.double().flatten(1), NORMS[self.norm], dim=1).numpy()
        return norms

    def holds(self, difference: torch.Tensor) -> np.ndarray:
        """Tell which differences [m, C, H, W] are within it (up to rounding), bool [m]."""
        if self.epsilon is None:
            return np.ones(len(difference), dtype=bool)
        return self.allows(self.distances(difference))

    def allows(self, distances: np.ndarray) -> np.ndarray:
        """Tell which distances [m] are within it (up to rounding), bool [m]."""
        return np.asarray(distances <= (np.inf if self.epsilon is None else self.epsilon) * (1 + _ROUNDING) + _ROUNDING)


class CountedModel:
    """Answers an attack's questions about one image.

    The clean image is asked about once, when this is made; a later question about it is answered from memory, since
    nothing is forwarded. Everything else is forwarded and charged, also if it is asked twice. Of a group of
    candidates that does not fit into the budget only the first ones are forwarded.

    Args:
        ask: Maps images [m, C, H, W] in [0, 1], of this model, to logits [m, classes]; both are copies. `look` must
            have been called before it answers.
        clean: The image, [1, C, H, W], on the CPU.
        label: Its class.
        example: Its id, for messages.
        limit: Forward passes, the clean image's among them, at least 1.
        bound: Within which a success counts.
        watched: Whether its margin's path is kept.
        minimise: Whether a success does not end the attack, and the nearest one, in the bound's norm, is the outcome.

    Attributes:
        queries: Forward passes so far.
        classes: How many classes the model tells apart.
        over: Whether the attack has nothing more to do: it has succeeded, or the budget is spent.
    """

    def __init__(self, ask: Callable[[torch.Tensor, CountedModel], torch.Tensor], clean: torch.Tensor, label: int, *,
                 limit: int, bound: Bound, minimise: bool = False, example: int = 0, watched: bool = False) -> None:
        self._ask, self._limit, self._minimise = ask, limit, minimise
        self.clean, self.label, self.example, self.bound = clean, label, example, bound
        self.queries, self._skipped, self._success, self._nearest = 0, 0, -1, np.inf
        self._image, self._margin, self._prediction, self._confidence = clean, np.inf, label, np.nan
        self._path = MarginPath() if watched else None
        self._known = ask(clean, self)
        self._clean_prediction, self._clean_confidence = self._prediction, self._confidence
        self.classes = self._known.shape[1]

    @property
    def over(self) -> bool:
        """Whether the attack has nothing more to do."""
        return self._success == 0 or (self._success > 0 and not self._minimise) or self.queries >= self._limit

    @property
    def lowest(self) -> float:
        """The margin below which an image is worth a look if it is no success."""
        nearest = self._margin if self._success < 0 else -np.inf
        return nearest if self._path is None else max(nearest, *self._path.margins[-1:], -np.inf)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Map candidates [m, C, H, W] to logits [m, classes]; what is seen of them is clipped to [0, 1].

        Raises:
            AttackOver: at a success, and for what the budget does not allow.
        """
        if not x.requires_grad and all(torch.equal(row, self.clean[0]) for row in x):
            return self._known.repeat(len(x), 1)
        if self.over:
            raise AttackOver
        fits = x if len(x) <= self._limit - self.queries else x[: self._limit - self.queries]
        outside = (fits < 0) | (fits > 1)
        if outside.any():  # `clamp` would stop the gradients of 0 and 1 themselves as well
            fits = torch.where(outside, fits.detach().clamp(0, 1), fits)
        logits = self._ask(fits, self)
        if (self._success >= 0 and not self._minimise) or len(fits) < len(x):
            raise AttackOver
        return logits

    def skip_to(self, iteration: int) -> None:
        """Count the next query as that after an iteration, if fewer were made: its place in a fixed schedule."""
        skipped = max(iteration - (self.queries - 1), self._skipped)
        self._limit -= skipped - self._skipped
        self._skipped = skipped

    def keep(self, image: torch.Tensor, query: int, *, margin: float, prediction: int, confidence: float,
             distance: float) -> None:
        """Keep an image within the bound if it is the first success (to minimise, the nearest) or nearer to one.

        Nearest to a success is the lowest margin.

        Args:
            image: The image, [C, H, W].
            query: The number of its forward pass, from 1; those of the same group are charged already.
            margin: Its margin, as `Finished` has it, like the next two.
            prediction: Its predicted class.
            confidence: The prediction's softmax probability.
            distance: From the clean image, in the bound's norm.
        """
        if self._path is not None and margin < min(self._path.margins[-1:], default=np.inf):
            self._path.add(query, margin)
        if prediction == self.label:
            kept = self._success < 0 and margin < self._margin
        else:
            kept = self._success < 0 or (self._minimise and distance < self._nearest)
            self._nearest = min(distance, self._nearest)
            self._success = self._success if self._success >= 0 else self.queries - 1 + self._skipped
        if kept:
            self._image = image[None].clone()
            self._margin, self._prediction, self._confidence = margin, prediction, confidence

    def finished(self) -> Finished:
        """Return the outcome, as of one finished image; an iteration is one query after the clean image's."""
        difference = (self._image.double() - self.clean.double()).flatten()
        label = np.array([self.label])
        return Finished(np.array([self.example]), label, label, np.array([self._clean_prediction]),
                        np.array([self._clean_confidence]), np.array([self._prediction]), np.array([self._success]),
                        np.array([self.queries]), difference.norm().numpy()[None],
                        difference.abs().max().numpy()[None], np.array([self._margin]), np.array([self._confidence]),
                        [np.zeros(0, dtype=np.int8)], self._image, [self._path])


def look(asked: Sequence[tuple[CountedModel, int]], images: torch.Tensor, logits: torch.Tensor) -> None:
    """Charge the images of a forward pass, and keep of each model's what counts.

    All are judged together: image by image it takes a tenth of a pass.

    Args:
        asked: Models of the same bound, and how many of the images each has asked about.
        images: The images, [m, C, H, W], on the CPU.
        logits: The answers, [m, classes].

    Raises:
        InputError: for logits that can't be.
    """
    models, sizes = [model for model, _ in asked], np.array([size for _, size in asked])
    owner, ends = np.repeat(np.arange(len(models)), sizes), sizes.cumsum()
    labels = np.array([model.label for model in models])[owner]
    scores = read_logits(logits, np.array([model.example for model in models])[owner])
    check_classes(scores.shape[1], labels)
    verdict = judge(scores, labels)
    lowest = np.array([model.lowest for model in models])[owner]
    for model, size in asked:
        model.queries += size
    rows = np.flatnonzero((verdict.prediction != labels) | (verdict.margin < lowest))
    if not len(rows):
        return
    bound = models[0].bound
    distances = bound.distances(images[rows] - torch.cat([models[at].clean for at in owner[rows]]))
    counts = bound.allows(distances)
    for row, distance in zip(rows[counts], distances[counts], strict=True):
        model = models[owner[row]]
        model.keep(images[row], int(model.queries - ends[owner[row]] + row + 1), margin=float(verdict.margin[row]),
                   prediction=int(verdict.prediction[row]), confidence=float(verdict.confidence[row]),
                   distance=float(distance))
