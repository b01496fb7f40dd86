"""The commands on small models."""

from __future__ import annotations

import pandas as pd
import pytest

from bench.run import main


def attack(out, model_file, *more, models=("linear",)):
    return main(["attack", "--models", *(f"python:{model_file}:{model}" for model in models), "--out", str(out),
                 "--threads", "1", *more])


def table(out, unit=None):
    found = pd.read_csv(out / "attack.csv")
    return found if unit is None else found[found.unit == unit]


def frames(out, networks, *names, more=()):
    models = [f"python:{networks}:{name}" for name in names]
    return main(["frames", "--models", *models, "--out", str(out), "--threads", "1", *more])


@pytest.fixture
def model_file(model_file):
    model_file.write_text(model_file.read_text() + (
        "class Normalised(nn.Module):\n"
        "    def __init__(self):\n"
        "        from framebench.models.layers import Normalize\n"
        "        super().__init__()\n"
        "        torch.manual_seed(16)  # gets 8 of the 20 samples right, the clip breaks 3 of them\n"
        "        self.normalize, self.layer = Normalize((0.5,) * 3, (0.25,) * 3), nn.Linear(3072, 10)\n"
        "    def forward(self, x): return self.layer(self.normalize(x).flatten(1))\n"
        "def normalised(): return Normalised()\n"
        "def service():\n"
        "    from framebench.models.blackbox import BlackBoxModel\n"
        "    net = linear()\n"
        "    def answer(images):\n"
        "        with torch.inference_mode():\n"
        "            return net(torch.from_numpy(images).permute(0, 3, 1, 2)).argmax(1).numpy()\n"
        "    return BlackBoxModel(answer, answers='labels', classes=10)\n"
        "def scores():\n"
        "    from framebench.models.blackbox import BlackBoxModel\n"
        "    return BlackBoxModel(lambda images: linear()(torch.from_numpy(images).permute(0, 3, 1, 2)).numpy())\n"))
    return model_file


@pytest.fixture
def networks(tmp_path):
    """A user's file with small convolutional models."""
    path = tmp_path / "networks.py"
    path.write_text(
        "import torch\n"
        "from torch import nn\n"
        "def small(seed=0, stride=2):\n"
        "    torch.manual_seed(seed)\n"
        "    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True),\n"
        "                         nn.Conv2d(4, 6, 3, stride, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten(),\n"
        "                         nn.Linear(6, 10))\n"
        "def scaled():\n"
        "    model = small()\n"
        "    model[1].running_var[:] = 0.25 - model[1].eps\n"
        "    return model\n"
        "def other(): return small(seed=1)\n"
        "def square():\n"
        "    torch.manual_seed(0)\n"
        "    return nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten(),\n"
        "                         nn.Linear(3, 10))\n"
        "def modes():\n"
        "    torch.manual_seed(0)\n"
        "    kinds = ('reflect', 3, 12), ('replicate', 12, 4), ('circular', 4, 6), ('zeros', 6, 2)\n"
        "    return nn.Sequential(*(nn.Conv2d(i, o, 3, padding=1, padding_mode=m) for m, i, o in kinds))\n"
        "def fixed(): return nn.Sequential(nn.Flatten(), nn.Linear(3072, 10))\n"
        "def pooled(): return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())\n"
        "def diverged():\n"
        "    model = small()\n"
        "    model[3].weight.data[0] = float('nan')\n"
        "    return model\n"
        "class Raising(nn.Module):\n"
        "    def __init__(self, error):\n"
        "        super().__init__()\n"
        "        self.error, self.layer = error, nn.Linear(32, 10)\n"
        "    def forward(self, x): raise self.error\n"
        "def asserting(): return Raising(AssertionError('even sizes only'))\n"
        "def silent(): return Raising(TypeError())\n"
        "def leaving(): return Raising(SystemExit(3))\n"
        "def ending(): return Raising(GeneratorExit())\n"
        "class Odd(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.model = small()\n"
        "    def forward(self, x): return self.model(x) if x.sum() > -1 else x\n"
        "def untraceable(): return Odd().eval()\n")
    return path
