"""The compared methods against their formulas, written out per filter or per matrix."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import nn

from framebench.models.regularizers import REGULARIZERS

CASES = [nn.Conv2d(2, 5, 3), nn.Conv2d(2, 30, 3, 2), nn.Conv2d(4, 6, 3, groups=2), nn.Linear(7, 4), nn.Linear(4, 7)]


@pytest.fixture(params=CASES, ids=str)
def layer(request):
    torch.manual_seed(0)
    module = request.param.double()
    nn.init.normal_(module.weight)
    return module


def _blocks(layer):
    """The flattened matrix [c_out, c_in k k] of each group."""
    return layer.weight.flatten(1).chunk(getattr(layer, "groups", 1))


def _deviations(layer, smaller):
    for w in _blocks(layer):
        gram = w @ w.T if (w.shape[0] <= w.shape[1]) == smaller else w.T @ w
        yield gram - torch.eye(len(gram), dtype=gram.dtype)


def _same(layer, got, want):
    torch.testing.assert_close(got, want, atol=1e-10, rtol=1e-10)
    gradient, = torch.autograd.grad(got, layer.weight, retain_graph=True)
    expected, = torch.autograd.grad(want, layer.weight, retain_graph=True)
    torch.testing.assert_close(gradient, expected, atol=1e-9, rtol=1e-9)


def test_so_dso_mc(layer):
    squares = {smaller: sum(d.square().sum() for d in _deviations(layer, smaller)) for smaller in (True, False)}
    _same(layer, REGULARIZERS["so"]()(layer), squares[True])
    _same(layer, REGULARIZERS["dso"]()(layer), squares[True] + squares[False])
    largest = torch.stack([d.abs().max() for d in _deviations(layer, True)]).max()
    _same(layer, REGULARIZERS["mc"]()(layer), largest)


def test_srip_converged_is_the_spectral_norm(layer):
    converged = REGULARIZERS["srip"](iterations=3000)
    converged(layer)
    frozen = REGULARIZERS["srip"](iterations=0)
    frozen.load_state_dict(converged.state_dict())
    want = torch.stack([torch.linalg.eigvalsh(d).abs().max() for d in _deviations(layer, True)]).max().square()
    _same(layer, frozen(layer), want)


def test_srip_of_opposite_eigenvalues():
    layer = nn.Linear(2, 2, bias=False).double()
    layer.weight.data = torch.tensor([[1.5, 0], [0, 0.5]], dtype=torch.float64).sqrt()  # M has eigenvalues +-0.5
    for seed in range(3):
        assert REGULARIZERS["srip"](seed=seed)(layer).item() == pytest.approx(0.25, abs=1e-12)


@pytest.mark.parametrize(("power", "angular", "half"), list(itertools.product((0, 1, 2), (False, True), (False, True))))
def test_mhe(layer, power, angular, half):
    def energy(a, b):
        return of_distance(torch.acos(a @ b) if angular else (a - b).norm())

    def of_distance(z):
        return -z.log() if power == 0 else z**-power
    opposite = torch.tensor(math.pi if angular else 2.0, dtype=torch.float64)
    pairs = []
    for w in _blocks(layer):
        filters = [f / f.norm() for f in w]
        pairs += [energy(a, b) for a, b in itertools.combinations(filters, 2)]
        if half and isinstance(layer, nn.Conv2d):  # the pairs with a negative
            pairs += [energy(-a, -b) for a, b in itertools.combinations(filters, 2)]
            pairs += [energy(a, -b) for a, b in itertools.permutations(filters, 2)]
            pairs += [of_distance(opposite) for _ in filters]
    penalty = REGULARIZERS["mhe"](power=power, angular=angular, half=half)
    _same(layer, penalty(layer), torch.stack(pairs).mean())


def test_mhe_of_coinciding_and_of_single_filters_is_finite():
    layer = nn.Conv2d(1, 3, 1)
    layer.weight.data.fill_(1.0)
    layer.weight.data[2] = -1
    depthwise = nn.Conv2d(3, 3, 3, groups=3)
    for power, angular, half in itertools.product((0, 1, 2), (False, True), (False, True)):
        penalty = REGULARIZERS["mhe"](power=power, angular=angular, half=half)
        for module in (layer, nn.Sequential(depthwise)):
            value = penalty(module)
            gradient, = torch.autograd.grad(value, next(module.parameters()))
            assert value.isfinite() and gradient.isfinite().all()
    assert REGULARIZERS["mhe"]()(depthwise) == 0


def _mhe_reference(w, power, angular, half):
    """One layer's energy as the reference code has it, pair by pair: w is [filters, inputs], of a hidden layer."""
    def angle(a, b):
        return torch.acos(a @ b / ((a @ a + 1e-4) * (b @ b + 1e-4)).sqrt()) / math.pi + 1e-4

    def squared_distance(a, b):
        return 2 - 2 * (a @ b) / ((a @ a + 1e-4) * (b @ b + 1e-4)).sqrt()
    filters = [*w, *(-w)] if half else [*w]
    energies = []
    for a, b in itertools.combinations(filters, 2):
        if angular:
            energies.append(-angle(a, b).log() if power == 0 else 0.1 / angle(a, b) ** power)
        else:
            energies.append(-squared_distance(a, b).log() if power == 0 else 1 / squared_distance(a, b) ** (power / 2))
    return torch.stack(energies).mean()


