"""Layers as linear operators: the blocks of a circular convolution, and extreme eigenvalues from products alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import scipy.linalg
import torch

from framebench.errors import InputError

#: Share of the largest eigenvalue that is lost in rounding errors of float64.
_ROUNDING = 1e-13
#: Steps of Lanczos' method between two checks of convergence; a check takes about a millisecond.
_LOOK = 20


@dataclass(frozen=True)
class Extremes:
    """Estimates of the extreme eigenvalues of a symmetric map, by Lanczos' method.

    Attributes:
        lower: An upper bound of the smallest eigenvalue.
        upper: A lower bound of the largest eigenvalue.
        lower_converged: Whether an eigenvalue lies within the tolerance of `lower`. If not, the smallest may be far
            below it.
        upper_converged: The same for `upper`.
        steps: Number of products with the map.
    """

    lower: float
    upper: float
    lower_converged: bool
    upper_converged: bool
    steps: int


def fourier_blocks(weight: torch.Tensor, size: tuple[int, int], *, stride: tuple[int, int] = (1, 1),
                   dilation: tuple[int, int] = (1, 1), groups: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """Block-diagonalise the circular convolution of a kernel on an H x W map (Sedghi 2019, arXiv 1805.10408).

    In the basis of (unitary) Fourier modes, the block-Toeplitz matrix T of the convolution is block-diagonal, with one
    small block per frequency of the output. With stride s, the columns of a block are the input channels at the
    s_h * s_w frequencies that alias onto it. The singular values of all blocks are those of T. Padding only shifts the
    output, which multiplies columns by phases and does not change them. The kernel is real, so the blocks at u and -u
    are conjugate up to the order of columns, and only one of each pair is returned.

    Args:
        weight: The kernel [c_out, c_in / groups, k_h, k_w]. Differentiable.
        size: Input height H and width W, multiples of the stride.
        stride: Vertical and horizontal stride.
        dilation: Vertical and horizontal dilation.
        groups: Groups of the convolution, each with its own blocks.

    Returns:
        blocks: complex [groups * frequencies, c_out / groups, c_in / groups * s_h * s_w].
        weights: float [groups * frequencies], 2 if a block also represents its conjugate, else 1; their sum is
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
    """Estimate the extreme eigenvalues of a positive semidefinite map (Lanczos 1950).

    The convergence of a Ritz value can be checked: with T_k s = theta s, |s| = 1, for the tridiagonal matrix T_k after
    k steps, an eigenvalue lies within beta_k |s_k| of theta, in spite of rounding errors (Paige 1976). That it is an
    extreme one is likely for a random start, but not proven. No basis is stored: a loss of orthogonality repeats
    extreme values but does not change them (ibid.).

    Args:
        gram: The map.
        start: Start vector, float64, not 0; eigenvectors orthogonal to it are not found.
        tolerance: Largest beta_k |s_k| of a converged value, relative to the value; 1e-13 of the largest value is
            always accepted.
        steps: Largest number of products with the map, at least 1.
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
        exhausted = beta <= _ROUNDING * max(diagonal)  # the Krylov space is complete: the values are exact
        if exhausted or len(diagonal) == steps or len(diagonal) % _LOOK == 0:
            extremes = _extremes(diagonal, beside, tolerance)
            if exhausted or len(diagonal) == steps or (extremes.lower_converged and extremes.upper_converged):
                return extremes
        previous, vector = vector, product / beta


def _extremes(diagonal: list[float], beside: list[float], tolerance: float) -> Extremes:
    """Return the extreme Ritz values; the last entry of `beside` is the norm of the next residual."""
    values, residuals = [], []
    for end in (0, len(diagonal) - 1):
        value, vector = scipy.linalg.eigh_tridiagonal(diagonal, beside[:-1], select="i", select_range=(end, end))
        values.append(max(float(value[0]), 0.0))
        residuals.append(beside[-1] * abs(float(vector[-1, 0])))
    lower, upper = (residual <= max(tolerance * value, _ROUNDING * values[1])
                    for value, residual in zip(values, residuals, strict=True))
    return Extremes(values[0], values[1], lower, upper, len(diagonal))
