"""Signs of life of a worker: one that gives none for too long ends itself, which dask takes for a death.

Every answer of a model is such a sign, and so is every step of a training. The time of a whole slice would tell less:
before the first ones are finished nobody knows what they take, and they take from seconds to hours. A process that does
not get to look after itself, since it is stopped or its model keeps Python's lock, sends dask no heartbeats either.
"""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from framebench.attacks.base import Predict

#: Seconds between two looks.
_LOOK = 1.0
#: Unless told otherwise, a silence is too long from so many times the longest one so far, and from so many seconds.
_TIMES, _LEAST = 20, 600.0


class Watch:
    """How long the task of this process has given no sign of life."""

    def __init__(self) -> None:
        self._silent = self._longest = 0.0

    def alive(self) -> None:
        """Give a sign of life."""
        self._longest, self._silent = max(self._longest, self._silent), 0.0

    @contextmanager
    def over(self, limit: float | None, hung: Callable[[str], object]) -> Iterator[None]:
        """Watch what the calling thread does inside.

        Args:
            limit: Seconds of silence that are too long; None for 20 times the longest silence so far, and at least 10
                minutes.
            hung: Called once, from another thread, after such a silence, with words that say how long it was and where
                the code stands.
        """
        thread, ended = threading.get_ident(), threading.Event()

        def look() -> None:
            while not ended.wait(_LOOK):
                self._silent += _LOOK  # not a clock: while the machine sleeps, the task does too
                if self._silent >= (limit or max(_LEAST, _TIMES * self._longest)):
                    hung(f"has given no sign of life for {self._silent:.0f} s{_place(thread)}")
                    return

        self.alive()
        threading.Thread(target=look, daemon=True).start()
        try:
            yield
        finally:
            ended.set()
            self.alive()

    def heard(self, predict: Predict) -> Predict:
        """Return a model whose answers are signs of life, as it is that there is one."""
        self.alive()

        def answered(x: torch.Tensor) -> torch.Tensor:
            logits = predict(x)
            self.alive()
            return logits
        answered.copies = getattr(predict, "copies", False)  # type: ignore[attr-defined]  # `guarded` asks for it
        return answered


#: That of this process, which computes one task at a time.
WATCH = Watch()


def _place(thread: int) -> str:
    """Return where a thread stands, as far as Python knows."""
    frame = sys._current_frames().get(thread)
    if frame is None:
        return ""
    where = traceback.extract_stack(frame)[-1]
    return f", in {where.name} ({where.filename}, line {where.lineno})"