@pytest.mark.parametrize(("power", "angular", "half"), list(itertools.product((0, 1, 2), (False, True), (False, True))))
def test_mhe_ref(power, angular, half):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 5, 3, bias=False), nn.Flatten(), nn.Linear(5, 4, bias=False)).double()
    penalty = REGULARIZERS["mhe-ref"](power=power, angular=angular, half=half)
    values = penalty.values(model)
    _same(model[0], values["0"], _mhe_reference(model[0].weight.flatten(1), power, angular, half))
    _same(model[2], values["2"], 10 * _mhe_reference(model[2].weight, power, angular, False))


def test_mhe_ref_of_groups_is_the_mean_over_all_their_pairs():
    torch.manual_seed(0)
    layer = nn.Conv2d(4, 6, 3, groups=2, bias=False).double()
    energies = [_mhe_reference(w, 2, True, False) for w in _blocks(layer)]
    _same(layer, REGULARIZERS["mhe-ref"]()(layer), torch.stack(energies).mean())


def test_mhe_ref_breaks_on_long_filters_and_sees_the_scale_of_short_ones():
    torch.manual_seed(0)
    layer = nn.Conv2d(16, 32, 3, bias=False)
    values, finite = {"mhe": [], "mhe-ref": []}, {"mhe": [], "mhe-ref": []}
    for scale in (0.01, 1, 1000):
        scaled = nn.Conv2d(16, 32, 3, bias=False)
        scaled.weight.data = layer.weight.data * scale
        for name in values:
            value = REGULARIZERS[name](angular=True)(scaled)
            gradient, = torch.autograd.grad(value, scaled.weight)
            values[name].append(value.item())
            finite[name].append(bool(gradient.isfinite().all()))
    assert finite == {"mhe": [True, True, True], "mhe-ref": [True, True, False]}
    assert values["mhe"] == pytest.approx([values["mhe"][0]] * 3)
    assert abs(values["mhe-ref"][0] - values["mhe-ref"][1]) > 1e-3


def test_mhe_weighs_the_classifier():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 5))
    plain, weighted = REGULARIZERS["mhe"]().values(model), REGULARIZERS["mhe"](classifier_weight=10).values(model)
    assert weighted["0"] == plain["0"] and weighted["1"] == 10 * plain["1"]


def test_ocnn_is_the_papers_self_convolution_where_that_applies():
    torch.manual_seed(0)
    for c_in, c_out, k, s in ((4, 4, 3, 1), (5, 4, 3, 1), (3, 6, 3, 2), (2, 6, 5, 2)):
        conv = nn.Conv2d(c_in, c_out, k, s, bias=False).double()
        gram = nn.functional.conv2d(conv.weight, conv.weight, stride=s, padding=(k - 1) // s * s)
        centre = gram.shape[-1] // 2
        gram[:, :, centre, centre] -= torch.eye(c_out)
        _same(conv, REGULARIZERS["ocnn"]()(conv), gram.norm())


@pytest.mark.parametrize("layer", [nn.Conv2d(4, 5, 3), nn.Conv2d(3, 6, 3, 2), nn.Conv2d(2, 3, 5), nn.Conv2d(4, 6, 5, 2),
                                   nn.Conv2d(4, 6, 3, 2, groups=2), nn.Conv2d(2, 3, (3, 2), (2, 1))], ids=str)
def test_ocnn_ref_is_the_self_convolution_with_padding_1(layer):
    torch.manual_seed(0)
    layer = layer.double()
    nn.init.normal_(layer.weight)
    squares = 0
    for kernel in layer.weight.chunk(layer.groups):
        gram = nn.functional.conv2d(kernel, kernel, stride=layer.stride, padding=1)
        identity = torch.zeros_like(gram)
        identity[:, :, gram.shape[2] // 2, gram.shape[3] // 2] = torch.eye(len(kernel))
        squares = squares + (gram - identity).square().sum()
    _same(layer, REGULARIZERS["ocnn-ref"]()(layer), squares.sqrt())


def test_squares_of_ocnn_on_both_sides_differ_by_a_constant():
    torch.manual_seed(0)
    conv = nn.Conv2d(2, 5, 3, bias=False).double()
    gram = nn.functional.conv2d(conv.weight, conv.weight, padding=2)
    gram[:, :, 2, 2] -= torch.eye(5)
    assert (REGULARIZERS["ocnn"]()(conv) ** 2 + 3).item() == pytest.approx(gram.square().sum().item(), abs=1e-10)
    assert math.isclose((REGULARIZERS["ocnn-ref"]()(conv) ** 2).item(),
                        gram[:, :, 1:4, 1:4].square().sum().item(), abs_tol=1e-10)
