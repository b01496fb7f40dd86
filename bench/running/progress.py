"""The progress bar of an attack."""

from __future__ import annotations

import time
from dataclasses import dataclass
from types import TracebackType

import torch

from framebench.attacks.base import Finished, Predict
from framebench.progress import progress


@dataclass(frozen=True)
class Tally:
    """Counts of finished images.

    Attributes:
        images: Finished images.
        broken: Those that were classified correctly before the attack, and are not any more.
        queries: Queries of workers. Those of this process are counted by `AttackProgress.counting`.
    """

    images: int = 0
    broken: int = 0
    queries: int = 0

    @classmethod
    def of(cls, done: Finished, *, queries: int = 0) -> Tally:
        """Count finished images."""
        broken = (done.clean_prediction == done.labels) & (done.success_iteration >= 0)
        return cls(len(done.ids), int(broken.sum()), queries)

    def __add__(self, other: Tally) -> Tally:
        return Tally(self.images + other.images, self.broken + other.broken, self.queries + other.queries)


class AttackProgress:
    """Shows finished images, how many correctly classified ones are broken, queries per second and the time left."""

    def __init__(self, name: str, total: int, done: int) -> None:
        self._bar = progress(total, initial=done, desc=name, unit="image")
        self._broken, self._queries, self._started, self._shown = 0, 0, time.monotonic(), 0.0

    def __enter__(self) -> AttackProgress:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._bar.close()

    def counting(self, predict: Predict) -> Predict:
        """Return `predict`, which then counts its images as queries."""
        def counted(x: torch.Tensor) -> torch.Tensor:
            logits = predict(x)
            self._queries += len(x)
            if time.monotonic() - self._shown > 0.5:
                self._shown = time.monotonic()
                self._show(0)
            return logits
        return counted

    def update(self, tally: Tally) -> None:
        """Count finished images."""
        self._broken += tally.broken
        self._queries += tally.queries
        self._show(tally.images)

    def _show(self, finished: int) -> None:
        rate = self._queries / max(time.monotonic() - self._started, 1e-9)
        self._bar.set_postfix_str(f"broken {self._broken}, {rate:,.0f} queries/s", refresh=False)
        self._bar.update(finished)
