"""Device, threads and batch size, which change the speed but not the rows."""

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
        device: The device.
        threads: CPU threads.
        batch_size: Images per forward pass.
        timed: Whether a timing may choose how a CPU splits batches (`bench.running.timing`).
    """

    device: torch.device
    threads: int
    batch_size: int
    timed: bool = False


def computing(options: Batched) -> Computing:
    """Return how to compute.

    Raises:
        InputError: see `device`.
    """
    return Computing(device(options.device), threads(options.threads), options.batch_size,
                     timed="batch_size" not in options.given)


def threads(given: int | None) -> int:
    """Return the number of CPU threads: the given one, else one per core that this process may use."""
    return given or len(os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1))


def device(name: str) -> torch.device:
    """Return the torch device that --device names.

    Raises:
        InputError: if torch does not know the device or it is not available.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(name)
        torch.zeros(1, device=chosen).item()  # fails for a device without values, such as meta
    except (RuntimeError, AssertionError, NotImplementedError, ImportError):  # ImportError: there is no torch.NAME
        raise InputError(f"the device '{name}' is not available here; use --device cpu") from None
    return chosen
