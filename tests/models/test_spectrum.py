"""Frame bounds against explicit matrices, written out entry by entry."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

from framebench.errors import InputError
from framebench.models.operators import lanczos
from framebench.models.spectrum import (
    frame_bounds,
    gershgorin_bounds,
    input_sizes,
    lanczos_bounds,
    layer_inputs,
    on_torus,
    pixels_read,
    side_of,
    spectrum,
)
from tests.conftest import make_network

# c_out, c_in, kernel, options, size of the map
LAYERS = [
    (5, 3, 3, {"padding": 1}, (6, 5)),
    (3, 5, 3, {"padding": 1}, (4, 4)),
    (4, 4, 5, {"padding": 2}, (6, 6)),
    (4, 3, 1, {}, (3, 4)),
    (3, 4, 1, {"stride": 2}, (4, 6)),
    (6, 3, 1, {"stride": 2}, (4, 4)),
    (8, 4, 3, {"stride": 2, "padding": 1}, (6, 6)),
    (16, 2, 3, {"stride": 2, "padding": 1}, (6, 4)),
    (9, 2, 5, {"stride": 2, "padding": 2}, (8, 6)),
    (5, 3, 2, {"stride": 2}, (6, 4)),
    (13, 3, 2, {"stride": 2}, (4, 4)),
    (6, 4, 3, {"groups": 2, "padding": 1}, (5, 5)),
    (4, 4, 3, {"groups": 4, "padding": 1}, (6, 6)),
    (12, 4, 3, {"groups": 2, "stride": 2, "padding": 1}, (6, 6)),
    (4, 3, 3, {"dilation": 2, "padding": 2}, (7, 6)),
    (4, 3, 3, {"dilation": 2, "stride": 2, "padding": 2}, (8, 6)),
    (10, 1, 3, {"dilation": 3, "stride": 2, "padding": 3}, (8, 8)),
    (5, 2, (3, 1), {"stride": (1, 2), "padding": (1, 0)}, (4, 6)),
    (4, 3, 3, {"padding": 1}, (2, 2)),
    (4, 3, 5, {"padding": 2}, (3, 3)),
    (4, 3, 2, {"padding": "same"}, (5, 4)),
    (4, 3, 2, {"stride": 2, "dilation": 3}, (8, 8)),
    (4, 3, 2, {"stride": 2, "dilation": 3}, (4, 4)),
    (6, 1, 2, {"stride": 3, "dilation": 2}, (6, 9)),
    (5, 1, 2, {"stride": 4, "dilation": 2}, (8, 8)),
    (5, 2, (2, 3), {"stride": 2, "dilation": (3, 1), "padding": (0, 1)}, (6, 6)),
]
#: padding_mode, kernel, options, size of the map, whether that is a torus
MODES = [
    ("reflect", 3, {"padding": 1}, (5, 4), False),
    ("replicate", 3, {"padding": 1}, (4, 5), False),
    ("replicate", 1, {"padding": 1}, (3, 3), False),
    ("reflect", 1, {}, (3, 4), True),
    ("circular", 3, {"padding": 1}, (4, 5), True),
    ("circular", 5, {"padding": 2, "dilation": 1}, (4, 4), True),
    ("circular", 3, {"padding": 2, "dilation": 2}, (5, 4), True),
    ("circular", 3, {"padding": 1, "stride": 2}, (6, 4), True),
    ("circular", 3, {"padding": 1, "stride": 2}, (5, 4), False),
    ("circular", 3, {"padding": 2}, (5, 5), False),
    ("circular", 3, {}, (5, 5), False),
]


def make(c_out, c_in, kernel, options, _size=None):
    torch.manual_seed(c_out * 100 + c_in)
    return nn.Conv2d(c_in, c_out, kernel, **options).double()


def explicit_matrix(conv, size, circular):
    """Write out T: one entry a (output, position, input channel, tap); zero padding drops the taps outside."""
    weight = conv.weight.detach().numpy()
    (height, width), (s_h, s_w), (d_h, d_w) = size, conv.stride, conv.dilation
    _, c_group, k_h, k_w = weight.shape
    if conv.padding == "same":  # the odd pixel of padding goes to the end
        p_h, p_w = (d_h * (k_h - 1) // 2, d_w * (k_w - 1) // 2)
        out_h, out_w = height, width
    else:
        p_h, p_w = conv.padding
        out_h = (height + 2 * p_h - d_h * (k_h - 1) - 1) // s_h + 1
        out_w = (width + 2 * p_w - d_w * (k_w - 1) - 1) // s_w + 1
    if circular:
        out_h, out_w = height // s_h, width // s_w
    matrix = np.zeros((conv.out_channels, out_h, out_w, conv.in_channels, height, width))
    for o, y, x, c, a, b in np.ndindex(conv.out_channels, out_h, out_w, c_group, k_h, k_w):
        i, j = s_h * y + d_h * a - p_h, s_w * x + d_w * b - p_w
        if circular:
            i, j = i % height, j % width
        if 0 <= i < height and 0 <= j < width:
            group = o // (conv.out_channels // conv.groups)
            matrix[o, y, x, group * c_group + c, i, j] += weight[o, c, a, b]
    return matrix.reshape(conv.out_channels * out_h * out_w, -1)


def explicit_eigenvalues(matrix, side):
    """Return the eigenvalues of T^T T or T T^T, without the columns of T that no output reads."""
    matrix = matrix[:, np.abs(matrix).sum(0) > 0]
    return np.linalg.eigvalsh(matrix.T @ matrix if side == "input" else matrix @ matrix.T)


def expanded(found):
    counts = np.rint(found.weights).astype(int)
    assert np.allclose(counts, found.weights)
    return np.repeat(found.eigenvalues, counts)


@pytest.mark.parametrize("case", LAYERS, ids=str)
def test_the_spectrum_is_that_of_the_explicit_matrix_on_a_torus(case):
    conv, size = make(*case), case[-1]
    want = explicit_eigenvalues(explicit_matrix(conv, size, circular=True), side_of(conv))
    found = spectrum(conv, size)
    np.testing.assert_allclose(expanded(found), want, rtol=0, atol=1e-10)
    assert frame_bounds(conv, size) == pytest.approx((want[0], want[-1]), rel=1e-9, abs=1e-10)
    lower, upper = gershgorin_bounds(conv)
    assert lower <= want[0] + 1e-12 and want[-1] <= upper + 1e-12


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize("case", LAYERS, ids=str)
def test_lanczos_with_zero_padding(case):
    conv, size = make(*case), case[-1]
    want = explicit_eigenvalues(explicit_matrix(conv, size, circular=False), side_of(conv))
    found = lanczos_bounds(conv, size)
    assert found.lower_converged and found.upper_converged, "maps so small are done in 300 steps"
    assert (found.lower, found.upper) == pytest.approx((want[0], want[-1]), rel=1e-3, abs=1e-12 * want[-1])
    assert found.upper <= want[-1] * (1 + 1e-12) and found.lower >= want[0] - 1e-10, "they lie inside"
    assert frame_bounds(conv, size, "own") == pytest.approx((want[0], want[-1]), rel=1e-3, abs=1e-12 * want[-1])
    assert found.upper <= gershgorin_bounds(conv)[1] + 1e-12, "certified with zero padding too"


@pytest.mark.parametrize("case", LAYERS, ids=str)
def test_lanczos_agrees_with_fourier_on_a_torus(case):
    conv, size = make(*case), case[-1]
    found, want = lanczos_bounds(conv, size, "circular"), frame_bounds(conv, size)
    assert found.lower_converged and found.upper_converged
    assert (found.lower, found.upper) == pytest.approx(want, rel=1e-3, abs=1e-12 * want[1])


def test_lanczos_goes_on_until_both_ends_have_converged():
    conv = make(16, 8, 3, {"padding": 1})
    want = explicit_eigenvalues(explicit_matrix(conv, (8, 8), circular=False), "input")
    found = lanczos_bounds(conv, (8, 8))
    assert found.lower_converged and found.upper_converged and 60 < found.steps < 300
    assert (found.lower, found.upper) == pytest.approx((want[0], want[-1]), rel=1e-4)


def geometric(condition, n=400):
    """Return a map with known eigenvalues, from 1 / condition to 1, and a start that has a part of each."""
    values = torch.logspace(-math.log10(condition), 0, n, dtype=torch.float64)
    return lambda v: values * v, torch.randn(n, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("condition", [1.5, 10, 1e2, 1e4, 1e9])
@pytest.mark.parametrize("steps", [1, 26, 60, 120, 300])
def test_a_lower_bound_that_is_far_off_is_not_said_to_have_converged(condition, steps):
    found = lanczos(*geometric(condition), tolerance=1e-3, steps=steps)
    assert found.steps <= steps
    for value, converged, want in ((found.lower, found.lower_converged, 1 / condition),
                                   (found.upper, found.upper_converged, 1)):
        if converged:
            assert value == pytest.approx(want, rel=1e-3)
    assert 1 / condition * (1 - 1e-9) <= found.lower <= found.upper <= 1 + 1e-12
    if condition == 1e9:
        assert not found.lower_converged and found.lower > 5 / condition
    if condition <= 10 and steps >= 120:
        assert found.lower_converged and found.upper_converged


def test_a_bound_that_has_not_converged_is_no_number():
    layer = nn.Linear(400, 400).double()
    layer.weight.data = torch.diag(torch.logspace(-4.5, 0, 400, dtype=torch.float64))
    found = lanczos_bounds(layer, (1, 1))
    assert found.upper_converged and not found.lower_converged and found.lower > 5e-9
    pointwise = nn.Conv2d(400, 400, 1, padding=1).double()  # on one pixel; its border of zeros adds nothing
    pointwise.weight.data = layer.weight.data[..., None, None]
    lower, upper = frame_bounds(pointwise, (1, 1), "own")
    assert math.isnan(lower) and upper == pytest.approx(1, rel=1e-3)


def test_a_layer_of_noughts_and_one_of_a_single_number():
    layer = nn.Linear(1, 1).double()
    for weight in (0.0, 3.0):
        layer.weight.data.fill_(weight)
        found = lanczos_bounds(layer, (1, 1))
        assert (found.lower, found.upper) == pytest.approx((weight**2, weight**2))
        assert found.lower_converged and found.upper_converged and found.steps == 1


@pytest.mark.parametrize("case", MODES, ids=str)
def test_a_layers_own_padding_mode(case):
    mode, kernel, options, size, torus = case
    conv = make(5, 3, kernel, {**options, "padding_mode": mode})
    pad = conv.padding[0]
    pixels = np.arange(3 * math.prod(size)).reshape(3, *size)
    border = ((0, 0), (pad, pad), (pad, pad))
    padded = np.pad(pixels, border, {"circular": "wrap", "replicate": "edge"}.get(mode, mode))
    bare = copy.deepcopy(conv)
    bare.padding = (0, 0)
    matrix = explicit_matrix(bare, padded.shape[1:], circular=False) @ np.eye(pixels.size)[padded.ravel()]
    want = explicit_eigenvalues(matrix, side_of(conv))
    assert on_torus(conv, size) is torus
    assert frame_bounds(conv, size, "own") == pytest.approx((want[0], want[-1]), rel=1e-3, abs=1e-12)
    np.testing.assert_array_equal(pixels_read(conv, size).numpy().ravel(), np.abs(matrix).sum(0) > 0)


@pytest.mark.parametrize(("c_out", "c_in", "kernel", "stride", "side"), [
    (64, 64, 3, 1, "input"), (63, 64, 3, 1, "output"), (128, 64, 3, 2, "output"), (256, 64, 3, 2, "input"),
    (128, 64, 1, 2, "input"), (48, 3, 4, 4, "input"), (47, 3, 4, 4, "output"), (24, 3, 2, 1, "input"),
])
def test_the_side_rule(c_out, c_in, kernel, stride, side):
    assert side_of(nn.Conv2d(c_in, c_out, kernel, stride)) == side


def test_a_kernel_that_moves_pixels_is_orthonormal():
    conv = nn.Conv2d(6, 6, 3, padding=1)
    rotation = torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(0)).double())[0]
    for row, column in ((1, 1), (0, 2)):
        conv = conv.double()
        conv.weight.data.zero_()[:, :, row, column] = rotation
        assert frame_bounds(conv, (8, 8)) == pytest.approx((1, 1), abs=1e-12)
    # Shifted off the map's corner, 1 - (7/8)^2 = 23% of a zero-padded layer's inputs are lost.
    values = explicit_eigenvalues(explicit_matrix(conv, (8, 8), circular=False), "output")
    assert (values < 1e-12).mean() == pytest.approx(1 - (7 / 8) ** 2)
    found = lanczos_bounds(conv, (8, 8))
    assert (found.lower, found.upper, found.lower_converged) == pytest.approx((0, 1, True), abs=1e-9)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize("case", LAYERS, ids=str)
def test_pixels_that_no_output_reads(case):
    conv, size = make(*case), (case[-1][0] + 1, case[-1][1])
    want = np.abs(explicit_matrix(conv, size, circular=False)).sum(0) > 0
    np.testing.assert_array_equal(pixels_read(conv, size).numpy().ravel(), want)


def test_three_vectors_of_the_plane_are_a_tight_frame():
    layer = nn.Linear(2, 3).double()
    layer.weight.data = torch.tensor([[0, 1], [math.sqrt(3) / 2, -0.5], [-math.sqrt(3) / 2, -0.5]],
                                     dtype=torch.float64)
    assert side_of(layer) == "input"
    assert frame_bounds(layer, (1, 1)) == pytest.approx((1.5, 1.5), rel=1e-14)
    assert gershgorin_bounds(layer) == pytest.approx((1.5, 1.5), rel=1e-14)


def test_gershgorin_with_disjoint_circles_is_exact():
    layer = nn.Linear(3, 3, bias=False).double()
    layer.weight.data = torch.diag(torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64))
    assert gershgorin_bounds(layer) == pytest.approx((1, 9))


def test_quantiles_count_multiplicities():
    found = spectrum(nn.Conv2d(2, 4, 3, padding=1), (6, 6))
    want = expanded(found)
    shares = np.linspace(0, 1, 7)
    np.testing.assert_array_equal(found.quantiles(shares), want[np.maximum(np.ceil(shares * 72).astype(int) - 1, 0)])


def test_what_layers_see(images):
    model = make_network("resnet20")
    inputs = layer_inputs(model, images)
    convs = [m for m in model.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    assert {layer for layer, _ in inputs.values()} == set(convs)
    torch.testing.assert_close(inputs["conv"][1], model.normalize(images))
    assert inputs["fc"][1].shape == (12, model.fc.in_features)
    assert not any(module._forward_pre_hooks for module in model.modules())
    model.train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    sizes = input_sizes(model, (32, 32))
    assert model.training and model.bn.training
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items()), "no statistics move"
    assert sizes["conv"] == (32, 32) and sizes["fc"] == (1, 1) and (16, 16) in sizes.values()


def test_what_follows_in_place_does_not_change_what_a_layer_saw():
    model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU(inplace=True), nn.Conv2d(3, 3, 1), nn.ReLU(inplace=True))

    class Emptying(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = model

        def forward(self, x):
            y = self.inner(x)
            x.zero_()
            return y

    x = torch.rand(1, 3, 4, 4)
    inputs = layer_inputs(Emptying(), x.clone())
    assert torch.equal(inputs["inner.0"][1], x)
    assert torch.equal(inputs["inner.2"][1], torch.relu(model[0](x)))


@pytest.mark.parametrize(("act", "message"), [
    (lambda: frame_bounds(nn.BatchNorm2d(3), (4, 4)), "not of BatchNorm2d"),
    (lambda: frame_bounds(nn.ConvTranspose2d(3, 3, 3), (4, 4)), "not of ConvTranspose2d"),
    (lambda: frame_bounds(nn.Conv2d(3, 3, 3, stride=2), (7, 8)), "needs a map that it divides, not 7x8"),
    (lambda: lanczos_bounds(nn.Conv2d(3, 3, 5), (4, 4)), "does not fit on a 4x4 map"),
])
def test_bad_input(act, message):
    with pytest.raises(InputError, match=message) as caught:
        act()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("call", [frame_bounds, lanczos_bounds, lambda layer, _: gershgorin_bounds(layer)])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_weights_that_are_not_finite(call, bad):
    conv = nn.Conv2d(3, 3, 3, padding=1)
    conv.weight.data[0, 0, 0, 0] = bad
    with pytest.raises(InputError, match="not finite"):
        call(conv, (4, 4))
