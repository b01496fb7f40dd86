"""How a regularizer's coefficient changes in the course of training."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from framebench.errors import InputError

#: Pairs (share of the training, factor from there on).
Steps = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Schedule:
    """Factor of the coefficient as a function of the share of training that is done; constant 1 by default.

    Attributes:
        warmup: Share of the training over which the factor rises linearly from 0.
        steps: Pairs (share of the training, factor from there on), in rising order of the share.
    """

    warmup: float = 0.0
    steps: Steps = ()

    def __post_init__(self) -> None:
        if not 0 <= self.warmup <= 1:
            raise InputError(f"the warm-up is a share of the training, from 0 to 1, not {self.warmup}")
        shares = [share for share, _ in self.steps]
        if shares != sorted(shares) or not all(0 <= share <= 1 for share in shares):
            raise InputError(f"the steps of a schedule need rising shares from 0 to 1, not {shares}")
        if not all(math.isfinite(factor) and factor >= 0 for _, factor in self.steps):
            raise InputError("the factors of a schedule must be finite and at least 0")

    def __call__(self, progress: float) -> float:
        """Return the factor when the share `progress`, in [0, 1], of the training is done."""
        level = 1.0
        for share, factor in self.steps:
            if progress >= share:
                level = factor
        return level * (min(progress / self.warmup, 1.0) if self.warmup else 1.0)


def checked_steps(steps: str | Iterable[str | Iterable[float]] | None) -> Steps:
    """Return the steps of a schedule as pairs of numbers, whichever way they were written.

    Args:
        steps: Pairs of numbers, as in Python or on a card; or "SHARE:FACTOR", as on the command line: one such text,
            several with commas between them, or a sequence of them. None and "" are no steps.

    Raises:
        InputError: if they are none of these.
    """
    if steps is None or steps == "":
        return ()
    written = steps.split(",") if isinstance(steps, str) else steps
    try:
        pairs = [step.split(":") if isinstance(step, str) else step for step in written]
        return tuple((float(share), float(factor)) for share, factor in pairs)
    except (TypeError, ValueError):
        raise InputError("the option steps must be pairs SHARE:FACTOR of numbers, such as 0.5:0.1,0.8:0, not "
                         f"{steps!r}") from None
