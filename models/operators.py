"""Layers as linear operators: the blocks into which the Fourier transform splits a circular convolution."""

from __future__ import annotations

import math

import torch

from framebench.errors import InputError


def fourier_blocks(weight: torch.Tensor, size: tuple[int, int], *, stride: tuple[int, int] = (1, 1),
                   dilation: tuple[int, int] = (1, 1), groups: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """Block-diagonalise the circular convolution of a kernel on an H x W map (Sedghi 2019, arXiv 1805.10408).

    In the basis of (unitary) Fourier modes the block-Toeplitz matrix T of the convolution falls apart into one small
    matrix a frequency of the output; with stride s its columns are the input channels at the s_h * s_w frequencies
    that alias onto it. The singular values of all blocks together are those of T. Padding only shifts the output,
    which multiplies columns by phases, and so does not show. The kernel is real, so the blocks at u and -u are
    conjugate up to the order of columns: one of each pair is returned.

    Args:
        weight: The kernel [c_out, c_in / groups, k_h, k_w]. Differentiable.
        size: Input height H and width W, multiples of the stride.
        stride: Vertical and horizontal stride.
        dilation: Vertical and horizontal dilation.
        groups: Groups of the convolution; each is an operator of its own.

    Returns:
        blocks: complex [groups * frequencies, c_out / groups, c_in / groups * s_h * s_w].
        weights: float [groups * frequencies], 2 where a block stands for its conjugate too, else 1; their sum is
            groups * (H / s_h) * (W / s_w).

    Raises:
        InputError: if the size is not a multiple of the stride.
    """
    (height, width), (s_h, s_w) = size, stride
    if height % s_h or width % s_w:
        raise InputError(f"a circular convolution of stride {s_h}x{s_w} needs a map that it divides, not "
                         f"{height}x{width}")
    out_h, out_w = height // s_h, width // s_w
    rows = torch.arange(height, device=weight.device).view(s_h, out_h)
    columns = (torch.arange(s_w, device=weight.device)[:, None] * out_w
               + torch.arange(out_w // 2 + 1, device=weight.device))
    f_h = _waves(rows, weight.shape[2], dilation[0], height, weight.dtype)
    f_w = _waves(columns, weight.shape[3], dilation[1], width, weight.dtype)
    kernel = weight.reshape(groups, -1, *weight.shape[1:]).to(f_h.dtype)
    blocks = torch.einsum("iuh,gochw,jvw->guvocij", f_h, kernel, f_w) / math.sqrt(s_h * s_w)
    v = torch.arange(out_w // 2 + 1, device=weight.device)
    weights = 2 - ((v == 0) | (2 * v == out_w)).to(weight.dtype)
    return blocks.flatten(4).flatten(0, 2), weights.repeat(groups * out_h)


def _waves(frequencies: torch.Tensor, taps: int, dilation: int, n: int, dtype: torch.dtype) -> torch.Tensor:
    """Return exp(-2 pi i f a / n) for every frequency f and tap position a; kernels wider than the map wrap around."""
    turns = (frequencies[..., None] * (torch.arange(taps, device=frequencies.device) * dilation) % n).to(dtype) / n
    return torch.polar(torch.ones_like(turns), -2 * math.pi * turns)
