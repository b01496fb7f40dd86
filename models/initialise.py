"""Orthogonal initialisation: each layer starts as an isometry, where the frame penalty is 0.

Delta-orthogonal kernels are from Xiao et al. 2018 (arXiv 1806.05393): an orthogonal matrix at the centre tap, zeros
elsewhere. Differences to the source: with fewer outputs than inputs the rows are orthonormal instead of the columns;
with stride s the matrix spreads over s*s neighbouring taps, one for each polyphase component of the input, since a
single tap would leave all but 1 in s*s input positions unseen; in a grouped convolution each group has a matrix.
"""

from __future__ import annotations

import torch
from torch import nn

from framebench.models.regularizers.base import seeded_normal
from framebench.models.regularizers.layers import Layer, find_layers


@torch.no_grad()
def delta_orthogonal_(module: nn.Module, *, seed: int = 0) -> nn.Module:
    """Set the weights of a model's convolutions and linear layers, in place; biases stay.

    Afterwards W W^T or W^T W, by the side rule of `Layer.operator_kernel`, is the identity for every layer's
    block-Toeplitz matrix W on a circular map.

    Args:
        module: The model.
        seed: Seed of the matrices; each depends only on it and on the layer's name and shape.

    Returns:
        The model.

    Raises:
        InputError: if the model has no such layer.
    """
    for layer in find_layers(module):
        weight = layer.module.weight
        kernel = torch.zeros_like(layer.weight, dtype=torch.float64)
        (s_h, s_w), (k_h, k_w) = layer.step, kernel.shape[2:]
        # For odd kernels padded by k // 2 the taps that see inputs s p ... s p + s - 1 for output p.
        top, left = (k_h - s_h + 1) // 2, (k_w - s_w + 1) // 2
        taps = kernel[:, :, top:top + s_h, left:left + s_w]
        taps.copy_(_orthogonal(layer, taps.shape, seed))
        weight.copy_(kernel.view(weight.shape))
    return module


def _orthogonal(layer: Layer, shape: torch.Size, seed: int) -> torch.Tensor:
    """Draw a matrix [c_out / groups, the rest] a group with orthonormal columns or rows, shaped like the taps."""
    groups, rows = layer.groups, shape[0] // layer.groups
    columns = shape[1:].numel()
    size = groups, max(rows, columns), min(rows, columns)
    like = torch.zeros((), dtype=torch.float64)
    q: torch.Tensor
    q, r = torch.linalg.qr(seeded_normal(size, like, seed, f"delta-orthogonal {layer.name}"))
    q = q * r.diagonal(dim1=1, dim2=2).sign()[:, None]  # makes the draw uniform (Mezzadri 2007, math-ph/0609050)
    return (q if rows >= columns else q.mT).reshape(shape)
