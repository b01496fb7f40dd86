"""Small models and data that many tests use."""

from __future__ import annotations

import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from framebench.classes import CIFAR10
from framebench.models.architectures import build

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell starts what runs in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("BENCH_DATA", raising=False)


@pytest.fixture
def network() -> nn.Module:
    """A small convolutional network with batch norms that are not trivial, in eval mode."""
    return make_network()


def make_network(arch: str = "resnet18", width: int = 8) -> nn.Module:
    torch.manual_seed(0)
    model = build(arch, width=width)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.1)
    return model.eval().to(memory_format=torch.channels_last)


@pytest.fixture
def images() -> torch.Tensor:
    """Twelve images, float32 [12, 3, 32, 32] in [0, 1], channels last."""
    generator = torch.Generator().manual_seed(1)
    return torch.rand(12, 3, 32, 32, generator=generator).contiguous(memory_format=torch.channels_last)


def write_class_folders(root: Path, per_class: int, split: str, suffix: str = ".png") -> None:
    """Write ``root/cifar10/<split>/<class>/*`` with random images whose mean colour tells the class."""
    rng = np.random.default_rng(0)
    for label, name in enumerate(CIFAR10):
        folder = root / "cifar10" / split / name
        folder.mkdir(parents=True)
        for i in range(per_class):
            pixels = rng.integers(0, 56, (32, 32, 3)) + 20 * label
            Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i:04}{suffix}")


@pytest.fixture
def data_root(tmp_path: Path) -> Path:
    """A data root with 12 training and 3 test images a class."""
    root = tmp_path / "data"
    write_class_folders(root, 12, "train")
    write_class_folders(root, 3, "test")
    return root


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    """A user's file with model factories."""
    path = tmp_path / "factories.py"
    path.write_text(
        "import torch\n"
        "from torch import nn\n"
        "def linear(classes=10, scale=40.):\n"
        "    torch.manual_seed(20)  # gets 6 of the 20 samples right\n"
        "    layer = nn.Linear(3072, classes)\n"
        "    layer.weight.data *= scale\n"
        "    return nn.Sequential(nn.Flatten(), layer)\n"
        "def other(): return linear(scale=20.)\n"
        "def probabilities(): return nn.Sequential(linear(), nn.Softmax(1))\n"
        "def five(): return linear(5)\n"
        "def broken():\n"
        "    model = linear()\n"
        "    model[1].bias.data[3] = float('nan')\n"
        "    return model\n"
        "class Tuple(nn.Module):\n"
        "    def forward(self, x): return (x.flatten(1)[:, :10], 0)\n"
        "class Raising(nn.Module):\n"
        "    def forward(self, x): raise ValueError('only on weekdays')\n"
        "def tuple_(): return Tuple()\n"
        "def raising_later(): return Raising()\n"
        "def text(): return 'a model'\n"
        "def raising(): raise OSError('no weights here')\n")
    return path
