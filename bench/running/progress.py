"""The progress bar of an attack."""

from __future__ import annotations

import time
from types import TracebackType

import torch

from framebench.attacks.base import Finished, Predict
from framebench.progress import progress


class AttackProgress:
    """Shows images done, how many correctly classified ones are broken, queries per second and the time left."""

    def __init__(self, name: str, total: int, done: int) -> None:
        self._bar = progress(total, initial=done, desc=name, unit="image")
        self._broken, self._queries, self._started, self._shown = 0, 0, time.monotonic(), 0.0

    def __enter__(self) -> AttackProgress:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._bar.close()

    def counting(self, predict: Predict) -> Predict:
        """Return `predict`, with its images counted as queries."""
        def counted(x: torch.Tensor) -> torch.Tensor:
            logits = predict(x)
            self._queries += len(x)
            if time.monotonic() - self._shown > 0.5:
                self._shown = time.monotonic()
                self._show(0)
            return logits
        return counted

    def update(self, done: Finished) -> None:
        """Count finished images."""
        self._broken += int(((done.clean_prediction == done.labels) & (done.success_iteration >= 0)).sum())
        self._show(len(done.ids))

    def _show(self, finished: int) -> None:
        rate = self._queries / max(time.monotonic() - self._started, 1e-9)
        self._bar.set_postfix_str(f"broken {self._broken}, {rate:,.0f} queries/s", refresh=False)
        self._bar.update(finished)
