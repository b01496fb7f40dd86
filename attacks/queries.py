"""Models that attacks ask about one image, or a few: every forward pass is charged, none goes beyond the budget.

Attacks of other libraries own their loop, count nothing and stop when they like. Run against a `CountedModel`, or
`CountedModels`, each of their forward passes is seen: it is charged to the image, it is checked for success, and the
attack is ended from inside by `AttackOver` at the first success or when the budget is spent.
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


class Record:
    """What becomes of one image under attack.

    Args:
        clean: The image, [1, C, H, W], on the CPU.
        label: Its class.
        limit: Forward passes, the clean image's among them, at least 1.
        bound: Within which a success counts.
        minimise: Whether a success does not end the attack, and the nearest one, in the bound's norm, is the outcome.
        example: Its id.
        watched: Whether its margin's path is kept.

    Attributes:
        queries: Forward passes so far.
        left: Forward passes that may follow.
        won: Whether a success has ended the attack.
        over: Whether the attack has nothing more to do: it has succeeded, or the budget is spent.
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
        """Forward passes that may follow."""
        return self._limit - self.queries

    @property
    def won(self) -> bool:
        """Whether a success has ended the attack."""
        return self._success == 0 or (self._success > 0 and not self._minimise)

    @property
    def over(self) -> bool:
        """Whether the attack has nothing more to do."""
        return self.won or self.left <= 0

    @property
    def lowest(self) -> float:
        """The margin below which an image is worth a look if it is no success."""
        nearest = self._margin if self._success < 0 else -np.inf
        return nearest if self._path is None else max(nearest, *self._path.margins[-1:], -np.inf)

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
    """Answers an attack's questions about one image.

    The clean image is asked about once, when this is made; a later question about it is answered from memory, since
    nothing is forwarded. Everything else is forwarded and charged, also if it is asked twice. Of a group of
    candidates that does not fit into the budget only the first ones are forwarded.

    Args:
        ask: The model.
        record: The image.
    """

    def __init__(self, ask: Ask, record: Record) -> None:
        self._ask, self._record = ask, record
        self._known = ask(record.clean, [record])

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Map candidates [m, C, H, W] to logits [m, classes]; what is seen of them is clipped to [0, 1].

        Raises:
            AttackOver: at a success, and for what the budget does not allow.
        """
        record = self._record
        if not x.requires_grad and all(torch.equal(row, record.clean[0]) for row in x):
            return self._known.repeat(len(x), 1)
        if record.over:
            raise AttackOver
        fits = x[: record.left]
        logits = self._ask(_clipped(fits), [record] * len(fits))
        if record.won or len(fits) < len(x):
            raise AttackOver
        return logits


class CountedModels:
    """Answers questions about several images at once, always one candidate of each.

    Each is charged as `CountedModel` would charge it alone. An image that is done is not forwarded any more: it gets
    its last answer again, with no gradient.

    Args:
        ask: The model.
        records: The images.
        leaving: Whether the attack asks for no more gradients of an image that it has seen misclassified: alone, such
            an image ends its loop.
    """

    def __init__(self, ask: Ask, records: Sequence[Record], leaving: bool = False) -> None:
        self._ask, self._records, self._leaving = ask, records, leaving
        self._clean = torch.cat([record.clean for record in records])
        self._known = self._last = ask(self._clean, records)
        self._labels = torch.tensor([record.label for record in records])
        self._wrong = -functional.one_hot(self._labels, self._known.shape[1]).to(self._known)

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
            self._last = torch.where(clean[:, None], self._known, self._last)
            open_ &= ~clean
        elif self._leaving:
            self._last = torch.where(open_[:, None], self._last, self._wrong)  # else they would keep the loop going
            open_ &= self._last.argmax(1) == self._labels
        rows = open_.nonzero()[:, 0]
        asked = x if len(rows) == len(x) else x.index_select(0, rows)
        if len(rows):
            answers = self._ask(_clipped(asked), [self._records[row] for row in rows.tolist()])
        else:  # none of none, but what can be differentiated stays so
            answers = asked.flatten(1)[:, :1].expand(-1, self._last.shape[1])
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
    """Charge the images of a forward pass, and keep of each record's what counts.

    All are judged together: image by image it takes a tenth of a pass.

    Args:
        records: Whose each image is; of the same bound.
        images: The images, [m, C, H, W], on the CPU.
        logits: The answers, [m, classes].

    Raises:
        InputError: for logits that can't be.
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
    known, bound = [records[row] for row in rows.tolist()], records[0].bound
    distances = bound.distances(images[rows] - torch.cat([record.clean for record in known]))
    for record, row, distance, counts in zip(known, rows, distances, bound.allows(distances), strict=True):
        if counts:
            record.keep(images[row], int(queries[row]), margin=float(verdict.margin[row]),
                        prediction=int(verdict.prediction[row]), confidence=float(verdict.confidence[row]),
                        distance=float(distance))
