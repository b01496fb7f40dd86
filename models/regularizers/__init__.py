"""Regularizers of convolutions and linear layers, by name, behind one interface.

>>> penalty = REGULARIZERS["frame"](lower=0.5, upper=1.5)
>>> loss = cross_entropy + penalty.gamma * penalty(model)

Each takes layers by kind (`layers.KINDS`), is correct for any stride, dilation and number of groups, and says how it is
trained with: `weight_decay`, `gamma`, `schedule` (of its options `warmup` and `steps`), `every` (`base.Regularizer`).
"""

from __future__ import annotations

import dataclasses
from typing import Any

from framebench.errors import unknown
from framebench.models.regularizers.base import Regularizer
from framebench.models.regularizers.frame import Frame, FrameSpectral
from framebench.models.regularizers.gram import gershgorin
from framebench.models.regularizers.hyperspherical import HypersphericalEnergy, HypersphericalEnergyReference
from framebench.models.regularizers.layers import KINDS, OCNN_LAYERS
from framebench.models.regularizers.orthogonal import (
    DoubleSoftOrthogonality,
    MutualCoherence,
    OrthogonalConvolution,
    OrthogonalConvolutionReference,
    SoftOrthogonality,
    SpectralRestrictedIsometry,
    SpectralRestrictedIsometryReference,
)
from framebench.models.regularizers.schedule import Schedule

__all__ = ["KINDS", "OCNN_LAYERS", "REGULARIZERS", "Regularizer", "Schedule", "build", "gershgorin"]

#: The study's two forms, the rivals it compares with, and three of these with their reference code's behaviour.
REGULARIZERS: dict[str, type[Regularizer]] = {
    "frame": Frame,
    "frame-spectral": FrameSpectral,
    "mhe": HypersphericalEnergy,
    "mhe-ref": HypersphericalEnergyReference,
    "so": SoftOrthogonality,
    "dso": DoubleSoftOrthogonality,
    "mc": MutualCoherence,
    "srip": SpectralRestrictedIsometry,
    "srip-ref": SpectralRestrictedIsometryReference,
    "ocnn": OrthogonalConvolution,
    "ocnn-ref": OrthogonalConvolutionReference,
}


def build(name: str, **options: Any) -> Regularizer:
    """Build a regularizer from names that a user gave.

    Args:
        name: A name of `REGULARIZERS`.
        options: Fields of its class.

    Raises:
        InputError: for an unknown name or option, or a value that an option can't have.
    """
    if name not in REGULARIZERS:
        raise unknown("regularizer", name, REGULARIZERS)
    kind = REGULARIZERS[name]
    known = [field.name for field in dataclasses.fields(kind) if field.init]
    for option in options:
        if option not in known:
            raise unknown(f"option of {name}", option, known)
    return kind(**options)
