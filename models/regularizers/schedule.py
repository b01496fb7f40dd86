"""How a regularizer's coefficient changes in the course of training."""

from __future__ import annotations

import math
from dataclasses import dataclass

from framebench.errors import InputError


@dataclass(frozen=True)
class Schedule:
    """Factor of the coefficient as a function of the share of training that is done; constant 1 by default.

    Attributes:
        warmup: Share of the training over which the factor rises linearly from 0.
        steps: Pairs (share of the training, factor from there on), in rising order of the share.
    """

    warmup: float = 0.0
    steps: tuple[tuple[float, float], ...] = ()

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
