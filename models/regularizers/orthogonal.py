"""Penalties that pull a layer towards an orthogonal matrix: SO, DSO, MC, SRIP and OCNN.

Those of Bansal et al. 2018 (arXiv 1810.09102) treat a convolution's filters as the rows of a flattened matrix X,
c_out x (c_in k_h k_w), for any stride and overlap; OCNN uses the operator of the convolution. All but DSO use the
smaller Gram of X, since the larger one can't be the identity. A grouped convolution's matrix has one block per group.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch.nn import functional as F  # noqa: N812

from framebench.errors import InputError
from framebench.models.regularizers.base import Regularizer, require_at_least, seeded_normal
from framebench.models.regularizers.gram import gram, half_gram
from framebench.models.regularizers.layers import Layer
from framebench.models.regularizers.schedule import Steps


@dataclass(frozen=True, kw_only=True)
class SoftOrthogonality(Regularizer):
    """SO: ||X^T X - I||_F^2, on the smaller Gram (arXiv 1810.09102; there on the c_out x c_out one)."""

    gamma: ClassVar[float] = 1e-3  # usual: 1e-4 to 1e-2

    def penalty(self, layer: Layer) -> torch.Tensor:
        """Return the squared deviation of one layer."""
        return _deviation(layer.tall_matrix()).square().sum()


@dataclass(frozen=True, kw_only=True)
class DoubleSoftOrthogonality(Regularizer):
    """DSO: ||X^T X - I||_F^2 + ||X X^T - I||_F^2 (arXiv 1810.09102).

    Since ||X X^T - I||_F^2 = ||X^T X - I||_F^2 + m - n for X of m x n, the sum is computed from the smaller Gram alone;
    it is at least m - n, and its gradient is twice that of SO.
    """

    gamma: ClassVar[float] = 1e-3  # usual: 1e-4 to 1e-2

    def penalty(self, layer: Layer) -> torch.Tensor:
        """Return both squared deviations of one layer."""
        matrix = layer.tall_matrix()
        groups, m, n = matrix.shape
        return 2 * _deviation(matrix).square().sum() + groups * (m - n)


@dataclass(frozen=True, kw_only=True)
class MutualCoherence(Regularizer):
    """MC: the largest absolute entry of X^T X - I, on the smaller Gram (arXiv 1810.09102).

    The paper's infinity norm is read as the largest entry, not as the largest row sum: this is the mutual coherence of
    unit columns. Its gradient reaches two columns per step.
    """

    gamma: ClassVar[float] = 1e-2  # the top of the usual range: the value is one entry, not a sum of squares

    def penalty(self, layer: Layer) -> torch.Tensor:
        """Return the largest entry of one layer."""
        return _deviation(layer.tall_matrix()).abs().max()


def _deviation(matrix: torch.Tensor) -> torch.Tensor:
    """Return X^T X - I for matrices [..., m, n]."""
    return gram(matrix) - torch.eye(matrix.shape[-1], device=matrix.device, dtype=matrix.dtype)


#: Power iterations before each value; more would take hours for each step of a training.
_MOST_ITERATIONS = 10_000

# Coefficient 1e-2 times 1e-1, 1e-2, 1e-4, 0 from epochs 20, 50, 70, 120 of 200.
_SRIP_STEPS: Steps = ((0.1, 1e-1), (0.25, 1e-2), (0.35, 1e-4), (0.6, 0.0))


@dataclass(frozen=True, kw_only=True)
class SpectralRestrictedIsometry(Regularizer):
    """SRIP: sigma(X^T X - I)^2, the largest deviation of an eigenvalue from 1 (arXiv 1810.09102).

    sigma^2 is estimated as |M v|^2, M = X^T X - I, at a unit vector v from power iteration, by products with X and X^T
    only. It is a lower bound, exact once v has converged, even to a mixture of the eigenvectors of +sigma and -sigma.

    Differences to the reference: the smaller Gram (there X^T X always, c_in k^2 per side, which for fewer filters than
    that is at least 1 away from I); v persists from step to step, so that it converges as the weights settle and the
    value belongs to the weights, not to a draw; no gradient flows through v, as is exact at convergence.

    Attributes:
        iterations: Power iterations before each value; 0 leaves v as it is.
        seed: Seed of the first v.
    """

    steps: Steps = _SRIP_STEPS
    iterations: int = 1
    seed: int = 0

    gamma: ClassVar[float] = 1e-2

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(0, iterations=self.iterations)
        if self.iterations > _MOST_ITERATIONS:
            raise InputError(f"the option iterations must be at most {_MOST_ITERATIONS}, not {self.iterations}; "
                             "each training step continues from the last vector")

    def penalty(self, layer: Layer) -> torch.Tensor:
        """Return the estimate of sigma^2 of one layer, the largest of its groups."""
        matrix = layer.tall_matrix()
        v = self._vector(layer, matrix.detach())
        return _apply(matrix, v).square().sum(1).max()

    def _vector(self, layer: Layer, matrix: torch.Tensor) -> torch.Tensor:
        groups, _, n = matrix.shape
        v = self._state.get(layer.name)
        if v is None or v.shape != (groups, n, 1):
            v = F.normalize(seeded_normal((groups, n, 1), matrix, self.seed, f"srip {layer.name}"), dim=1)
        v = v.to(matrix)
        with torch.no_grad():
            for _ in range(self.iterations):
                image = _apply(matrix, v)
                norm = image.norm(dim=1, keepdim=True)
                v = torch.where(norm > 0, image / norm, v)  # an orthogonal matrix maps all to 0: keep v
        self._remember(layer, v)
        return v


@dataclass(frozen=True, kw_only=True)
class SpectralRestrictedIsometryReference(Regularizer):
    """SRIP as its reference code has it, to replay published results.

    X^T X is taken on the side of c_in k^2 whatever the shape (a floor of 1 wherever c_out is less); each value starts
    from a new random u: v = M u / |M u|, sigma = |M v|, and the gradient flows through v. So the value changes with
    frozen weights. The draws are seeded here.

    Attributes:
        seed: Seed of the draws.
    """

    steps: Steps = _SRIP_STEPS
    seed: int = 0

    gamma: ClassVar[float] = 1e-2

    def penalty(self, layer: Layer) -> torch.Tensor:
        """Return the estimate of sigma^2 of one layer, the largest of its groups."""
        matrix = layer.matrix()
        groups, _, n = matrix.shape
        u = seeded_normal((groups, n, 1), matrix, self.seed, f"srip-ref {layer.name}", self._count(layer))
        v = F.normalize(_apply(matrix, u), dim=1)
        return _apply(matrix, v).square().sum(1).max()


def _apply(matrix: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Return (X^T X - I) v for matrices [groups, m, n] and vectors [groups, n, 1]."""
    return matrix.mT @ (matrix @ v) - v


