"""Gram matrices: of plain matrices, and of a convolution's block-Toeplitz matrix from the kernel alone."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable

from framebench.models.regularizers.layers import find_layers


def gram(matrix: torch.Tensor) -> torch.Tensor:
    """Return X^H X, [..., n, n]; X^T X of a real X.

    Args:
        matrix: X, [..., m, n]. Differentiable once.
    """
    product: torch.Tensor = _Gram.apply(matrix)
    return product


class _Gram(torch.autograd.Function):
    """X^H X with a backward pass of one product, where autograd's own takes two."""

    @staticmethod
    def forward(ctx: Any, matrix: torch.Tensor) -> torch.Tensor:
        """Map X to X^H X."""
        ctx.save_for_backward(matrix)
        return matrix.mH @ matrix

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        """Map the gradient G of X^H X to that of X, X (G + G^H)."""
        (matrix,) = ctx.saved_tensors
        out: torch.Tensor = matrix @ (grad + grad.mH)
        return out


def half_gram(kernel: torch.Tensor) -> torch.Tensor:
    """Return half of the entries of V = T^T T, one matrix per displacement d of the two positions.

    V[(c, q), (c', q + d)] = sum over outputs o and taps a of K[o, c, a] K[o, c', a + d], the same at all positions q
    of an unbounded or circular map at least 2k - 1 wide. V_-d is the transpose of V_d.

    Args:
        kernel: K, [groups, m, n, k_h, k_w] of stride 1 (`Layer.operator_kernel`). Differentiable once.

    Returns:
        V_d, [groups, n, D, n]: d = 0 first, then one of each pair {d, -d}; D = ((2 k_h - 1) (2 k_w - 1) + 1) / 2.
    """
    k_h, k_w = kernel.shape[3:]
    taps = kernel.permute(0, 1, 3, 4, 2).flatten(2, 3).contiguous()
    rows = torch.arange(k_h, device=kernel.device)[:, None]
    # In raster order of a (2 k_h - 1) x (2 k_w - 1) field the displacement of two taps is the difference of their
    # places, counted from the centre; later taps lie in the half after it.
    places = (rows * (2 * k_w - 1) + torch.arange(k_w, device=kernel.device)).flatten()
    count = ((2 * k_h - 1) * (2 * k_w - 1) + 1) // 2
    gram: torch.Tensor = _HalfGram.apply(taps, places, count)
    return gram


class _HalfGram(torch.autograd.Function):
    """Products of the taps with each other, each pair once, summed by displacement.

    For a 3x3 kernel this takes 45 products of n x m by m x n, where conv2d(K, K, padding=k-1) takes 225, most of them
    with zeros of the padding. The backward pass takes 81, in 9 large products; autograd's own would take 90, and adding
    the gradients of slices. This takes 0.5 (16 channels) to 0.8 (128) of its time.

    On a GPU, where launching costs more than most of these products, all taps are multiplied at once.
    """

    @staticmethod
    def forward(ctx: Any, taps: torch.Tensor, places: torch.Tensor, count: int) -> torch.Tensor:
        """Map taps [g, m, t, n] and their places [t] to V_d [g, n, count, n]."""
        ctx.save_for_backward(taps, places)
        if _at_once(taps):
            return _summed_at_once(taps, places, count)
        g, _, t, n = taps.shape
        gram = taps.new_zeros(g, n, count, n)
        for i in range(t):
            products = taps[:, :, i].mT @ taps[:, :, i:].flatten(2)
            gram.index_add_(2, places[i:] - places[i], products.view(g, n, t - i, n))
        return gram

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        """Map G_d, the gradient of V_d, to that of tap a: sum over b of K_b H_(b - a), H_d = G_d^T, H_-d = G_d."""
        taps, places = ctx.saved_tensors
        g, _, t, n = taps.shape
        half = grad.transpose(1, 2)
        centre = half[:, :1]
        full = torch.cat([half[:, 1:].flip(1), centre + centre.mT, half[:, 1:].mT], 1)
        all_taps = taps.flatten(2)
        if _at_once(taps):
            return _applied_at_once(all_taps, full, places), None, None
        out = torch.empty_like(taps)
        for i in range(t):
            factors = full.index_select(1, places - places[i] + half.shape[1] - 1)
            out[:, :, i] = all_taps @ factors.view(g, t * n, n)
        return out, None, None


def _at_once(taps: torch.Tensor) -> bool:
    return taps.is_cuda


def _summed_at_once(taps: torch.Tensor, places: torch.Tensor, count: int) -> torch.Tensor:
    """Compute `_HalfGram.forward` in two products; on a GPU, sums of index_add_ would differ from run to run."""
    g, _, t, n = taps.shape
    all_taps = taps.flatten(2)
    pairs = (all_taps.mT @ all_taps).view(g, t, n, t, n)
    apart = places - places[:, None]
    # For every d, sum over all pairs at displacement d: a product with zeros and ones.
    chosen = (apart == torch.arange(count, device=taps.device)[:, None, None]).to(taps.dtype)
    summed = chosen.flatten(1) @ pairs.transpose(2, 3).reshape(g, t * t, n * n)
    return summed.view(g, count, n, n).transpose(1, 2)


def _applied_at_once(all_taps: torch.Tensor, full: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Compute the loop of `_HalfGram.backward` in one product."""
    g, m, _ = all_taps.shape
    t, n = len(places), full.shape[2]
    # Block (b, a) of the factor is H_(b - a).
    index = (places[:, None] - places + full.shape[1] // 2).flatten()
    factor = full.index_select(1, index).view(g, t, t, n, n).transpose(2, 3).reshape(g, t * n, t * n)
    return (all_taps @ factor).view(g, m, t, n)


def mean_diagonal(kernel: torch.Tensor) -> torch.Tensor:
    """Return the mean of V's diagonal, the mean of the v of `gershgorin_rows`, from one pass over the kernel."""
    return kernel.square().sum() / (kernel.shape[0] * kernel.shape[2])


def gershgorin_rows(kernel: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the diagonal v and the sums S of the other absolute values of each row of V (see `half_gram`).

    By Gershgorin all eigenvalues of V lie in the intervals [v - S, v + S].

    Returns:
        v and S, each [groups, n].
    """
    gram = half_gram(kernel)
    diagonal = gram[:, :, 0].diagonal(dim1=1, dim2=2)
    absolute = gram.abs()
    displaced = absolute[:, :, 1:]
    sums = absolute.sum((2, 3)) + displaced.sum((1, 2)) - diagonal.abs()  # the rows of V_0 and V_d, and those of V_-d
    return diagonal, sums


@torch.no_grad()
def gershgorin(module: nn.Module) -> dict[str, tuple[float, float]]:
    """Measure how far a model's layers are from collapse, for the log of a training.

    The study's penalty can shrink a layer to nothing: where S > v, smaller weights always have a smaller penalty. A
    sign of this is a v that falls while S / v stays above 1.

    Returns:
        Layer -> means over the rows of v, the diagonal of the Gram (by the rule of `Layer.operator_kernel`), and S.
    """
    means = {}
    for layer in find_layers(module):
        with torch.autocast(layer.module.weight.device.type, enabled=False):
            v, s = gershgorin_rows(layer.operator_kernel())
        means[layer.name] = float(v.mean()), float(s.mean())
    return means
