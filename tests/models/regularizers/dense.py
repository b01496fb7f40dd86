"""Layers as explicit matrices, and the penalties as their definitions say, for comparison."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812


def toeplitz(conv: nn.Conv2d, size: int) -> torch.Tensor:
    """The matrix [outputs, inputs] of a circular convolution on size x size, from its answers to unit impulses."""
    c_in = conv.in_channels
    impulses = torch.eye(c_in * size * size, dtype=conv.weight.dtype).view(-1, c_in, size, size)
    (k_h, k_w), (d_h, d_w) = conv.kernel_size, conv.dilation
    h, w = d_h * (k_h - 1), d_w * (k_w - 1)
    padded = F.pad(impulses, (w // 2, w - w // 2, h // 2, h - h // 2), mode="circular")
    return F.conv2d(padded, conv.weight, stride=conv.stride, dilation=conv.dilation,
                    groups=conv.groups).flatten(1).T


def gram(layer: nn.Module, size: int) -> torch.Tensor:
    """The Gram on the side of the side rule: of the Toeplitz matrix, or of the flattened one where s >= k."""
    if isinstance(layer, nn.Linear):
        matrix = layer.weight
    elif min(layer.stride) >= max(layer.kernel_size):
        matrix = torch.block_diag(*layer.weight.flatten(1).chunk(layer.groups))
    else:
        matrix = toeplitz(layer, size)
        s_h, s_w = layer.stride
        tall = layer.out_channels >= s_h * s_w * layer.in_channels
        return matrix.T @ matrix if tall else matrix @ matrix.T
    return matrix.T @ matrix if len(matrix) >= matrix.shape[1] else matrix @ matrix.T


def frame(v: torch.Tensor, lower: float, upper: float, *, literal: bool = False, side: str = "both") -> torch.Tensor:
    total = 0
    for i in range(len(v)):
        s = v[i].abs().sum() - (0 if literal else v[i, i].abs())
        if side in ("both", "lower"):
            total = total + torch.minimum(v[i, i] - lower - s, torch.zeros(())) ** 2
        if side in ("both", "upper"):
            total = total + torch.minimum(upper - v[i, i] - s, torch.zeros(())) ** 2
    return total / len(v)


def frame_spectral(v: torch.Tensor, lower: float, upper: float, *, offset: float | None = None,
                   side: str = "both") -> torch.Tensor:
    spectrum = torch.linalg.eigvalsh(v)
    if offset is not None:
        spectrum, lower, upper = (spectrum + offset).log(), math.log(lower + offset), math.log(upper + offset)
    low, high = (spectrum - lower).clamp(max=0) ** 2, (upper - spectrum).clamp(max=0) ** 2
    return {"both": low + high, "lower": low, "upper": high}[side].mean()


def ocnn(v: torch.Tensor, positions: int) -> torch.Tensor:
    """||V - I||_F over the rows of one position of `positions`, which are all alike."""
    return torch.linalg.norm(v - torch.eye(len(v), dtype=v.dtype)) / positions**0.5
