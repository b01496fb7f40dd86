"""The network of Keller Jordan's airbench (arXiv 2404.00498), of any width: much accuracy for little arithmetic.

Three blocks of two 3x3 convolutions; each block pools right after its first convolution, so that nearly all work is
done at 15x15 and below. Differences to the source: the first layer is learned like any other (there it is a frozen
whitening transform, computed from the training images), the logits are not scaled, batch norms are affine, ReLU
instead of GELU (so that inference engines can fuse it).
"""

from __future__ import annotations

import torch
from torch import nn

from framebench.models.layers import Normalize


class PoolBlock(nn.Module):
    """Convolution, pooling, convolution; batch norm and ReLU after the pooling and after the second convolution."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_out, 3, padding=1, bias=False)
        self.pool = nn.MaxPool2d(2)
        self.bn1 = nn.BatchNorm2d(c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(c_out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map [n, c_in, H, W] to [n, c_out, H//2, W//2]."""
        y = torch.relu(self.bn1(self.pool(self.conv1(x))))
        return torch.relu(self.bn2(self.conv2(y)))


class SpeedNet(nn.Module):
    """The airbench network from images in [0, 1] to logits.

    Args:
        width: Channels of the first block; the second and the third have four times as many.
        num_classes: Number of logits.
        mean: Per-channel mean of the training images, subtracted inside the model.
        std: Per-channel standard deviation, divided by.
    """

    def __init__(self, width: int, num_classes: int, mean: tuple[float, float, float],
                 std: tuple[float, float, float]) -> None:
        super().__init__()
        self.normalize = Normalize(mean, std)
        self.conv = nn.Conv2d(3, 24, 2)  # 24 = twice the 12 inputs of a 2x2 patch, as in the source
        self.blocks = nn.Sequential(PoolBlock(24, width), PoolBlock(width, 4 * width), PoolBlock(4 * width, 4 * width))
        self.fc = nn.Linear(4 * width, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map images [n, 3, H, W] in [0, 1] to logits [n, num_classes]; H and W at least 16."""
        y = self.blocks(torch.relu(self.conv(self.normalize(x))))
        return self.fc(y.amax((2, 3)))  # type: ignore[no-any-return]
