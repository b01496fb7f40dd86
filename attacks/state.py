"""Images under attack as arrays with one entry per image; entries of finished images are removed."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterator, Set
from dataclasses import dataclass, fields
from typing import Any, Generic, TypeVar

import numpy as np
import torch

from framebench.attacks.base import Finished, Load, MarginPath, Predict
from framebench.attacks.verdict import Verdict

#: Most values in the images under attack at once on a CPU: 55 images of 3x224x224, 2,730 of 3x32x32. The state of an
#: attack is some ten times as large; more images make passes no faster.
UNDER_ATTACK = 2**23

Own = TypeVar("Own", bound="Outcomes")


@dataclass
class Outcomes:
    """The part of the state that all attacks share: tensors and arrays with one entry per image.

    Attributes:
        clean: The clean images, [n, C, H, W].
        outcome: The final images: the success, else the image of the lowest margin.
        id: Example ids.
        label: Labels.
        limit: Hard limits of forward passes.
        queries: Forward passes so far.
        success: Iterations after which the attack succeeded, -1 if it has not. Every forward pass is an iteration, but
            that of the clean image.
        clean_prediction: Prediction of the clean image, -1 if it was not forwarded.
        clean_confidence: Its softmax probability; NaN if it was not forwarded.
        path: Path of its margin, or None if it is not watched.
        margin: Margin of the final image.
        prediction: Prediction of the final image.
        confidence: Softmax probability of that prediction.
    """

    clean: torch.Tensor
    outcome: torch.Tensor
    id: np.ndarray
    label: np.ndarray
    limit: np.ndarray
    queries: np.ndarray
    success: np.ndarray
    clean_prediction: np.ndarray
    clean_confidence: np.ndarray
    path: np.ndarray
    margin: np.ndarray
    prediction: np.ndarray
    confidence: np.ndarray

    def retain(self, rows: np.ndarray) -> None:
        """Keep the entries of some rows only, int64 [r]; field by field, to save memory."""
        for field in fields(self):
            setattr(self, field.name, _rows(getattr(self, field.name), rows))

    def extend(self: Own, other: Own) -> None:
        """Append the entries of another."""
        for field in fields(self):
            pair: list[Any] = [getattr(self, field.name), getattr(other, field.name)]
            setattr(self, field.name, np.concatenate(pair) if isinstance(pair[0], np.ndarray) else torch.cat(pair))

    def take(self, rows: np.ndarray, shown: torch.Tensor, verdict: Verdict, *, allowed: np.ndarray | None = None,
             clean: np.ndarray | None = None) -> None:
        """Charge a forward pass and record its outcome.

        Args:
            rows: The entries that were forwarded, int64 [r].
            shown: Their images, [r, C, H, W].
            verdict: Predictions and margins of these images.
            allowed: Which of them lie within the bound, bool [r]; None for all.
            clean: Which of them are clean images, bool [r]; None for none.
        """
        allowed = np.ones(len(rows), dtype=bool) if allowed is None else allowed
        self.queries[rows] += 1
        if clean is not None:
            self.clean_prediction[rows[clean]] = verdict.prediction[clean]
            self.clean_confidence[rows[clean]] = verdict.confidence[clean]
        broken = allowed & (verdict.prediction != self.label[rows]) & (self.success[rows] < 0)
        self.success[rows[broken]] = (self.queries - (self.clean_prediction >= 0))[rows[broken]]
        kept = np.flatnonzero(broken | (allowed & (verdict.margin < self.margin[rows]) & (self.success[rows] < 0)))
        for name in ("margin", "prediction", "confidence"):
            getattr(self, name)[rows[kept]] = getattr(verdict, name)[kept]
        for at in kept:
            path: MarginPath | None = self.path[rows[at]]
            if path is not None and (not path.margins or verdict.margin[at] < path.margins[-1]):
                path.add(int(self.queries[rows[at]]), float(verdict.margin[at]))
        if len(kept):
            self.outcome[torch.from_numpy(rows[kept]).to(self.outcome.device)] = shown[
                torch.from_numpy(kept).to(shown.device)].to(self.outcome)

    @property
    def over(self) -> np.ndarray:
        """Which images are done, bool [n]: broken, or at their limit of forward passes."""
        return np.asarray((self.success >= 0) | (self.queries >= self.limit))

    def finished(self, rows: np.ndarray) -> Finished:
        """Return some images, int64 [r], as finished."""
        outcome = _rows(self.outcome, rows)
        # One by one: all at once would take more memory in double precision than the attack.
        distances = np.array([[float(one.norm()), float(one.abs().max())] for one in (
            (image.double() - self.clean[row].double()).flatten() for image, row in zip(outcome, rows, strict=True))])
        return Finished(self.id[rows], self.label[rows], self.label[rows], self.clean_prediction[rows],
                        self.clean_confidence[rows], self.prediction[rows], self.success[rows], self.queries[rows],
                        distances[:, 0], distances[:, 1], self.margin[rows], self.confidence[rows],
                        [np.zeros(0, dtype=np.int8)] * len(rows), outcome, self.path[rows].tolist())


def outcomes(ids: np.ndarray, x: torch.Tensor, labels: torch.Tensor, limit: np.ndarray,
             watched: Set[int] = frozenset()) -> dict[str, Any]:
    """Return the fields of `Outcomes` for images that were not forwarded yet; those in `watched` get a path."""
    n, path = len(ids), np.empty(len(ids), dtype=object)
    path[:] = [MarginPath() if example in watched else None for example in ids.tolist()]
    return {"clean": x, "outcome": x.clone(), "id": ids, "label": labels.cpu().numpy(), "limit": limit,
            "queries": np.zeros(n, dtype=np.int64), "success": np.full(n, -1), "clean_prediction": np.full(n, -1),
            "clean_confidence": np.full(n, np.nan), "path": path,
            "margin": np.full(n, np.inf), "prediction": np.zeros(n, dtype=np.int64), "confidence": np.zeros(n)}


def _rows(value: Any, rows: np.ndarray) -> Any:
    return value[rows] if isinstance(value, np.ndarray) else value[torch.from_numpy(rows).to(value.device)]


def sizes(x: torch.Tensor, order: float = 2, dim: tuple[int, ...] = (1, 2, 3)) -> torch.Tensor:
    """Return norms of x [n, C, H, W] over some of its dimensions, which are kept with size 1."""
    norms: torch.Tensor = torch.linalg.vector_norm(x, order, dim=dim, keepdim=True)
    return norms


class Batch(ABC, Generic[Own]):
    """The images under attack, all of which are forwarded together."""

    _state: Own | None = None

    @abstractmethod
    def admit(self, ids: np.ndarray, x: torch.Tensor, labels: torch.Tensor, limit: np.ndarray) -> None:
        """Add images: ids int64 [r], images [r, C, H, W], labels int64 [r], limits of forward passes int64 [r]."""

    @abstractmethod
    def step(self, predict: Predict) -> Finished | None:
        """Query the model, update the images, and return those that are finished."""

    @property
    def live(self) -> int:
        """Number of images."""
        return 0 if self._state is None else len(self._state.id)

    def most(self, size: int) -> int:
        """Return how many images may be under attack at once, 1 to `size`: on a CPU fewer where they are large.

        Before the first image is admitted, its size is unknown, and the answer is 1.
        """
        if self._state is None:
            return 1
        images = self._state.clean
        return size if images.device.type != "cpu" else min(size, max(UNDER_ATTACK // images.shape[1:].numel(), 1))

    def _add(self, new: Own) -> None:
        """Append images."""
        if self._state is None:
            self._state = new
        else:
            self._state.extend(new)

    def _release(self, over: np.ndarray) -> Finished | None:
        """Remove and return the images that are done, bool [live]; None if none is."""
        assert self._state is not None
        if not over.any():
            return None
        finished = self._state.finished(np.flatnonzero(over))
        self._state.retain(np.flatnonzero(~over))
        return finished


def run(batch: Batch[Any], predict: Predict, load: Load, arriving: Iterator[tuple[int, int]],
        size: int) -> Iterator[Finished]:
    """Attack images in a batch that stays full: the next image replaces each one that is finished.

    Args:
        batch: The attack.
        predict: The model.
        load: The images.
        arriving: Example ids and hard limits of forward passes.
        size: Images under attack at once; on a CPU there are fewer where they are large.
    """
    left = True
    while left or batch.live:
        while left and (free := batch.most(size) - batch.live) > 0:
            new = list(itertools.islice(arriving, free))
            left = len(new) == free
            if new:
                ids, limits = np.array(new, dtype=np.int64).T
                batch.admit(ids, *load(ids), limits)
        if batch.live and (done := batch.step(predict)) is not None:
            yield done
