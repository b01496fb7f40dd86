"""A training small enough for tests: four classes that differ by brightness."""

from __future__ import annotations

import io

import numpy as np
import torch

from framebench.files import seal
from framebench.models.recipe import Recipe
from framebench.models.train import Trainer

RECIPE = Recipe(arch="resnet20", width=4, epochs=3, batch_size=20, lr=0.1, validation=20, pad=1)


def images_of(n):
    rng = np.random.default_rng(0)
    labels = np.arange(n) % 4
    images = (rng.integers(0, 60, (n, 16, 16, 3)) + 60 * labels[:, None, None, None]).astype(np.uint8)
    return images, labels.astype(np.int64)


def prepare(data, folder, recipe=RECIPE, **options):
    return Trainer(*data, "abcd", recipe, folder, torch.device("cpu"), "digest", **options)


def state_of(folder):
    (path,) = folder.glob("state-*.pt")
    return path


def change_state(folder, change):
    """Change the state that a training resumes from, as if it had been written so."""
    path, content = state_of(folder), io.BytesIO()
    state = torch.load(path)
    change(state)
    torch.save(state, content)
    path.unlink()
    return seal(folder, path.stem.rpartition("-")[0], ".pt", content.getvalue())


def equal(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))
