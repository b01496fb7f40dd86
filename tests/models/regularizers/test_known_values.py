"""Layers whose penalties are known beforehand, the reference code's bugs, precision and gradients."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from framebench.errors import DivergedError
from framebench.models.architectures import build
from framebench.models.initialise import delta_orthogonal_
from framebench.models.regularizers import REGULARIZERS, gershgorin
from framebench.models.regularizers.layers import find_layers
from tests.models.regularizers import dense

EXACT = ("frame", "frame-spectral", "so", "dso", "mc", "srip", "ocnn")


@pytest.mark.parametrize("name", EXACT)
def test_an_orthogonal_layer_scores_zero(name):
    for layer in (nn.Conv2d(4, 4, 3), nn.Linear(4, 4), nn.Conv2d(4, 4, 1)):
        delta_orthogonal_(layer.double())
        value = REGULARIZERS[name](layers=("stem", "classifier"))(layer)
        if name == "dso" and layer.weight.ndim == 4 and layer.kernel_size == (3, 3):
            value = value - 4 * 8  # the flattened matrix is 4 x 36: W^T W has 32 eigenvalues 0
        assert value.item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("name", ["frame", "frame-spectral", "ocnn"])
def test_the_gradient_at_an_orthogonal_layer_is_finite(name):
    layer = delta_orthogonal_(nn.Conv2d(3, 3, 3).double())
    gradient, = torch.autograd.grad(REGULARIZERS[name](lower=1, upper=1)(layer) if name != "ocnn"
                                    else REGULARIZERS[name]()(layer), layer.weight)
    assert gradient.isfinite().all()


@pytest.mark.parametrize("name", ["frame", "frame-spectral"])
def test_the_tight_frame_of_three_vectors(name):
    layer = nn.Linear(2, 3, bias=False).double()
    angles = torch.tensor([90.0, 210.0, 330.0], dtype=torch.float64).deg2rad()
    layer.weight.data = torch.stack([angles.cos(), angles.sin()], 1)
    assert REGULARIZERS[name](lower=1.5, upper=1.5)(layer).item() == pytest.approx(0, abs=1e-15)
    assert REGULARIZERS[name](lower=2, upper=2)(layer).item() == pytest.approx(0.25, abs=1e-12)
    assert REGULARIZERS[name](lower=0.5, upper=1)(layer).item() == pytest.approx(0.25, abs=1e-12)
    assert REGULARIZERS[name](lower=1, upper=1, relative=True)(layer).item() == pytest.approx(0, abs=1e-15)


def test_frame_by_hand():
    layer = nn.Linear(2, 2, bias=False).double()
    layer.weight.data = torch.tensor([[1.0, 1.0], [0.0, 2.0]], dtype=torch.float64)  # V = [[1, 1], [1, 5]]
    # A = 1: rows 1 - 1 - 1, 5 - 1 - 1; B = 4: rows 4 - 1 - 1, 4 - 5 - 1.
    assert REGULARIZERS["frame"](lower=1, upper=4)(layer).item() == pytest.approx((1 + 4) / 2)


def test_the_frame_read_literally_by_hand():
    layer = nn.Linear(2, 2, bias=False).double()
    layer.weight.data = torch.tensor([[1.0, 1.0], [0.0, 2.0]], dtype=torch.float64)  # V = [[1, 1], [1, 5]]
    # A = 1: rows 1 - 1 - 2, 5 - 1 - 6; B = 4: rows 4 - 1 - 2, 4 - 5 - 6.
    assert REGULARIZERS["frame"](lower=1, upper=4, literal=True)(layer).item() == pytest.approx((4 + 4 + 49) / 2)


def test_a_layer_of_zeros_scores_the_lower_bound():
    layer = nn.Conv2d(3, 4, 3)
    layer.weight.data.zero_()
    for name in ("frame", "frame-spectral"):
        for relative in (False, True):
            value = REGULARIZERS[name](lower=0.5, relative=relative)(layer)
            gradient, = torch.autograd.grad(value, layer.weight)
            assert value.item() == pytest.approx(0.25) and gradient.isfinite().all()
    value = REGULARIZERS["frame-spectral"](lower=0.5, scale="log", offset=0.02)(layer)
    gradient, = torch.autograd.grad(value, layer.weight)
    assert value.item() == pytest.approx(math.log(26) ** 2) and gradient.isfinite().all()


def test_weights_that_are_not_finite_are_named():
    layer = nn.Conv2d(3, 4, 3)
    layer.weight.data[0] = float("nan")
    with pytest.raises(DivergedError, match="layer conv2d has no eigenvalues"):
        REGULARIZERS["frame-spectral"]()(layer)


def test_relative_bounds_do_not_see_the_scale():
    torch.manual_seed(0)
    layer = nn.Conv2d(3, 4, 3).double()
    penalties = [REGULARIZERS[name](relative=True) for name in ("frame", "frame-spectral")]
    before = [penalty(layer) for penalty in penalties]
    layer.weight.data *= 7
    for value, penalty in zip(before, penalties, strict=True):
        torch.testing.assert_close(penalty(layer), value, atol=1e-10, rtol=1e-10)


def test_ocnn_ref_does_not_see_displacements_of_two():
    # Two taps, two apart, of one channel: T^T T has the eigenvalues (w_0^2 + w_2^2) + 2 w_0 w_2 cos(2 t).
    conv = nn.Conv2d(1, 1, 3, bias=False).double()
    conv.weight.data.zero_()
    conv.weight.data[0, 0, 1, ::2] = math.sqrt(0.5)
    spectrum = torch.linalg.eigvalsh(dense.gram(conv, 8)).detach()
    assert spectrum.min() < 1e-12 and spectrum.max() == pytest.approx(2)
    assert REGULARIZERS["ocnn-ref"]()(conv).item() < 1e-12
    assert REGULARIZERS["ocnn"]()(conv).item() == pytest.approx(math.sqrt(2 * 0.5**2))


def test_ocnn_ref_at_stride_2_takes_an_orthogonal_kernel_for_zero():
    conv = delta_orthogonal_(nn.Conv2d(3, 6, 3, 2, bias=False).double())
    assert REGULARIZERS["ocnn"]()(conv).item() == pytest.approx(0, abs=1e-12)
    orthogonal = REGULARIZERS["ocnn-ref"]()(conv).item()
    conv.weight.data.zero_()
    assert REGULARIZERS["ocnn-ref"]()(conv).item() == pytest.approx(math.sqrt(6))
    assert orthogonal == pytest.approx(math.sqrt(6), rel=0.3)


def test_srip_ref_has_a_floor_and_changes_with_frozen_weights():
    wide = delta_orthogonal_(nn.Linear(8, 4).double())
    assert REGULARIZERS["srip"]()(wide).item() == pytest.approx(0, abs=1e-12)
    assert REGULARIZERS["srip-ref"]()(wide).item() == pytest.approx(1)
    torch.manual_seed(0)
    layer = nn.Linear(8, 8).double()
    penalty = REGULARIZERS["srip-ref"]()
    exact = torch.linalg.eigvalsh(layer.weight.T @ layer.weight - torch.eye(8)).abs().max().item() ** 2
    values = [penalty(layer).item() for _ in range(5)]
    assert len(set(values)) == 5 and max(values) <= exact * (1 + 1e-12)


@pytest.mark.parametrize("layer", [nn.Conv2d(2, 3, 3), nn.Conv2d(3, 4, 3, 2), nn.Conv2d(4, 2, 3, groups=2)], ids=str)
@pytest.mark.parametrize("name", ["frame", "frame-spectral", "mhe", "so", "dso", "mc", "ocnn", "ocnn-ref", "mhe-ref"])
def test_gradients_by_finite_differences(name, layer):
    torch.manual_seed(0)
    layer = layer.double()
    nn.init.normal_(layer.weight, std=0.5)
    penalty = REGULARIZERS[name](**({"grid": 4} if name == "frame-spectral" else {}))

    def value(weight):
        return torch.func.functional_call(_Call(layer, penalty), {"layer.weight": weight}, ())
    assert torch.autograd.gradcheck(value, layer.weight.detach().requires_grad_())


class _Call(nn.Module):
    """A penalty of a layer as a module, whose weight functional_call can replace."""

    def __init__(self, layer, penalty):
        super().__init__()
        self.layer, self.penalty = layer, penalty

    def forward(self):
        return self.penalty(self.layer)


@pytest.mark.parametrize("name", REGULARIZERS)
def test_autocast_changes_nothing(network, name):
    want = REGULARIZERS[name]()(network)
    with torch.autocast("cpu", torch.bfloat16):
        got = REGULARIZERS[name]()(network)
    assert got.dtype == torch.float32 and torch.equal(got, want)


class _Operations(TorchDispatchMode):
    """Notes the names of the operations, those of the backward pass too."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.add(function.overloadpacket.__name__)
        return function(*args, **kwargs or {})


