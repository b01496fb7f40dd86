"""A small smooth network and images for it."""

from __future__ import annotations

import pytest
import torch

SHAPE = (3, 8, 8)


@pytest.fixture
def mlp():
    draws = torch.Generator().manual_seed(0)
    first = torch.randn(48, 192, generator=draws)
    second = torch.randn(5, 48, generator=draws) * 0.6
    return lambda x: torch.tanh((x.flatten(1) - 0.5) @ first.T * 0.3) @ second.T


@pytest.fixture
def data(mlp):
    x = torch.rand(8, *SHAPE, generator=torch.Generator().manual_seed(1))
    y = mlp(x).argmax(1)
    y[0] = (y[0] + 1) % 5  # a clean error
    return lambda ids: (x[torch.as_tensor(ids)], y[torch.as_tensor(ids)])
