"""frame, frame-spectral and OCNN, values and gradients, against explicit block-Toeplitz matrices."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from framebench.models.regularizers import REGULARIZERS, gram
from tests.models.regularizers import dense

# c_in, c_out, kernel, stride, dilation, groups, size of the map
CASES = [
    (3, 4, 1, 1, 1, 1, 4),
    (4, 3, 1, 1, 1, 1, 4),
    (3, 4, 3, 1, 1, 1, 6),  # T^T T
    (4, 3, 3, 1, 1, 1, 5),  # T T^T
    (3, 3, 3, 1, 1, 1, 5),
    (2, 3, 5, 1, 1, 1, 9),
    (3, 2, 5, 1, 1, 1, 10),
    (3, 6, 3, 2, 1, 1, 10),  # a stage transition: T T^T
    (1, 5, 3, 2, 1, 1, 10),  # T^T T
    (1, 4, 5, 2, 1, 1, 12),
    (2, 3, 5, 2, 1, 1, 12),
    (2, 3, 5, 3, 1, 1, 12),
    (3, 4, 2, 2, 1, 1, 4),  # no overlap
    (3, 6, 1, 2, 1, 1, 4),  # a shortcut
    (4, 6, 3, 1, 1, 2, 5),
    (6, 4, 3, 2, 1, 2, 10),
    (3, 3, 3, 1, 1, 3, 5),  # depthwise
    (2, 3, 3, 1, 2, 1, 10),
    (2, 3, 3, 2, 3, 1, 10),  # neither divides the other
    (2, 3, (1, 3), 1, 1, 1, 5),
    (2, 5, (3, 2), (2, 1), 1, 1, 10),
]


def _layer(c_in, c_out, kernel, stride, dilation, groups):
    torch.manual_seed(0)
    return nn.Conv2d(c_in, c_out, kernel, stride, padding=1, dilation=dilation, groups=groups, bias=False).double()


def _compare(layer, got, want):
    gradient, = torch.autograd.grad(got, layer.weight, retain_graph=True)
    expected, = torch.autograd.grad(want, layer.weight, retain_graph=True)
    assert want > 1e-3
    torch.testing.assert_close(got, want, atol=1e-10, rtol=1e-10)
    torch.testing.assert_close(gradient, expected, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_frame(case, relative):
    layer, size = _layer(*case[:6]), case[6]
    v = dense.gram(layer, size)
    want = dense.frame(v / v.diagonal().mean() if relative else v, 0.3, 0.4)
    _compare(layer, REGULARIZERS["frame"](lower=0.3, upper=0.4, relative=relative)(layer), want)


@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize("case", [case for case in CASES if isinstance(case[3], int)], ids=str)
def test_frame_spectral(case, relative):
    layer, size = _layer(*case[:6]), case[6]
    v = dense.gram(layer, size)
    want = dense.frame_spectral(v / v.diagonal().mean() if relative else v, 0.3, 0.4)
    # The map's outputs a side; dilated by 2 at stride 1, a map falls apart into four of half the side.
    grid = size // layer.stride[0] // (2 if layer.dilation == (2, 2) else 1)
    penalty = REGULARIZERS["frame-spectral"](lower=0.3, upper=0.4, relative=relative, grid=grid)
    _compare(layer, penalty(layer), want)


#: T^T T, T T^T, strided, grouped, with a mean diagonal on either side of the bounds below.
SOME = [CASES[i] for i in (2, 3, 7, 14)]


@pytest.mark.parametrize("side", ["both", "lower", "upper"])
@pytest.mark.parametrize("case", SOME, ids=str)
def test_frame_read_literally_and_single_bounds(case, side):
    layer, size = _layer(*case[:6]), case[6]
    v = dense.gram(layer, size)
    for literal in (False, True):
        penalty = REGULARIZERS["frame"](lower=0.3, upper=0.4, literal=literal, side=side)
        _compare(layer, penalty(layer), dense.frame(v, 0.3, 0.4, literal=literal, side=side))


@pytest.mark.parametrize("side", ["both", "lower", "upper"])
@pytest.mark.parametrize("case", SOME, ids=str)
def test_frame_spectral_on_a_logarithmic_scale_and_single_bounds(case, side):
    layer, size = _layer(*case[:6]), case[6]
    v = dense.gram(layer, size)
    for offset in (None, 0.05):
        penalty = REGULARIZERS["frame-spectral"](lower=0.3, upper=0.4, side=side, grid=size // layer.stride[0],
                                                 **({"scale": "log", "offset": offset} if offset else {}))
        _compare(layer, penalty(layer), dense.frame_spectral(v, 0.3, 0.4, offset=offset, side=side))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_ocnn(case):
    layer, size = _layer(*case[:6]), case[6]
    s_h, s_w = layer.stride
    flattened = min(layer.stride) >= max(layer.kernel_size)
    positions = 1 if flattened else (size // s_h) * (size // s_w)
    _compare(layer, REGULARIZERS["ocnn"]()(layer), dense.ocnn(dense.gram(layer, size), positions))


@pytest.mark.parametrize("shape", [(1, 7, 5, 3, 3), (2, 6, 4, 2, 2), (1, 9, 3, 1, 1), (3, 5, 5, 5, 3)])
def test_the_gram_of_a_gpu_and_its_gradient_are_those_of_the_cpu(shape, monkeypatch):
    """On the CPU, in float64: both ways are the same sums."""
    kernel = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = []
    for at_once in (False, True):
        monkeypatch.setattr(gram, "_at_once", lambda taps, at_once=at_once: at_once)
        k = kernel.clone().requires_grad_()
        v = gram.half_gram(k)
        (v * torch.linspace(-1, 1, v.numel(), dtype=v.dtype).view(v.shape)).sum().backward()
        found.append((v, k.grad))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)