@dataclass(frozen=True, kw_only=True)
class OrthogonalConvolution(Regularizer):
    """OCNN: ||V - I||_F, not squared (Wang et al. 2020, arXiv 1911.12207), V the Gram that the side rule says.

    One block row of V, the n channels at one position against all others (`half_gram`); for T T^T that is
    conv2d(K, K, stride=s, padding=floor((k-1)/s) s) minus the identity at its centre. Kernels that don't overlap, 1x1
    and linear layers among them, come to the flattened matrix by themselves. The policy of the reference is
    ``layers=OCNN_LAYERS``: the shortcuts and each block's first convolution, not the stem and not the classifier.

    Differences to the reference: the padding, which callers there leave at 1; all layers by default; where
    c_out > s*s*c_in the reference's T T^T can't be the identity, T^T T is taken (for squares the two differ by a
    constant).
    """

    # The reference code has 0.1 to 0.5, the paper 0.01. The penalty is not squared, so that its gradient does not fade
    # near the goal, where a learning rate of 0.4 shakes the layers.
    gamma: ClassVar[float] = 1e-3
    every: ClassVar[int] = 5  # the same Gram as the frame penalty's

    def penalty(self, layer: Layer) -> torch.Tensor:
        """Return the deviation of one layer."""
        v = half_gram(layer.operator_kernel())
        identity = torch.eye(v.shape[1], device=v.device, dtype=v.dtype)
        halves = _frobenius(v[:, :, 0] - identity), math.sqrt(2) * _frobenius(v[:, :, 1:])
        return _frobenius(torch.stack(halves))


@dataclass(frozen=True, kw_only=True)
class OrthogonalConvolutionReference(Regularizer):
    """OCNN as its reference code is called, to replay published results.

    ||conv2d(K, K, stride=s, padding=1) - I_centre||_F. For 3x3 kernels the padding should be 2. With 1, displacements
    of 2 are not seen at stride 1, so that kernels far from orthogonal score 0; at stride 2 the centre tap of the
    result is not the one of displacement 0, so that orthogonal kernels score like the zero kernel. Kernels that don't
    overlap (k <= s) and linear layers: the smaller Gram of the flattened matrix, as there.

    Difference to the reference: the convolution is a product with the kernel's patches, the same sums; TF32, which
    conv2d and its gradient take on CUDA unless told otherwise, has ten bits of mantissa.
    """

    gamma: ClassVar[float] = 0.1
    every: ClassVar[int] = 5  # the same Gram as the frame penalty's

    def penalty(self, layer: Layer) -> torch.Tensor:
        """Return the deviation of one layer; that of all its groups together."""
        weight, step = layer.weight, layer.step
        if step[0] >= weight.shape[2] and step[1] >= weight.shape[3]:
            return _frobenius(_deviation(layer.tall_matrix()))
        kernels = weight.chunk(layer.groups)
        grams = torch.stack([_self_convolution(k, step) for k in kernels])
        centre = torch.zeros_like(grams)
        centre[..., grams.shape[-2] // 2, grams.shape[-1] // 2] = torch.eye(grams.shape[1]).to(grams)
        return _frobenius(grams - centre)


def _self_convolution(kernel: torch.Tensor, stride: tuple[int, int]) -> torch.Tensor:
    """Return conv2d(kernel, kernel, stride, padding=1) for a kernel [o, c, k_h, k_w]: [o, o, h, w]."""
    k_h, k_w = kernel.shape[2:]
    patches = F.unfold(kernel, (k_h, k_w), padding=1, stride=stride)
    return torch.unflatten(kernel.flatten(1) @ patches, 2, ((2 // stride[0]) + 1, -1))


def _frobenius(entries: torch.Tensor) -> torch.Tensor:
    """Return the root of the sum of squares; its gradient at 0 is 0, not NaN."""
    norm: torch.Tensor = torch.linalg.vector_norm(entries)
    return norm
