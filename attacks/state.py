"""Images under attack as arrays with one entry per image, which those that are finished leave."""

from __future__ import annotations

from collections.abc import Iterator, Set
from dataclasses import dataclass, fields
from typing import Any, Protocol, TypeVar

import numpy as np
import torch

from framebench.attacks.base import Finished, Load, MarginPath, Predict
from framebench.attacks.verdict import Verdict

Own = TypeVar("Own", bound="State")


@dataclass
class State:
    """Tensors and arrays with one entry per image."""

    def of(self: Own, rows: np.ndarray) -> Own:
        """Return the entries of some rows, int64 [r]."""
        own: list[Any] = [getattr(self, field.name) for field in fields(self)]
        return type(self)(*(value[rows] if isinstance(value, np.ndarray)
                            else value[torch.from_numpy(rows).to(value.device)] for value in own))

    def joined(self: Own, other: Own) -> Own:
        """Return these entries and another's after them."""
        pairs: list[Any] = [(getattr(self, field.name), getattr(other, field.name)) for field in fields(self)]
        return type(self)(*(np.concatenate(pair) if isinstance(pair[0], np.ndarray) else torch.cat(pair)
                            for pair in pairs))


@dataclass
class Outcomes(State):
    """What is known of each image, whatever the attack.

    Attributes:
        clean: The clean images, [n, C, H, W].
        outcome: The final images: the success, else the one of the lowest margin.
        id: Example ids.
        label: Labels.
        limit: Hard limits of forward passes.
        queries: Forward passes so far.
        success: Forward passes after which the attack succeeded, -1 if it has not.
        clean_prediction: Prediction of the clean image, -1 if it was not asked about.
        clean_confidence: Its softmax probability; nan if it was not asked about.
        path: Its margin's path, or None where it is not watched.
        margin: Of the final image, as the next two are.
        prediction: Its prediction.
        confidence: Its confidence.
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

    def take(self, rows: np.ndarray, shown: torch.Tensor, verdict: Verdict, allowed: np.ndarray | None = None) -> None:
        """Charge a forward pass and keep what it tells.

        Args:
            rows: The images that it was about, int64 [r].
            shown: What was shown of them, [r, C, H, W].
            verdict: What the model says of it.
            allowed: Which of them are within the bound, bool [r]; None for all.
        """
        allowed = np.ones(len(rows), dtype=bool) if allowed is None else allowed
        self.queries[rows] += 1
        won = allowed & (verdict.prediction != self.label[rows]) & (self.success[rows] < 0)
        self.success[rows[won]] = self.queries[rows[won]]
        kept = np.flatnonzero(won | (allowed & (verdict.margin < self.margin[rows]) & (self.success[rows] < 0)))
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
        """Which images are done: broken, or without a forward pass left, bool [n]."""
        return np.asarray((self.success >= 0) | (self.queries >= self.limit))

    def finished(self) -> Finished:
        """Return the images as finished ones; a forward pass is an iteration."""
        difference = (self.outcome.double() - self.clean.double()).flatten(1)
        return Finished(self.id, self.label, self.label, self.clean_prediction, self.clean_confidence,
                        self.prediction, self.success, self.queries, difference.norm(dim=1).cpu().numpy(),
                        difference.abs().amax(1).cpu().numpy(), self.margin, self.confidence,
                        [np.zeros(0, dtype=np.int8)] * len(self.id), self.outcome, self.path.tolist())


def outcomes(ids: np.ndarray, x: torch.Tensor, labels: torch.Tensor, limit: np.ndarray,
             watched: Set[int] = frozenset()) -> dict[str, Any]:
    """Return the fields of `Outcomes` for images that nothing was asked about yet; `watched` ones have a path."""
    n, path = len(ids), np.empty(len(ids), dtype=object)
    path[:] = [MarginPath() if example in watched else None for example in ids.tolist()]
    return {"clean": x, "outcome": x.clone(), "id": ids, "label": labels.cpu().numpy(), "limit": limit,
            "queries": np.zeros(n, dtype=np.int64), "success": np.full(n, -1), "clean_prediction": np.full(n, -1),
            "clean_confidence": np.full(n, np.nan), "path": path,
            "margin": np.full(n, np.inf), "prediction": np.zeros(n, dtype=np.int64), "confidence": np.zeros(n)}


class Slots(Protocol):
    """Images under attack, of any attack that asks about all of them at once."""

    @property
    def live(self) -> int:
        """How many there are."""

    def admit(self, ids: np.ndarray, x: torch.Tensor, labels: torch.Tensor, limit: np.ndarray) -> None:
        """Take images in: ids [r], images [r, C, H, W], labels [r], hard limits of forward passes [r]."""

    def step(self, predict: Predict) -> Finished | None:
        """Ask the model, make the moves that follow, and return what is finished."""


def run(slots: Slots, predict: Predict, load: Load, arriving: Iterator[tuple[int, int]],
        size: int) -> Iterator[Finished]:
    """Attack images in slots that stay full: who is done leaves, and the next one takes the place.

    Args:
        slots: The attack.
        predict: The model.
        load: The images.
        arriving: Example ids and hard limits of forward passes.
        size: Images under attack at once.
    """
    left = True
    while left or slots.live:
        new: list[tuple[int, int]] = []
        while left and slots.live + len(new) < size:
            following = next(arriving, None)
            left = following is not None
            if following is not None:
                new.append(following)
        if new:
            ids, limits = np.array(new, dtype=np.int64).T
            slots.admit(ids, *load(ids), limits)
        if slots.live and (done := slots.step(predict)) is not None:
            yield done

