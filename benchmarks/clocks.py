"""Rates, times and peak memory, as the benchmarks measure them."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from typing import TypeVar

import torch

T = TypeVar("T")


def rate(predict: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor, seconds: float) -> float:
    """Return the images/s of `predict` on the batch x, over `seconds`."""
    predict(x)
    count, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        predict(x)
        count += len(x)
    return count / (time.perf_counter() - started)


def timed(action: Callable[[], T]) -> tuple[float, T]:
    """Return the seconds that an action takes, by the wall clock, and its result."""
    started = time.perf_counter()
    result = action()
    return time.perf_counter() - started, result


def peak_memory() -> float:
    """Return the process's peak resident memory in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