@pytest.mark.parametrize("name", REGULARIZERS)
def test_nothing_is_convolved_since_that_is_tf32_on_cuda(network, name):
    with _Operations() as noted:
        REGULARIZERS[name]()(network).backward()
    assert noted.names and not [operation for operation in noted.names if "conv" in operation]


def test_weights_of_half_precision_are_summed_in_float32(network):
    half = network.to(torch.bfloat16)
    value = REGULARIZERS["frame"]()(half)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, REGULARIZERS["frame"]()(network.float()))


def test_gershgorin_bounds_enclose_the_spectrum():
    torch.manual_seed(0)
    layer = nn.Conv2d(3, 4, 3).double()
    (v, s), = gershgorin(layer).values()
    gram = dense.gram(layer, 6)
    assert v == pytest.approx(gram.diagonal().mean().item())
    assert s == pytest.approx((gram.abs().sum(1) - gram.diagonal()).mean().item())
    assert isinstance(v, float)


@pytest.mark.parametrize(("name", "rate", "options"), [
    ("frame", 0.01, {}), ("frame-spectral", 0.2, {}), ("frame-spectral", 0.1, {"scale": "log"})])
def test_descent_ends_with_frame_bounds(name, rate, options):
    torch.manual_seed(0)
    layer = delta_orthogonal_(nn.Conv2d(3, 4, 3).double())
    layer.weight.data += 0.05 * torch.randn_like(layer.weight)
    spectrum = torch.linalg.eigvalsh(dense.gram(layer, 8)).detach()
    assert spectrum.min() < 0.4 and spectrum.max() > 1.9
    penalty = REGULARIZERS[name](lower=0.8, upper=1.2, **options)
    for _ in range(400):
        value = penalty(layer)
        if value.item() < 1e-8:
            break
        gradient, = torch.autograd.grad(value, layer.weight)
        layer.weight.data -= rate * gradient
    spectrum = torch.linalg.eigvalsh(dense.gram(layer, 8)).detach()
    assert spectrum.min() > 0.799 and spectrum.max() < 1.201


