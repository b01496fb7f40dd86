"""Layers as linear operators: the blocks of a circular convolution, and extreme eigenvalues from products alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import scipy.linalg
import torch

from framebench.errors import InputError

#: Beyond this share of the largest eigenvalue, rounding errors of float64 hide what is left.
_ROUNDING = 1e-13
#: Steps of Lanczos' method between two looks at what has converged: a look costs about a millisecond.
_LOOK = 20


@dataclass(frozen=True)
class Extremes:
    """The extreme eigenvalues of a symmetric map as far as Lanczos' method found them.

    Attributes:
        lower: Not below the smallest eigenvalue.
        upper: Not above the largest.
        lower_converged: Whether an eigenvalue lies within the tolerance of `lower`. If not, the smallest may be far
            below it.
        upper_converged: The same of `upper`.
        steps: Products with the map that it took.
    """

    lower: float
    upper: float
    lower_converged: bool
    upper_converged: bool
    steps: int


def fourier_blocks(weight: torch.Tensor, size: tuple[int, int], *, stride: tuple[int, int] = (1, 1),
                   dilation: tuple[int, int] = (1, 1), groups: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """Block-diagonalise the circular convolution of a kernel on an H x W map (Sedghi 2019, arXiv 1805.10408).

    In the basis of (unitary) Fourier modes the block-Toeplitz matrix T of the convolution falls apart into one small
    matrix per frequency of the output; with stride s its columns are the input channels at the s_h * s_w frequencies
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


def lanczos(gram: Callable[[torch.Tensor], torch.Tensor], start: torch.Tensor, *, tolerance: float,
            steps: int) -> Extremes:
    """Find the extreme eigenvalues of a positive semidefinite map (Lanczos 1950).

    How far a Ritz value has converged is known: with T_k s = theta s, |s| = 1, of the tridiagonal matrix after k steps,
    an eigenvalue lies within beta_k |s_k| of theta (Paige 1976, who shows that it survives rounding errors). That it
    is the extreme one is what a random start finds, not what is proven. No basis is kept: losing orthogonality repeats
    extreme values but does not move them (ibid.), and memory stays at a few vectors.

    Args:
        gram: The map.
        start: Where to start, float64, not 0; only the eigenvectors that it has a part of are seen.
        tolerance: Largest beta_k |s_k| of a converged value, relative to it; 1e-13 of the largest value is enough
            in any case.
        steps: At most so many products with the map, 1 or more.
    """
    vector = start / start.norm()
    previous, beta = torch.zeros_like(vector), 0.0
    diagonal: list[float] = []
    beside: list[float] = []
    while True:
        product = gram(vector) - beta * previous
        diagonal.append(float((product * vector).sum()))
        product -= diagonal[-1] * vector
        beta = float(product.norm())
        beside.append(beta)
        exhausted = beta <= _ROUNDING * max(diagonal)  # no direction is left: the values are exact
        if exhausted or len(diagonal) == steps or len(diagonal) % _LOOK == 0:
            found = _extremes(diagonal, beside, tolerance)
            if exhausted or len(diagonal) == steps or (found.lower_converged and found.upper_converged):
                return found
        previous, vector = vector, product / beta


def _extremes(diagonal: list[float], beside: list[float], tolerance: float) -> Extremes:
    """Return the extreme Ritz values; the last entry of `beside` is the norm of what the next step would start from."""
    values, residuals = [], []
    for end in (0, len(diagonal) - 1):
        value, vector = scipy.linalg.eigh_tridiagonal(diagonal, beside[:-1], select="i", select_range=(end, end))
        values.append(max(float(value[0]), 0.0))
        residuals.append(beside[-1] * abs(float(vector[-1, 0])))
    lower, upper = (residual <= max(tolerance * value, _ROUNDING * values[1])
                    for value, residual in zip(values, residuals, strict=True))
    return Extremes(values[0], values[1], lower, upper, len(diagonal))
