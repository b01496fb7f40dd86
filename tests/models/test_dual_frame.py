from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from framebench.errors import InputError
from framebench.models.dual_frame import reconstruct
from framebench.models.spectrum import frame_bounds
from tests.models.test_spectrum import explicit_matrix


def near_orthogonal(c_in, c_out, **options):
    torch.manual_seed(3)
    conv = nn.Conv2d(c_in, c_out, 3, padding=1, **options).double()
    conv.weight.data.mul_(0.2)[:, :, 1, 1] += nn.init.orthogonal_(torch.empty(c_out, c_in)).double()
    return conv


@pytest.mark.parametrize("options", [{}, {"padding_mode": "circular"}, {"padding_mode": "reflect"}], ids=str)
def test_a_well_conditioned_layer_is_undone(options):
    conv = near_orthogonal(4, 7, **options)
    z = torch.randn(3, 4, 6, 7, dtype=torch.float64)
    torch.testing.assert_close(reconstruct(conv, conv(z), (6, 7), steps=60), z, rtol=0, atol=1e-8)
    assert not reconstruct(conv, conv(z), (6, 7)).requires_grad


def test_steps_beyond_the_solution_do_no_harm_in_single_precision():
    torch.manual_seed(0)
    layer = nn.Linear(6, 10)
    layer.bias.data *= 100
    z = torch.randn(5, 6)
    torch.testing.assert_close(reconstruct(layer, layer(z), (1, 1), steps=200), z, rtol=0, atol=1e-3)
    assert layer.bias is not None
    assert torch.equal(reconstruct(layer, layer(0 * z), (1, 1)), 0 * z)


def test_the_error_falls_at_the_rate_that_the_bounds_promise():
    conv = near_orthogonal(4, 7, padding_mode="circular")
    lower, upper = frame_bounds(conv, (8, 8))
    rate = (math.sqrt(upper) - math.sqrt(lower)) / (math.sqrt(upper) + math.sqrt(lower))
    z = torch.randn(1, 4, 8, 8, dtype=torch.float64)
    for steps in (1, 5, 15):  # conjugate gradients bound the error in T^T T's norm, hence the square root of B/A
        error = (reconstruct(conv, conv(z), (8, 8), steps=steps) - z).norm() / z.norm()
        assert error <= 2 * rate**steps * math.sqrt(upper / lower)


def test_of_a_wide_layer_the_projection_is_found():
    conv = near_orthogonal(7, 4)
    matrix = explicit_matrix(conv, (5, 5), circular=False)
    z = torch.randn(1, 7, 5, 5, dtype=torch.float64)
    want = np.linalg.pinv(matrix) @ matrix @ z.numpy().ravel()
    found = reconstruct(conv, conv(z), (5, 5), steps=100)
    np.testing.assert_allclose(found.numpy().ravel(), want, atol=1e-8)
    assert 0.5 < found.norm() / z.norm() < 0.95


def test_a_tight_frame_needs_one_step():
    layer = nn.Linear(2, 3).double()
    angles = torch.tensor([0.1, 0.1 + 2 * math.pi / 3, 0.1 + 4 * math.pi / 3], dtype=torch.float64)
    layer.weight.data = torch.stack([angles.cos(), angles.sin()], 1)
    z = torch.tensor([[0.3, -2.0]], dtype=torch.float64)
    torch.testing.assert_close(reconstruct(layer, layer(z), (1, 1), steps=1), z)


def test_only_convolutions_and_linear_layers_are_undone():
    with pytest.raises(InputError, match="not of ReLU"):
        reconstruct(nn.ReLU(), torch.zeros(1, 3), (1, 1))
