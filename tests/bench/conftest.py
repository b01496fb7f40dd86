"""The attack command on small models."""

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


@pytest.fixture
def model_file(model_file):
    model_file.write_text(model_file.read_text() + (
        "class Normalised(nn.Module):\n"
        "    def __init__(self):\n"
        "        from models.layers import Normalize\n"
        "        super().__init__()\n"
        "        torch.manual_seed(16)  # gets 8 of the 20 samples right, the clip breaks 3 of them\n"
        "        self.normalize, self.layer = Normalize((0.5,) * 3, (0.25,) * 3), nn.Linear(3072, 10)\n"
        "    def forward(self, x): return self.layer(self.normalize(x).flatten(1))\n"
        "def normalised(): return Normalised()\n"
        "def service():\n"
        "    from models.blackbox import BlackBoxModel\n"
        "    net = linear()\n"
        "    def answer(images):\n"
        "        with torch.inference_mode():\n"
        "            return net(torch.from_numpy(images).permute(0, 3, 1, 2)).argmax(1).numpy()\n"
        "    return BlackBoxModel(answer, answers='labels', classes=10)\n"
        "def scores():\n"
        "    from models.blackbox import BlackBoxModel\n"
        "    return BlackBoxModel(lambda images: linear()(torch.from_numpy(images).permute(0, 3, 1, 2)).numpy())\n"))
    return model_file
