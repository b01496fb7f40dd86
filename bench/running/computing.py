"""Where and with what is computed, which changes the speed and not the rows."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch

from bench.options.common import Batched
from framebench.errors import InputError


@dataclass(frozen=True)
class Computing:
    """How to compute.

    Attributes:
        device: Where.
        threads: CPU threads.
        batch_size: Images per forward pass.
        timed: Whether a timing may choose how these are split on a CPU (`bench.running.timing`).
    """

    device: torch.device
    threads: int
    batch_size: int
    timed: bool = False


def computing(options: Batched) -> Computing:
    """Return how to compute.

    Raises:
        InputError: if torch does not know the device or it is not there.
    """
    return Computing(device(options.device), threads(options.threads), options.batch_size,
                     timed="batch_size" not in options.given)


def threads(given: int | None) -> int:
    """Return the number of CPU threads: those given, else one for each core that this process may use."""
    return given or len(os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1))


def device(name: str) -> torch.device:
    """Return the torch device that --device names.

    Raises:
        InputError: if torch does not know it or it is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(name)
        torch.zeros(1, device=chosen).item()  # what has no values, such as meta, can't
    except (RuntimeError, AssertionError, NotImplementedError, ImportError):  # the last for one without a torch.NAME
        raise InputError(f"the device '{name}' is not available here; use --device cpu") from None
    return chosen
