"""Use the frame regularizer in your own training loop, and see the frame bounds of every layer.

    python examples/train_with_frame.py

A penalty takes the model and returns a scalar to add to the loss. The frame's upper bound replaces weight decay, so the
optimizer has none. For real trainings, use `bench train --regularizer frame`.
"""

from __future__ import annotations

import torch
from torch import nn

from framebench import load_domain
from framebench.models.regularizers import REGULARIZERS
from framebench.models.spectrum import frame_bounds


def network() -> nn.Sequential:
    """Return a small network whose convolutions have exact frame bounds (circular padding)."""
    return nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1, padding_mode="circular"), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1, padding_mode="circular"), nn.ReLU(), nn.AdaptiveAvgPool2d(4),
        nn.Flatten(), nn.Linear(1024, 10))


def train(gamma: float, steps: int = 40) -> nn.Sequential:
    """Fit the 20 samples with the loss cross-entropy + gamma R."""
    torch.manual_seed(0)
    samples, model = load_domain("samples"), network()
    x, y = samples.load(range(len(samples)))
    penalty = REGULARIZERS["frame-spectral"](lower=0.5, upper=1.5)  # "frame" is the study's, by diagonal dominance
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3, weight_decay=0)
    for _ in range(steps):
        loss = nn.functional.cross_entropy(model(x), y) + gamma * penalty(model)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"gamma {gamma:g}: {(model(x).argmax(1) == y).float().mean():.0%} of the samples correct, "
          f"R = {penalty(model):.3f}")
    return model


if __name__ == "__main__":
    for gamma in (0.0, 10.0):
        trained = train(gamma)
        for index, size in ((0, (32, 32)), (3, (16, 16)), (7, (1, 1))):
            lower, upper = frame_bounds(trained[index], size)
            print(f"  layer {index}: A = {lower:.3f}, B = {upper:.2f}, B/A = {upper / lower:.3g}")
