"""Signs of life of a worker: a worker that gives none for too long ends itself, and dask starts another one.

A sign of life is each answer of a model, and each step of a training. The time of a whole slice would tell less: it
ranges from seconds to hours, and is unknown before the first slice has finished. A process that can't watch itself,
because it is stopped or its model holds Python's lock, sends dask no heartbeats either.
"""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from framebench.attacks.base import Predict

#: Seconds between two checks.
_LOOK = 1.0
#: Default limit of a silence: this many times the longest one so far, and at least this many seconds.
_TIMES, _LEAST = 20, 600.0


class Watch:
    """Measures how long the task of this process has given no sign of life."""

    def __init__(self) -> None:
        self._silent = self._longest = 0.0

    def alive(self) -> None:
        """Give a sign of life."""
        self._longest, self._silent = max(self._longest, self._silent), 0.0

    @contextmanager
    def over(self, limit: float | None, hung: Callable[[str], object]) -> Iterator[None]:
        """Watch the calling thread in the body.

        Args:
            limit: Seconds of silence after which the thread counts as hung; None for 20 times the longest silence so
                far, and at least 10 minutes.
            hung: Called once from another thread after such a silence, with a text: its length and where the code is.
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
        """Return a model whose answers are signs of life; so is this call."""
        self.alive()

        def answered(x: torch.Tensor) -> torch.Tensor:
            logits = predict(x)
            self.alive()
            return logits
        answered.copies = getattr(predict, "copies", False)  # type: ignore[attr-defined]  # `guarded` asks for it
        return answered


#: The watch of this process, which computes one task at a time.
WATCH = Watch()


def _place(thread: int) -> str:
    """Return where the Python code of a thread is; empty if not known."""
    frame = sys._current_frames().get(thread)
    if frame is None:
        return ""
    last = traceback.extract_stack(frame)[-1]
    return f", in {last.name} ({last.filename}, line {last.lineno})"
