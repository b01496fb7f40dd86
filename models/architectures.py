"""Architectures by name."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from framebench.errors import InputError, unknown
from framebench.models.resnet import BasicBlock, Bottleneck, ResNet
from framebench.models.speednet import SpeedNet

RGB = tuple[float, float, float]


def _resnet(block: type[BasicBlock] | type[Bottleneck], depths: tuple[int, ...]) -> Callable[..., nn.Module]:
    def build(width: int, num_classes: int, mean: RGB, std: RGB) -> nn.Module:
        return ResNet(block, depths, width, num_classes, mean, std)
    return build


#: name -> (builder, default width)
ARCHITECTURES: dict[str, tuple[Callable[..., nn.Module], int]] = {
    "resnet18": (_resnet(BasicBlock, (2, 2, 2, 2)), 64),
    "resnet20": (_resnet(BasicBlock, (3, 3, 3)), 16),
    "resnet34": (_resnet(BasicBlock, (3, 4, 6, 3)), 64),
    "resnet50": (_resnet(Bottleneck, (3, 4, 6, 3)), 64),
    "speednet": (SpeedNet, 64),
}

#: A card or a typing error beyond it would fill the memory.
WIDEST = 1024


def build(arch: str, *, width: int | None = None, num_classes: int = 10, mean: RGB = (0.5, 0.5, 0.5),
          std: RGB = (0.25, 0.25, 0.25)) -> nn.Module:
    """Build an untrained model from images [n, 3, H, W] in [0, 1] to logits [n, num_classes].

    Args:
        arch: A name of `ARCHITECTURES`.
        width: Channels of the first stage; None for the architecture's usual width.
        num_classes: Number of logits.
        mean: Per-channel mean that the model subtracts.
        std: Per-channel standard deviation that it divides by.

    Raises:
        InputError: for an unknown architecture, and for a width below 1 or above `WIDEST`.
    """
    if arch not in ARCHITECTURES:
        raise unknown("architecture", arch, ARCHITECTURES)
    make, usual = ARCHITECTURES[arch]
    if width is not None and not 1 <= width <= WIDEST:
        raise InputError(f"the width must lie in 1 to {WIDEST}, not {width}")
    return make(usual if width is None else width, num_classes, mean, std)


@torch.inference_mode()
def check_size(model: nn.Module, height: int, width: int) -> None:
    """Check that a model of `build` takes images of a size.

    Raises:
        InputError: if they are too small.
    """
    try:
        model.eval()(torch.zeros(1, 3, height, width))
    except RuntimeError:
        raise InputError(f"images of {width}x{height} are too small for this architecture; choose a larger "
                         "--image-size or another --arch") from None
