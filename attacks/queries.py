"""Models that count and limit the queries of an attack on one image, or on a few.

Attacks of other libraries control their own loop and count no queries. A `CountedModel` or `CountedModels` charges each
of their forward passes to the image, checks it for success, and ends the attack from inside with `AttackOver`: at the
first success, or when the budget is spent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from framebench.attacks.base import Finished, MarginPath
from framebench.attacks.verdict import check_classes, judge, read_logits

#: Norm of a bound -> its order.
NORMS = {"l0": 0, "l1": 1, "l2": 2, "linf": float("inf")}

#: Room for float32 rounding in x + perturbation, relative and, of distances near zero, absolute.
_ROUNDING = 1e-6


class AttackOver(BaseException):
    """Ends an attack from inside its forward pass. It is no `Exception`, so libraries don't catch it."""


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
        """Return which differences [m, C, H, W] are within the bound, up to rounding: bool [m]."""
        return self.allows(self.distances(difference))

    def allows(self, distances: np.ndarray) -> np.ndarray:
        """Return which distances [m] are within the bound, up to rounding: bool [m]."""
        return np.asarray(distances <= (np.inf if self.epsilon is None else self.epsilon) * (1 + _ROUNDING) + _ROUNDING)


class Record:
    """One image under attack: its queries and its outcome.

    Args:
        clean: The image, [1, C, H, W], on the CPU.
        label: Its class.
        limit: Hard limit of forward passes, including that of the clean image; at least 1.
        bound: The bound within which a success counts.
        minimise: Whether the attack continues after a success; the outcome is then the nearest one in the bound's norm.
        example: Its id.
        watched: Whether the path of its margin is kept.

    Attributes:
        queries: Forward passes so far.
    """

    def __init__(self, clean: torch.Tensor, label: int, *, limit: int, bound: Bound, minimise: bool = False,
                 example: int = 0, watched: bool = False) -> None:
        self._limit, self._minimise = limit, minimise
        self.clean, self.label, self.example, self.bound = clean, label, example, bound
        self.queries, self._success, self._nearest = 0, -1, np.inf
        self._image, self._margin, self._prediction, self._confidence = clean, np.inf, label, np.nan
        self._clean_prediction, self._clean_confidence = label, np.nan
        self._path = MarginPath() if watched else None

    @property
    def left(self) -> int:
        """Forward passes that are left."""
        return self._limit - self.queries

    @property
    def won(self) -> bool:
        """Whether a success has ended the attack."""
        return self._success == 0 or (self._success > 0 and not self._minimise)

    @property
    def over(self) -> bool:
        """Whether the attack is over: it has succeeded, or the budget is spent."""
        return self.won or self.left <= 0

    @property
    def lowest(self) -> float:
        """The margin below which an image matters that is no success."""
        nearest = self._margin if self._success < 0 else -np.inf
        return nearest if self._path is None else max(nearest, *self._path.margins[-1:], -np.inf)

    def keep(self, image: torch.Tensor, query: int, *, margin: float, prediction: int, confidence: float,
             distance: float) -> None:
        """Keep an image within the bound if it is better: the first or nearest success, else the lowest margin.

        Args:
            image: The image, [C, H, W].
            query: The number of its forward pass, from 1; the others of its batch are charged already.
            margin: Its margin, as in `Finished`.
            prediction: Its predicted class.
            confidence: Softmax probability of the prediction.
            distance: Distance from the clean image in the bound's norm.
        """
        if query == 1:
            self._clean_prediction, self._clean_confidence = prediction, confidence
        if self._path is not None and margin < min(self._path.margins[-1:], default=np.inf):
            self._path.add(query, margin)
        if prediction == self.label:
            kept = self._success < 0 and margin < self._margin
        else:
            kept = self._success < 0 or (self._minimise and distance < self._nearest)
            self._nearest = min(distance, self._nearest)
            self._success = self._success if self._success >= 0 else self.queries - 1
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


#: Maps images [m, C, H, W] in [0, 1], each of an image under attack, to logits [m, classes]; both are copies. `look`
#: must have been called before it answers.
Ask = Callable[[torch.Tensor, Sequence[Record]], torch.Tensor]


