"""MHE: filters spread over the sphere like charges that repel each other."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch.nn import functional as F  # noqa: N812

from framebench.errors import InputError
from models.regularizers.base import Regularizer, require_at_least
from models.regularizers.layers import Layer

_NEAREST = 1e-6  # of 1 - |cos|: below it float32 tells nothing, and the energy or its gradient would be infinite


@dataclass(frozen=True, kw_only=True)
class HypersphericalEnergy(Regularizer):
    """Minimum hyperspherical energy (Liu et al. 2018, arXiv 1805.09298), the mean over pairs of filters.

    With the flattened filters w_i, normalised to length 1, and z the distance |w_i - w_j| = sqrt(2 - 2 cos), or the
    angle arccos(cos) between them: z^-power, and -log z for power 0. The half-space form takes the filters of hidden
    layers together with their negatives, 2N vectors, so that opposite filters count as near too; the classifier has
    none. Filters of different groups look at different inputs and are no pair.

    Differences to the reference: cos is kept 1e-6 away from 1 and, for the angle, from -1, where gradients are
    infinite; the diagonal is left out instead of being masked after the fact; at power 0 the paper's log of the
    distance, not of its square. All layers weigh 1 by default, there the last one 10.

    Attributes:
        power: 0, 1 or 2, the s of the s-energy.
        angular: Whether distances are angles.
        half: Whether hidden layers take the half-space form.
        classifier_weight: Factor of the classifier's energy.
    """

    power: int = 2
    angular: bool = False
    half: bool = False
    classifier_weight: float = 1.0

    gamma: ClassVar[float] = 1.0
    every: ClassVar[int] = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(0, classifier_weight=self.classifier_weight)
        if self.power not in (0, 1, 2):
            raise InputError(f"the power of the hyperspherical energy must be 0, 1 or 2, not {self.power}")

    def penalty(self, layer: Layer) -> torch.Tensor:
        """Return the energy of one layer; 0 where there are no two filters."""
        directions = F.normalize(layer.matrix(), dim=2)
        groups, n, _ = directions.shape
        cos = directions @ directions.mT
        diagonal = torch.eye(n, dtype=torch.bool, device=cos.device)
        # The diagonal is replaced before the energy, too: a gradient that is infinite there would be NaN times 0.
        cos = cos.masked_fill(diagonal, 0)
        half = self.half and layer.kind != "classifier"
        energy = self._energy(cos) + self._energy(-cos) if half else self._energy(cos)
        total = energy.masked_fill(diagonal, 0).sum()
        pairs = n * (n - 1)
        if half:  # every ordered pair above stands for two pairs of the 2n vectors; the n pairs (w, -w) are left
            opposite = math.pi if self.angular else 2.0
            total = total + groups * n * (opposite**-self.power if self.power else -math.log(opposite))
            pairs = n * (2 * n - 1)
        weight = self.classifier_weight if layer.kind == "classifier" else 1.0
        return weight * total / max(groups * pairs, 1)

    def _energy(self, cos: torch.Tensor) -> torch.Tensor:
        """Return the energy of two unit vectors of this cosine, elementwise."""
        if self.angular:
            z = cos.clamp(-1 + _NEAREST, 1 - _NEAREST).arccos()
            return z.pow(-self.power) if self.power else -z.log()
        squared = (2 - 2 * cos).clamp(min=2 * _NEAREST)
        if self.power == 2:
            return squared.reciprocal()
        return squared.rsqrt() if self.power else -0.5 * squared.log()
