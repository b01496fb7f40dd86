"""What a training depends on, besides its data."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

import torch

from framebench.errors import InputError, unknown
from models.regularizers import build

INITS = ("default", "delta-orthogonal")
PRECISIONS = ("fp32", "bf16")


@dataclass(frozen=True)
class Recipe:
    """Everything that the weights depend on, besides the data.

    Attributes:
        arch: Architecture, a name of `models.architectures.ARCHITECTURES`.
        width: Channels of its first stage; None for its usual width.
        epochs: Passes over the training part.
        batch_size: Images a step.
        lr: Peak learning rate; it rises linearly from 0 over `warmup` of the steps, then falls linearly to 0.
        warmup: Share of the steps with a rising rate, in [0, 1).
        momentum: Nesterov momentum.
        weight_decay: L2 decay of weight matrices; biases and batch norms have none.
        label_smoothing: Share of the target spread over all classes.
        pad: Crops are shifted by up to this many pixels.
        cutout: Side of the square that is blanked; 0 for none.
        flip: Whether every second view of an image is mirrored; not for digits.
        validation: Images held out of the training set, class-balanced, the same for every seed.
        seed: Seed of initialisation, order and augmentation.
        precision: "fp32", or "bf16" for autocast.
        regularizer: "none", or a name of `models.regularizers.REGULARIZERS`.
        gamma: Coefficient of its penalty.
        regularizer_options: The regularizer's own options; those not given are filled in, so that a card and a run to
            resume say them all, whatever the defaults are by then.
        every: Steps between two applications of the penalty, counted over the whole run; it is multiplied by as much.
        init: "default" (the architecture's own), or "delta-orthogonal" (arXiv 1806.05393).
    """

    arch: str = "resnet18"
    width: int | None = None
    epochs: int = 30
    batch_size: int = 256
    lr: float = 0.4
    warmup: float = 0.2
    momentum: float = 0.9
    weight_decay: float = 5e-4
    label_smoothing: float = 0.1
    pad: int = 4
    cutout: int = 0
    flip: bool = True
    validation: int = 2500
    seed: int = 0
    precision: str = "fp32"
    regularizer: str = "none"
    gamma: float = 0.0
    regularizer_options: dict[str, Any] = field(default_factory=dict)
    every: int = 1
    init: str = "default"

    def __post_init__(self) -> None:
        positive = {"epochs": self.epochs, "batch size": self.batch_size, "learning rate": self.lr,
                    "interval of the penalty": self.every}
        for name, value in positive.items():
            if not value > 0:
                raise InputError(f"the {name} must be above 0, not {value}")
        for name, value in {"warmup": self.warmup, "momentum": self.momentum,
                            "label smoothing": self.label_smoothing}.items():
            if not 0 <= value < 1:
                raise InputError(f"the {name} must lie in [0, 1), not {value}")
        for name, value in {"weight decay": self.weight_decay, "pad": self.pad, "cutout": self.cutout,
                            "validation": self.validation, "gamma": self.gamma}.items():
            if not value >= 0:
                raise InputError(f"the {name} must not be negative, not {value}")
        if self.init not in INITS:
            raise unknown("init", self.init, INITS)
        if self.precision not in PRECISIONS:
            raise unknown("precision", self.precision, PRECISIONS)
        if self.regularizer != "none" and not self.gamma:
            raise InputError(f"the regularizer {self.regularizer} with gamma 0 does nothing; give --gamma, or leave "
                             "--regularizer away")
        if self.regularizer != "none":
            regularizer = build(self.regularizer, **self.regularizer_options)
            options = {option.name: getattr(regularizer, option.name) for option in fields(regularizer) if option.init}
            object.__setattr__(self, "regularizer_options", options)  # the dataclass is frozen


def best_precision(device: torch.device) -> str:
    """Return "bf16" where the device computes it faster than fp32, else "fp32"."""
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return "bf16" if capabilities.get("avx512_bf16") or capabilities.get("amx_tile") else "fp32"
