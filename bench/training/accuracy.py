"""Measures clean accuracy for a checkpoint's card."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import nn

from framebench.domains import Domain
from framebench.progress import progress


def batches(domain: Domain, ids: np.ndarray, device: torch.device, size: int,
            title: str) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield the examples `ids` in batches of images and labels on a device, with a progress bar."""
    with progress(len(ids), desc=title, unit="image") as bar:
        for start in range(0, len(ids), size):
            x, y = domain.load(ids[start : start + size])
            yield x.to(device), y.to(device)
            bar.update(len(y))


@torch.inference_mode()
def measure(model: nn.Module, domain: Domain, device: torch.device, *, ids: np.ndarray | None = None,
            title: str | None = None) -> dict[str, Any]:
    """Measure a model's accuracy.

    Args:
        model: In eval mode, on the device.
        domain: The images.
        device: The device.
        ids: Ids of the images; None for all.
        title: Their title in the card; None for the domain's title.

    Returns:
        An entry of `framebench.models.checkpoint.Card.accuracy`: data, n, correct, accuracy.
    """
    chosen = np.arange(len(domain)) if ids is None else ids
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):  # as `framebench.models.predictor` computes
        correct = sum(int((model(x).argmax(1) == y).sum())
                      for x, y in batches(domain, chosen, device, 500, "measuring"))
    return {"data": title or domain.title, "n": len(chosen), "correct": correct, "accuracy": correct / len(chosen)}
