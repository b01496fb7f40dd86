"""MHE: filters spread over the sphere like charges that repel each other."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch.nn import functional as F  # noqa: N812

from framebench.errors import InputError
from framebench.models.regularizers.base import Regularizer, require_at_least
from framebench.models.regularizers.gram import gram
from framebench.models.regularizers.layers import Layer

_OFFSET = 1e-4  # of the reference code: added to squared lengths, and to angles in half turns
_NEAREST = 1e-6  # of 1 - |cos|: below it float32 tells nothing, and the energy or its gradient would be infinite


@dataclass(frozen=True, kw_only=True)
class HypersphericalEnergy(Regularizer):
    """Minimum hyperspherical energy (Liu et al. 2018, arXiv 1805.09298), the mean over pairs of filters.

    The energy of two flattened filters, normalised to length 1, is z^-power, or -log z for power 0, where z is their
    distance |w_i - w_j| = sqrt(2 - 2 cos) or their angle arccos(cos). The half-space form adds the negatives of the
    filters of hidden layers, so that opposite filters are near too; the classifier has no such form. Filters of
    different groups have different inputs and form no pairs.

    Differences to the reference: cos is kept 1e-6 away from 1 and, for angles, from -1, where gradients are infinite;
    the diagonal is left out beforehand; at power 0, the log of the distance as in the paper, not of its square. All
    layers have weight 1 by default, where the reference has 10 for the last one.

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
        cos = gram(directions.mT)
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


@dataclass(frozen=True, kw_only=True)
class HypersphericalEnergyReference(HypersphericalEnergy):
    """MHE as its reference code has it (github.com/wy1iu/MHE), to replay published results; by angles by default.

    - A length is sqrt(|w|^2 + 1e-4), so that the energy sees the scale of short filters.
    - An angle z is in half turns, arccos(cos) / pi + 1e-4, and cos is not kept off +-1. For powers 1 and 2 the energy
      is multiplied by 0.1.
    - At power 0 with distances, -log of the squared distance.
    - All entries of the matrix are computed, then the diagonal and the entries below are subtracted from themselves.

    So if filters are long (in float32 from |w| = 20 or so), the 1e-4 is lost in the rounding of cos: the gradient of
    arccos is infinite on the diagonal, and the gradient of the layer NaN; if cos is rounded above 1, the value too.

    The reference has no groups of channels; they are separate here, as in `mhe`.

    Attributes:
        angular: Whether distances are angles.
        classifier_weight: Factor of the classifier's energy; the reference has 10.
    """

    angular: bool = True
    classifier_weight: float = 10.0

    def penalty(self, layer: Layer) -> torch.Tensor:
        """Return the energy of one layer, the mean over groups; 0 where there are no two filters."""
        filters = layer.matrix()
        hidden = layer.kind != "classifier"
        if self.half and hidden:
            filters = torch.cat([filters, -filters], 1)
        groups, n, _ = filters.shape
        lengths = (filters.square().sum(2, keepdim=True) + _OFFSET).sqrt()
        energy = self._energy(gram(filters.mT) / (lengths @ lengths.mT))
        weight = (1.0 if hidden else self.classifier_weight) * (0.1 if self.angular and self.power else 1.0)
        return weight * (energy - energy.tril()).sum() / max(groups * n * (n - 1) / 2, 1)

    def _energy(self, cos: torch.Tensor) -> torch.Tensor:
        """Return the energy of each entry of matrices of cosines."""
        if self.angular:
            z = cos.arccos() / math.pi + _OFFSET
            return z.pow(-self.power) if self.power else -z.log()
        squared = 2 - 2 * cos + torch.eye(cos.shape[-1], device=cos.device, dtype=cos.dtype)
        return squared.pow(-self.power / 2) if self.power else -squared.log()
