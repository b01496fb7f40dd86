from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from attacks.convention import NormalisedClip
from attacks.simba import Options, simba
from framebench.errors import InputError
from models.layers import Normalize

SHAPE = (3, 4, 4)


@pytest.fixture
def model():
    torch.manual_seed(0)
    layer = nn.Linear(48, 4).double()
    layer.weight.data *= 3
    net = nn.Sequential()
    net.normalize = Normalize((0.5, 0.4, 0.3), (0.25, 0.2, 0.3)).double()
    net.rest = nn.Sequential(nn.Flatten(), layer)
    return net.requires_grad_(False)


def test_it_is_simba_on_clipped_normalised_images(model):
    x = torch.rand(40, *SHAPE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    y = model(x).argmax(1)
    y[:4] = (y[:4] + 1) % 4  # clean errors
    options = Options(max_iterations=30, epsilon=0.5, step="best-of-two", basis="dct")
    done = list(NormalisedClip(model).stream(model, lambda ids: (x[ids], y[ids]), np.arange(40), options, seed=3,
                                             batch_size=8))
    z = model.normalize(x).clamp(0, 1)
    expected = simba(model.rest, z, y, max_iterations=30, epsilon=0.5, step="best-of-two", basis="dct", seed=3)
    seen = {}
    for d in done:
        for i, example in enumerate(d.ids):
            seen[int(example)] = d.success_iteration[i]
            assert d.success_iteration[i] == expected.success_iteration[example]
            assert d.queries[i] == expected.queries[example], "the control is not charged"
            assert d.clean_prediction[i] == model(x[[example]]).argmax(), "before the clip"
            x_adv = expected.x_adv[example] * model.normalize.std[0] + model.normalize.mean[0]
            torch.testing.assert_close(d.x_adv[i], x_adv)
            assert d.l2[i] == pytest.approx(float((x_adv - x[example]).norm()))
            assert d.linf[i] == pytest.approx(float((x_adv - x[example]).abs().max()))
    assert len(seen) == 40
    broken_by_the_clip = (model.rest(z).argmax(1) != y) & (model(x).argmax(1) == y)
    assert broken_by_the_clip.any() and all(seen[int(i)] == 0 for i in torch.nonzero(broken_by_the_clip))


def test_a_model_without_its_normalisation_is_refused():
    with pytest.raises(InputError, match="needs a model with a layer `normalize`"):
        NormalisedClip(nn.Sequential(nn.Flatten()))
