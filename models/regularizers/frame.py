"""The study's penalties: the rows of a layer's matrix W should be a frame, A I <= W^T W <= B I.

Source: A. D. Grigoriev, MIPT 2022; Gneushev, Grigoriev, Matveev, J. Comput. Syst. Sci. Int. 2022 no. 6. W is the
block-Toeplitz matrix T of a convolution. If T has fewer rows than columns, T^T T is always singular; the rows should
then be a Riesz sequence with the same bounds, A I <= T T^T <= B I.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch

from framebench.errors import DivergedError, InputError
from framebench.models.operators import fourier_blocks
from framebench.models.regularizers.base import Regularizer, require_at_least, require_choice
from framebench.models.regularizers.gram import gershgorin_rows, gram, mean_diagonal
from framebench.models.regularizers.layers import Layer
from framebench.seeding import generator

_TINY = 1e-30  # keeps the relative form of an all-zero layer finite


@dataclass(frozen=True, kw_only=True)
class FrameBounds(Regularizer):
    """Options of both penalties. The upper bound replaces the layers' weight decay, which relative bounds keep.

    Attributes:
        lower: The frame bound A, at least 0.
        upper: The frame bound B, at least A.
        relative: Whether the Gram V is divided by the mean of its diagonal first. One absolute [A, B] doesn't fit all
            layers at initialisation (torch's own, of variance 1 / (3 c_in k^2)): that mean is 1/3, and more where
            c_out > s^2 c_in, which makes it c_out / (3 s^2 c_in): 2.7 and 7.1 in the stems of speednet (width 48) and
            resnet18. Relative bounds limit the condition number of a layer and leave its scale free.
        side: The bounds to enforce: "both", "lower" or "upper".
    """

    lower: float = 0.5
    upper: float = 1.5
    relative: bool = False
    side: Literal["both", "lower", "upper"] = "both"

    weight_decay: ClassVar[bool] = False

    @property
    def holds_scale(self) -> bool:
        """Not if relative or without an upper bound: without decay the scale then grows as long as training lasts."""
        return super().holds_scale and not self.relative and self.side != "lower"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(0, lower=self.lower, upper=self.upper)
        require_choice(("both", "lower", "upper"), side=self.side)
        if self.lower > self.upper:
            raise InputError(f"the lower frame bound {self.lower} is above the upper one {self.upper}; swap them")

    def _violations(self, above_lower: torch.Tensor, below_upper: torch.Tensor) -> torch.Tensor:
        """Return the squared negative parts of these margins, summed over the bounds to enforce."""
        if self.side == "lower":
            return above_lower.clamp(max=0).square()
        high = below_upper.clamp(max=0).square()
        return high if self.side == "upper" else above_lower.clamp(max=0).square() + high


@dataclass(frozen=True, kw_only=True)
class Frame(FrameBounds):
    """The study's R(W): rows of W^T W - A I and of B I - W^T W that are not diagonally dominant are penalised.

    With V = W^T W (n x n), S_i = sum over j != i of |v_ij| and M(v) = min(v, 0):

        R(W) = 1/n sum_i [M(v_ii - A - S_i)^2 + M(B - v_ii - S_i)^2]

    R = 0 certifies the frame bounds (Gershgorin), but is far more than they need: S exceeds the true deviation many
    times over. At initialisation R is 12 to 1,600 per convolution (speednet of width 48, resnet18 of width 64). Where
    S_i > v_ii smaller weights are always better, down to W = 0, where R = A^2 is stationary. Start small and warm up,
    or from `delta_orthogonal_`, where R is 0; watch `gershgorin`.

    Differences to the source: the side rule above; the sums leave out j = i, as the criterion that they stand for
    does, unless `literal`; `relative`; `side`.

    Attributes:
        literal: Whether the sums run over all j, as the source's formula has it. The first term is then
            (A + S_i)^2, which asks for less correlation between the columns but not for longer ones, and the second
            M(B - 2 v_ii - S_i)^2. R is at least A^2, and W = 0 attains that.
    """

    warmup: float = 0.1
    literal: bool = False

    # At initialisation the gradient has the norm of that of weight decay 5e-4 for 9.4e-6 (speednet, width 48) and
    # 1.2e-5 (resnet18, width 64).
    gamma: ClassVar[float] = 1e-5
    every: ClassVar[int] = 5  # an application takes 0.38 of a step (ResNet-18, width 64, batch 128, one CPU core)

    def penalty(self, layer: Layer) -> torch.Tensor:
        """Return R of one layer's block-Toeplitz matrix on any map of at least 2k - 1 positions per side."""
        v, s = gershgorin_rows(layer.operator_kernel())
        if self.relative:
            scale = v.mean().clamp(min=_TINY)
            v, s = v / scale, s / scale
        if self.literal:
            s = s + v
        return self._violations(v - self.lower - s, self.upper - v - s).mean()


@dataclass(frozen=True, kw_only=True)
class FrameSpectral(FrameBounds):
    """The same bounds, for the eigenvalues of W^T W instead of Gershgorin's intervals.

        R(W) = mean over the eigenvalues lambda of W^T W of [M(lambda - A)^2 + M(B - lambda)^2]

    The eigenvalues are those of the layer's circular convolution on a map with grid x grid outputs, one small Gram per
    frequency (`framebench.models.operators.fourier_blocks`). As functions of the frequency the Grams are trigonometric
    polynomials of degree ceil(k/s) - 1, so that a coarse grid tells nearly all: against a grid of 32 the gradient on
    48 channels, 3x3, at initialisation is off by 46% for 4, 19% for 5, 2.3% for 8 and 0.4% for 12. Gradients go through
    the eigenvalues of the Hermitian Grams and stay finite where eigenvalues coincide.

    On a logarithmic scale the two differences are log(lambda + offset) - log(A + offset) and log(B + offset) -
    log(lambda + offset). Ratios count then: the gradient no longer grows with an eigenvalue far above B, where the
    linear scale may let a training diverge, and an eigenvalue near 0 is a large violation. The offset limits the
    gradient there: the logarithm's derivative by a singular value is at most 1 / sqrt(offset).

    It is not part of the study. Most of its cost are the eigenvalue problems: 40 per 3x3 layer on the default grid.

    Attributes:
        grid: Outputs per side of the map, at least 1.
        scale: "linear" or "log".
        offset: Added to eigenvalues and bounds under the logarithm, at least 1e-6; not used on a linear scale.
        sample: Number of frequencies drawn at each application, 0 for the whole grid. Value and gradient are then
            unbiased estimates of those of the grid.
        seed: Seed of the draws.
    """

    grid: int = 8
    sample: int = 0
    seed: int = 0
    scale: Literal["linear", "log"] = "linear"
    offset: float = 0.02

    # What matches weight decay 5e-4 as in `Frame` is 1.5e-3 (speednet) and 5e-4 (resnet18), most of it for the stem;
    # layer by layer the median is 0.06 and 0.15. With 1e-2, trainings of speednet diverge: in the study's 8 epochs, and
    # in epoch 9 of 44 at width 48.
    gamma: ClassVar[float] = 1e-3
    every: ClassVar[int] = 4  # an application takes 0.26 of a step, of which nearly all is for 512 channels
    training_options: ClassVar[dict[str, Any]] = {"sample": 2}

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(1, grid=self.grid)
        require_at_least(0, sample=self.sample)
        require_choice(("linear", "log"), scale=self.scale)
        require_at_least(1e-6, offset=self.offset)

    def penalty(self, layer: Layer) -> torch.Tensor:
        """Return R of one layer on the grid, or its estimate.

        Raises:
            DivergedError: if the weights are not finite.
        """
        kernel = layer.operator_kernel()
        if self.relative:
            kernel = kernel / mean_diagonal(kernel).clamp(min=_TINY).sqrt()
        blocks, weights = self._blocks(layer, kernel)
        try:
            spectrum: torch.Tensor = torch.linalg.eigvalsh(gram(blocks))
        except torch.linalg.LinAlgError:  # type: ignore[attr-defined]  # of weights that are NaN or infinite
            raise DivergedError(f"the layer {layer.name} has no eigenvalues: its weights are not finite any more; "
                                "train with a lower learning rate or coefficient") from None
        lower, upper = self.lower, self.upper
        if self.scale == "log":
            spectrum = (spectrum.clamp(min=0) + self.offset).log()  # rounding may leave the smallest below 0
            lower, upper = math.log(lower + self.offset), math.log(upper + self.offset)
        penalties = self._violations(spectrum - lower, upper - spectrum).mean(1)
        return (penalties * weights).sum() / weights.sum()

    def _blocks(self, layer: Layer, kernel: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the Fourier blocks of the grid, or of frequencies drawn from it, and their weights."""
        # The spectrum of a kernel of one tap is the same at all frequencies.
        size = 1 if kernel.shape[3] == 1 else self.grid, 1 if kernel.shape[4] == 1 else self.grid
        if not self.sample or size == (1, 1):
            return fourier_blocks(kernel.flatten(0, 1), size, groups=kernel.shape[0])
        draws = generator(self.seed, f"frame-spectral {layer.name}", self._count(layer))
        turns = [torch.from_numpy(draws.integers(n, size=self.sample)).to(kernel) / n for n in size]
        blocks = _blocks_at(kernel, *turns)
        return blocks, torch.ones(len(blocks), device=kernel.device, dtype=kernel.dtype)


def _blocks_at(kernel: torch.Tensor, turns_h: torch.Tensor, turns_w: torch.Tensor) -> torch.Tensor:
    """Return the Fourier blocks of a kernel at single frequencies.

    Args:
        kernel: [groups, m, n, k_h, k_w], of stride 1.
        turns_h: Vertical frequencies [f] in turns per position.
        turns_w: Horizontal frequencies [f].

    Returns:
        complex [groups * f, m, n].
    """
    taps_h, taps_w = (torch.arange(k, device=kernel.device, dtype=kernel.dtype) for k in kernel.shape[3:])
    phase = -2 * math.pi * ((turns_h[:, None] * taps_h)[:, :, None] + (turns_w[:, None] * taps_w)[:, None])
    waves = torch.polar(torch.ones_like(phase), phase)
    return torch.einsum("fhw,gmnhw->gfmn", waves, kernel.to(waves.dtype)).flatten(0, 1)