class CountedModel:
    """The model as an attack on one image sees it.

    The clean image is forwarded once, when this object is created; its logits are then returned from memory, without a
    charge. Every other image is forwarded and charged, even if it is repeated. If a batch of candidates exceeds the
    budget, only the first ones are forwarded.

    Args:
        ask: The model.
        record: The image.
    """

    def __init__(self, ask: Ask, record: Record) -> None:
        self._ask, self._record = ask, record
        self._clean_logits = ask(record.clean, [record])

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Map candidates [m, C, H, W], which are clipped to [0, 1], to logits [m, classes].

        Raises:
            AttackOver: at a success, and when the budget is spent.
        """
        record = self._record
        if not x.requires_grad and all(torch.equal(row, record.clean[0]) for row in x):
            return self._clean_logits.repeat(len(x), 1)
        if record.over:
            raise AttackOver
        fits = x[: record.left]
        logits = self._ask(_clipped(fits), [record] * len(fits))
        if record.won or len(fits) < len(x):
            raise AttackOver
        return logits


class CountedModels:
    """The model as an attack on several images sees it, with one candidate per image.

    Each is charged as by `CountedModel`. An image that is done is not forwarded any more: its last logits are returned
    again, without a gradient.

    Args:
        ask: The model.
        records: The images.
        leaving: Whether the attack, run on a single image, stops at the first misclassification that it sees.
    """

    def __init__(self, ask: Ask, records: Sequence[Record], leaving: bool = False) -> None:
        self._ask, self._records, self._leaving = ask, records, leaving
        self._clean = torch.cat([record.clean for record in records])
        self._clean_logits = self._last = ask(self._clean, records)
        self._labels = torch.tensor([record.label for record in records])
        self._wrong = -functional.one_hot(self._labels, self._last.shape[1]).to(self._last)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Map candidates [n, C, H, W], one of each image, to logits [n, classes]; see `CountedModel`.

        Raises:
            AttackOver: when all images are done.
        """
        open_ = torch.tensor([not record.over for record in self._records])
        if not open_.any():
            raise AttackOver
        if not x.requires_grad:
            clean = (x == self._clean).flatten(1).all(1)
            self._last = torch.where(clean[:, None], self._clean_logits, self._last)
            open_ &= ~clean
        elif self._leaving:
            self._last = torch.where(open_[:, None], self._last, self._wrong)  # else they would keep the loop going
            open_ &= self._last.argmax(1) == self._labels
        rows = open_.nonzero()[:, 0]
        forwarded = x if len(rows) == len(x) else x.index_select(0, rows)
        if len(rows):
            answers = self._ask(_clipped(forwarded), [self._records[row] for row in rows.tolist()])
        else:  # no rows, but part of the graph
            answers = forwarded.flatten(1)[:, :1].expand(-1, self._last.shape[1])
        logits = answers if len(rows) == len(x) else self._last.index_copy(0, rows, answers)
        self._last = logits.detach()
        return logits


def _clipped(x: torch.Tensor) -> torch.Tensor:
    lowest, highest = x.detach().aminmax()
    if lowest >= 0 and highest <= 1:
        return x
    # `clamp` alone would stop the gradients of 0 and 1 themselves as well.
    return torch.where((x < 0) | (x > 1), x.detach().clamp(0, 1), x)


def look(records: Sequence[Record], images: torch.Tensor, logits: torch.Tensor) -> None:
    """Charge the images of a forward pass and update their records.

    All images are judged at once: one by one, this would take a tenth of the pass.

    Args:
        records: The record of each image; all have the same bound.
        images: The images, [m, C, H, W], on the CPU.
        logits: Their logits, [m, classes].

    Raises:
        InputError: for invalid logits.
    """
    labels = np.array([record.label for record in records])
    scores = read_logits(logits, np.array([record.example for record in records]))
    check_classes(scores.shape[1], labels)
    verdict = judge(scores, labels)
    lowest = np.array([record.lowest for record in records])
    queries = np.zeros(len(records), dtype=np.int64)
    for at, record in enumerate(records):
        record.queries += 1
        queries[at] = record.queries
    rows = np.flatnonzero((verdict.prediction != labels) | (verdict.margin < lowest))
    if not len(rows):
        return
    better, bound = [records[row] for row in rows.tolist()], records[0].bound
    distances = bound.distances(images[rows] - torch.cat([record.clean for record in better]))
    for record, row, distance, allowed in zip(better, rows, distances, bound.allows(distances), strict=True):
        if allowed:
            record.keep(images[row], int(queries[row]), margin=float(verdict.margin[row]),
                        prediction=int(verdict.prediction[row]), confidence=float(verdict.confidence[row]),
                        distance=float(distance))
