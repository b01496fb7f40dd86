from __future__ import annotations

import pytest
import torch
from torch import nn

from framebench.models.architectures import build
from framebench.models.initialise import delta_orthogonal_
from framebench.models.regularizers import REGULARIZERS
from tests.models.regularizers import dense

LAYERS = [
    nn.Conv2d(3, 5, 3), nn.Conv2d(5, 3, 3), nn.Conv2d(3, 6, 3, 2), nn.Conv2d(1, 5, 5, 2), nn.Conv2d(3, 6, 1, 2),
    nn.Conv2d(4, 6, 3, groups=2), nn.Conv2d(2, 3, 4), nn.Conv2d(2, 4, 3, 3), nn.Linear(7, 3), nn.Linear(3, 7)]


@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_every_layer_becomes_an_isometry(layer):
    delta_orthogonal_(layer.double())
    gram = dense.gram(layer, 12)
    torch.testing.assert_close(gram, torch.eye(len(gram), dtype=gram.dtype), atol=1e-12, rtol=0)


def test_a_single_tap_at_stride_1_and_all_inputs_seen_at_stride_2():
    conv = delta_orthogonal_(nn.Conv2d(2, 3, 3, padding=1))
    assert torch.equal(conv.weight.ne(0).any(0).any(0).nonzero(), torch.tensor([[1, 1]]))
    strided = delta_orthogonal_(nn.Conv2d(1, 4, 3, 2, padding=1, bias=False).double())
    x = torch.rand(2, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(strided(x).square().sum((1, 2, 3)), x.square().sum((1, 2, 3)))  # zero padding too


def test_a_network_scores_zero_and_depends_on_the_seed_alone():
    first, again, other = (delta_orthogonal_(build("resnet18", width=4), seed=seed) for seed in (1, 1, 2))
    for name in ("frame", "frame-spectral", "ocnn"):
        assert REGULARIZERS[name]()(first).detach() < 1e-4, name  # ocnn is not squared: float32 shows
    weights = [torch.cat([p.flatten() for p in model.parameters() if p.ndim > 1]) for model in (first, again, other)]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])
    assert first.fc.bias.abs().max() > 0  # left alone
