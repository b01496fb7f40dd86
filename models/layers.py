"""Layers that torch lacks."""

from __future__ import annotations

import torch
from torch import nn


class Normalize(nn.Module):
    """Subtract a per-channel mean and divide by a per-channel deviation.

    It is a layer so that models take images in [0, 1]: an attack that clips to [0, 1] is then correct for every model.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise images [n, c, H, W]."""
        return (x - self.mean) / self.std
