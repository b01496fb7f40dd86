"""Attack your own model beside the shipped one: does blurring the input make `baseline` harder to break?

    python examples/attack_your_model.py

From the shell, name a model by its file and the function that returns it:

    bench attack --models baseline python:examples/attack_your_model.py:make_model --protocol demo
"""

from __future__ import annotations

import torch
from torch import nn

import framebench


class Blurred(nn.Module):
    """A model behind a 3x3 mean filter; put yours here: images [n, 3, H, W] in [0, 1] to logits."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.blur = nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)
        self.model = model

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits of the blurred images."""
        logits: torch.Tensor = self.model(self.blur(x))
        return logits


def make_model() -> nn.Module:
    """Return the model to attack; load your weights here."""
    return Blurred(framebench.load_model("baseline"))


if __name__ == "__main__":
    # 20 images without a download; for real results, add data_root=DIR (with CIFAR-10) and n=1000
    results = framebench.attack("baseline", ("blurred", make_model()), domain="samples", budgets=[1, 10, 30])
    curves = results.attack[results.attack["unit"] == "iterations"]
    print(curves[["model", "budget", "n_correct", "asr", "ci_low", "ci_high"]].to_string(index=False))
    columns = ["metric", "budget", "n", "difference", "ci_low", "ci_high", "p_value"]
    print(results.paired[columns].to_string(index=False))
