"""Residual networks for 32x32 images (He et al. 2016, arXiv 1512.03385), of any width.

The CIFAR form: a 3x3 stem without pooling, then three or four stages; a stage's first block halves the resolution
and doubles the width. Differences to the paper: projection shortcuts (1x1 convolution and batch norm) in all
depths, ResNet-20 included, as common code bases have it.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn

from framebench.models.layers import Normalize


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    expansion = 1

    def __init__(self, c_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut = _shortcut(c_in, width, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map [n, c_in, H, W] to [n, width, H/stride, W/stride]."""
        y = torch.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return torch.relu(y + self.shortcut(x))


class Bottleneck(nn.Module):
    """1x1 down, 3x3 (which strides), 1x1 up to four times the width, and a shortcut."""

    expansion = 4

    def __init__(self, c_in: int, width: int, stride: int) -> None:
        super().__init__()
        c_out = width * self.expansion
        self.conv1 = nn.Conv2d(c_in, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, c_out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(c_out)
        self.shortcut = _shortcut(c_in, c_out, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map [n, c_in, H, W] to [n, 4 width, H/stride, W/stride]."""
        y = torch.relu(self.bn1(self.conv1(x)))
        y = torch.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return torch.relu(y + self.shortcut(x))


def _shortcut(c_in: int, c_out: int, stride: int) -> nn.Module:
    if stride == 1 and c_in == c_out:
        return nn.Identity()
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    if stride > 1 and c_in < 16:
        # With a stride and fewer channels than a vector has, oneDNN writes beyond its memory in the backward pass on
        # processors without AVX-512 (oneDNN issue 6035): the process dies, or trains on wrong gradients.
        layers["pixels"], stride = nn.MaxPool2d(1, stride), 1
    layers["0"], layers["1"] = nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out)
    return nn.Sequential(layers)


class ResNet(nn.Module):
    """A residual network from images in [0, 1] to logits.

    Args:
        block: `BasicBlock` or `Bottleneck`.
        depths: Number of blocks of each stage.
        width: Channels of the first stage; each further stage doubles them.
        num_classes: Number of logits.
        mean: Per-channel mean of the training images, subtracted inside the model.
        std: Per-channel standard deviation, divided by.
    """

    def __init__(self, block: type[BasicBlock] | type[Bottleneck], depths: tuple[int, ...], width: int,
                 num_classes: int, mean: tuple[float, float, float], std: tuple[float, float, float]) -> None:
        super().__init__()
        self.normalize = Normalize(mean, std)
        self.conv = nn.Conv2d(3, width, 3, 1, 1, bias=False)
        self.bn = nn.BatchNorm2d(width)
        blocks: list[nn.Module] = []
        c_in = width
        for stage, depth in enumerate(depths):
            for i in range(depth):
                stride = 2 if stage > 0 and i == 0 else 1
                blocks.append(block(c_in, width << stage, stride))
                c_in = (width << stage) * block.expansion
        self.blocks = nn.Sequential(*blocks)
        self.fc = nn.Linear(c_in, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map images [n, 3, H, W] in [0, 1] to logits [n, num_classes]."""
        y = torch.relu(self.bn(self.conv(self.normalize(x))))
        return self.fc(self.blocks(y).mean((2, 3)))  # type: ignore[no-any-return]
