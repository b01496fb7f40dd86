"""A model that an attack asks about one image: every forward pass is charged, none goes beyond the budget.

Attacks of other libraries own their loop, count nothing and stop when they like. Run on one image against a
`CountedModel`, each of their forward passes is seen: it is charged to the image, it is checked for success, and the
attack is ended from inside by `AttackOver` at the first success or when the budget is spent.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from framebench.attacks.base import Finished, MarginPath, Predict, guarded
from framebench.attacks.verdict import Verdict, check_classes, judge, read_logits

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
        return self.distances(difference) <= self.epsilon * (1 + _ROUNDING) + _ROUNDING


class CountedModel:
    """Answers an attack's questions about one image.

    The clean image is asked about once, when this is made; a later question about it is answered from memory, since
    nothing is forwarded. Everything else is forwarded and charged, also if it is asked twice. Of a group of
    candidates that does not fit into the budget only the first ones are forwarded.

    Args:
        ask: Maps images [m, C, H, W] in [0, 1] to logits [m, classes]: the forward pass.
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

    def __init__(self, ask: Predict, clean: torch.Tensor, label: int, *, limit: int, bound: Bound,
                 minimise: bool = False, example: int = 0, watched: bool = False) -> None:
        self._ask, self._clean, self._label, self._limit, self._bound = guarded(ask), clean, label, limit, bound
        self._minimise, self._nearest, self._example = minimise, np.inf, example
        self._known = self._ask(clean).detach().cpu()
        self.queries, self._skipped, self.classes = 1, 0, self._known.shape[-1]
        self._best = self._judged(self._known, 1)
        self._image, self._clean_prediction = clean, int(self._best.prediction[0])
        self._clean_confidence = self._best.confidence.copy()
        self._path = MarginPath([1], self._best.margin.tolist()) if watched else None
        self._success = 0 if self._clean_prediction != label else -1

    @property
    def over(self) -> bool:
        """Whether the attack has nothing more to do."""
        return self._success == 0 or (self._success > 0 and not self._minimise) or self.queries >= self._limit

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Map candidates [m, C, H, W] to logits [m, classes]; what is seen of them is clipped to [0, 1].

        Raises:
            AttackOver: at a success, and for what the budget does not allow.
        """
        if not x.requires_grad and all(torch.equal(row, self._clean[0]) for row in x):
            return self._known.repeat(len(x), 1)
        if self.over:
            raise AttackOver
        fits = x[: self._limit - self.queries].clamp(0, 1)
        logits = self._ask(fits).cpu()  # a copy, into which the attack may write
        self.queries += len(fits)
        self._look(fits.detach(), logits.detach())
        if (self._success >= 0 and not self._minimise) or len(fits) < len(x):
            raise AttackOver
        return logits

    def skip_to(self, iteration: int) -> None:
        """Count the next query as that after an iteration, if fewer were made: its place in a fixed schedule."""
        skipped = max(iteration - (self.queries - 1), self._skipped)
        self._limit -= skipped - self._skipped
        self._skipped = skipped

    def _look(self, x: torch.Tensor, logits: torch.Tensor) -> None:
        """Keep the first success among candidates (the nearest, to minimise), else the one that came nearest to it.

        Nearest to a success is the lowest margin of those within the bound.
        """
        verdict = self._judged(logits, len(x))
        if self._path is not None:
            self._trace(self._path, x, verdict.margin)
        wrong = verdict.prediction != self._label
        rows = np.flatnonzero(wrong | ((verdict.score < self._best.score[0]) & (self._success < 0)))
        if len(rows):  # distances take longer than what was done so far
            rows = rows[self._bound.holds(x[rows] - self._clean)]
        if not len(rows):
            return
        won = rows[wrong[rows]]
        row = int(won[0]) if len(won) else int(rows[verdict.score[rows].argmin()])
        if len(won) and self._success < 0:
            self._success = self.queries - 1 + self._skipped
        if len(won) and self._minimise:
            distances = self._bound.distances(x[won] - self._clean)
            if distances.min() >= self._nearest:
                return
            row, self._nearest = int(won[distances.argmin()]), distances.min()
        self._image = x[row : row + 1].clone()
        self._best.put(np.array([0]), verdict, np.array([row]))

    def _trace(self, path: MarginPath, x: torch.Tensor, margin: np.ndarray) -> None:
        for row in np.flatnonzero(margin < path.margins[-1]):
            if margin[row] < path.margins[-1] and self._bound.holds(x[row : row + 1] - self._clean)[0]:
                path.add(self.queries - len(x) + int(row) + 1, float(margin[row]))

    def finished(self) -> Finished:
        """Return the outcome, as of one finished image; an iteration is one query after the clean image's."""
        difference = (self._image.double() - self._clean.double()).flatten()
        label = np.array([self._label])
        return Finished(np.array([self._example]), label, label, np.array([self._clean_prediction]),
                        self._clean_confidence, self._best.prediction, np.array([self._success]),
                        np.array([self.queries]), difference.norm().numpy()[None],
                        difference.abs().max().numpy()[None], self._best.margin, self._best.confidence,
                        [np.zeros(0, dtype=np.int8)], self._image, [self._path])

    def _judged(self, logits: torch.Tensor, n: int) -> Verdict:
        scores = read_logits(logits, np.full(n, self._example))
        goals = np.full(n, self._label)
        check_classes(scores.shape[1], goals)
        return judge(scores, goals)
