from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from framebench.attacks.registry import make
from framebench.errors import InputError
from framebench.models.layers import Normalize
from tests.attacks.reference import attack as reference

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


@pytest.fixture
def data(model):
    x = torch.rand(40, *SHAPE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    y = model(x).argmax(1)
    y[:4] = (y[:4] + 1) % 4  # clean errors
    return x, y


@pytest.mark.parametrize("clip", ["anew", "cumulative"])
@pytest.mark.parametrize("basis", ["pixel", "dct"])
def test_it_is_simba_on_clipped_normalised_images(model, data, basis, clip):
    x, y = data
    options = {"basis": basis, "order": "random", "step": "best-of-two", "objective": "margin", "targeted": False,
               "linf": None, "clip": clip}
    attack = make("simba", budget=30, epsilon=0.5, options={**options, "convention": "normalised-clip"})
    z = model.normalize(x).clamp(0, 1)
    seen = {}
    for done in attack.on(model).stream(model, lambda ids: (x[ids], y[ids]), np.arange(40), seed=3, batch_size=8):
        for i, example in enumerate(done.ids.tolist()):
            expected, success, queries, steps = reference(
                lambda image: model.rest(torch.from_numpy(image[None]))[0].numpy(), z[example].numpy(),
                int(y[example]), example, seed=3, max_iterations=30, epsilon=0.5,
                max_queries=None, **options)
            seen[example] = success
            assert done.success_iteration[i] == success and done.steps[i].tolist() == steps
            assert done.queries[i] == queries, "the control is not charged"
            assert done.clean_prediction[i] == model(x[[example]]).argmax(), "before the clip"
            x_adv = torch.from_numpy(expected) * model.normalize.std[0] + model.normalize.mean[0]
            torch.testing.assert_close(done.x_adv[i], x_adv)
            assert done.l2[i] == pytest.approx(float((x_adv - x[example]).norm()))
            assert done.linf[i] == pytest.approx(float((x_adv - x[example]).abs().max()))
    assert len(seen) == 40 and max(seen.values()) > 1
    broken_by_the_clip = (model.rest(z).argmax(1) != y) & (model(x).argmax(1) == y)
    assert broken_by_the_clip.any() and all(seen[int(i)] == 0 for i in torch.nonzero(broken_by_the_clip))


def test_a_model_without_its_normalisation_is_refused():
    with pytest.raises(InputError, match="needs a model with a layer `normalize`"):
        make("simba", budget=3, options={"convention": "normalised-clip"}).on(nn.Sequential(nn.Flatten()))
