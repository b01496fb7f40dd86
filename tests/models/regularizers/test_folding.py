"""Penalties of a layer together with the batch norm after it."""

from __future__ import annotations

import copy
import gc
import weakref

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from framebench.errors import InputError
from framebench.models.architectures import build
from framebench.models.regularizers import REGULARIZERS
from framebench.models.regularizers.folding import channel_scale, norms_after
from framebench.models.regularizers.layers import find_layers
from tests.models.regularizers import dense


def _used(norm, sign=1):
    """A batch norm as if after a training."""
    torch.manual_seed(1)
    nn.init.uniform_(norm.weight, 0.5, 3)
    nn.init.uniform_(norm.running_var, 0.01, 4)
    norm.weight.data[0] *= sign
    return norm


@pytest.mark.parametrize("conv", [nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, 2, groups=2), nn.Conv2d(6, 4, 1)], ids=str)
@pytest.mark.parametrize("name", REGULARIZERS)
def test_the_folded_penalty_is_that_of_the_fused_convolution(name, conv):
    pair = nn.Sequential(copy.deepcopy(conv), _used(nn.BatchNorm2d(4))).double()
    fused = nn.Sequential(fuse_conv_bn_eval(pair[0].eval(), pair[1].eval()))
    got = REGULARIZERS[name](folded=True)(pair.train())
    torch.testing.assert_close(got, REGULARIZERS[name]()(fused), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["frame", "frame-spectral", "so"])
def test_linear_layers_fold_too(name):
    pair = nn.Sequential(nn.Linear(4, 6), _used(nn.BatchNorm1d(6))).double()
    fused = nn.Sequential(fuse_linear_bn_eval(pair[0].eval(), pair[1].eval()))
    torch.testing.assert_close(REGULARIZERS[name](folded=True)(pair), REGULARIZERS[name]()(fused))


@pytest.mark.parametrize("shape", [(3, 4), (4, 3)])  # T^T T and T T^T
@pytest.mark.parametrize("name", ["frame", "frame-spectral"])
def test_gradients_reach_the_kernel_and_the_norms_weight_but_not_its_variance(name, shape):
    torch.manual_seed(0)
    # A negative factor, and pooling between: neither changes the eigenvalues.
    model = nn.Sequential(nn.Conv2d(*shape, 3), nn.MaxPool2d(2), _used(nn.BatchNorm2d(shape[1]), sign=-1)).double()
    conv, norm = model[0], model[2]
    penalty = REGULARIZERS[name](folded=True, lower=0.3, upper=0.4, **({"grid": 6} if name != "frame" else {}))
    got = penalty(model)
    explicit = copy.deepcopy(conv)
    del explicit.weight
    explicit.weight = conv.weight * (norm.weight / (norm.running_var + norm.eps).sqrt())[:, None, None, None]
    want = {"frame": dense.frame, "frame-spectral": dense.frame_spectral}[name](dense.gram(explicit, 6), 0.3, 0.4)
    torch.testing.assert_close(got, want)
    parameters = conv.weight, norm.weight
    for a, b in zip(torch.autograd.grad(got, parameters), torch.autograd.grad(want, parameters), strict=True):
        assert b.abs().max() > 1e-3
        torch.testing.assert_close(a, b)
    assert not channel_scale(nn.BatchNorm2d(3, affine=False)).requires_grad


def test_every_convolution_of_the_projects_networks_has_its_batch_norm():
    found = norms_after(model := build("resnet18", width=4))
    assert found["conv"] is model.bn and found["blocks.2.conv2"] is model.blocks[2].bn2
    assert found["blocks.2.shortcut.0"] is model.blocks[2].shortcut.get_submodule("1")
    assert set(found) == {layer.name for layer in find_layers(model)} - {"fc"}
    model = build("speednet", width=4)  # conv1 is pooled before its batch norm; the stem has none
    assert norms_after(model) == {
        f"blocks.{i}.conv{k}": getattr(model.blocks[i], f"bn{k}") for i in range(3) for k in (1, 2)}


class _Odd(nn.Module):
    """Convolutions whose batch norm does not rescale them alone."""

    def __init__(self):
        super().__init__()
        self.pooled, self.relu, self.used, self.twice = (nn.Conv2d(3, 3, 1) for _ in range(4))
        self.bn1, self.bn2, self.bn3, self.bn4 = (nn.BatchNorm2d(3) for _ in range(4))
        self.bn5 = nn.BatchNorm2d(3, track_running_stats=False)
        self.batch = nn.Conv2d(3, 3, 1)

    def forward(self, x):
        x = self.bn1(F.max_pool2d(self.pooled(x), 2))
        x = self.bn2(torch.relu(self.relu(x)))
        y = self.used(x)
        x = self.bn3(y) + y
        x = self.bn4(self.twice(self.twice(x)))
        return self.bn5(self.batch(x))


def test_only_a_norm_that_rescales_a_layer_alone_counts():
    model = _Odd()
    assert norms_after(model) == {"pooled": model.bn1}


def test_a_model_that_cannot_be_traced_is_named():
    class Branching(nn.Sequential):
        def forward(self, x):
            return self[0](x) if x.sum() > 0 else x
    model = Branching(nn.Conv2d(3, 3, 1))
    REGULARIZERS["frame"]()(model)
    with pytest.raises(InputError, match="Branching .* traced"):
        REGULARIZERS["frame"](folded=True)(model)


def test_a_traced_model_is_not_kept_alive():
    model = build("speednet", width=4)
    copied = copy.deepcopy(model)
    assert norms_after(model)["blocks.0.conv1"] is not norms_after(copied)["blocks.0.conv1"]
    alive = weakref.ref(model)
    del model
    gc.collect()
    assert alive() is None


def test_folded_penalties_do_not_see_a_kernels_own_scale():
    """After a rescaled kernel and a forward pass of the same images the operator is what it was."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4, eps=1e-12, momentum=1)).double()
    x, penalty = torch.randn(8, 3, 8, 8, dtype=torch.float64), REGULARIZERS["frame"](folded=True)
    model(x)
    before = penalty(model)
    model[0].weight.data *= 3
    assert penalty(model) > 2 * before
    model(x)
    torch.testing.assert_close(penalty(model), before)
    assert not penalty.holds_scale and REGULARIZERS["frame"]().holds_scale