def test_the_frame_penalty_shrinks_what_is_far_from_dominant():
    torch.manual_seed(0)
    layer = nn.Conv2d(32, 32, 3).double()
    nn.init.kaiming_normal_(layer.weight)
    (v, s), = gershgorin(layer).values()
    assert s > 10 * v
    values = []
    for _ in range(6):
        values.append(REGULARIZERS["frame"]()(layer).item())
        layer.weight.data *= 0.3
    assert values == sorted(values, reverse=True) and values[-1] == pytest.approx(0.25, abs=1e-2)


def test_what_the_docstrings_say_of_the_initialisation():
    """The mean diagonal, the range of R, and which coefficients give the gradient of weight decay its norm."""
    torch.manual_seed(0)
    model = build("speednet", width=48)
    layers = find_layers(model)
    for layer, (v, _) in zip(layers[:-1], gershgorin(model).values(), strict=False):  # the last has 10 rows only
        c_out, c_in, s = *layer.weight.shape[:2], layer.step[0]
        assert v == pytest.approx(max(1, c_out / (s**2 * c_in)) / 3, rel=0.05), layer.name
    weights = [layer.module.weight for layer in layers]
    for name, gamma in {"frame": 9.4e-6, "frame-spectral": 1.5e-3}.items():
        penalty = REGULARIZERS[name]()
        values = penalty.values(model)
        if name == "frame":
            assert all(12 < value.item() < 1600 for value in list(values.values())[:-1])
        gradients = torch.autograd.grad(sum(values.values()), weights)
        norms = [math.hypot(*(tensor.norm().item() for tensor in tensors)) for tensors in (weights, gradients)]
        assert 5e-4 * norms[0] / norms[1] == pytest.approx(gamma, rel=0.05 if name == "frame" else 0.2)
