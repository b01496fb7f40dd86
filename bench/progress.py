"""The progress bar of an attack."""

from __future__ import annotations

import time
from types import TracebackType

import torch
from tqdm import tqdm

from attacks.simba import Finished, Predict


class AttackProgress:
    """Shows images done, successes, queries a second and the time left."""

    def __init__(self, name: str, total: int, done: int) -> None:
        self._bar = tqdm(total=total, initial=done, desc=name, unit="image", dynamic_ncols=True)
        self._successes, self._queries, self._started, self._shown = 0, 0, time.monotonic(), 0.0

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
            now = time.monotonic()
            if now - self._shown > 0.5:
                self._shown = now
                rate = self._queries / max(now - self._started, 1e-9)
                self._bar.set_postfix_str(f"broken {self._successes}, {rate:,.0f} queries/s")
            return logits
        return counted

    def update(self, done: Finished) -> None:
        """Count finished images."""
        self._successes += int((done.success_iteration > 0).sum())
        self._bar.update(len(done.ids))

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        self._bar.write(text)
