"""The Fourier blocks against the singular values of explicit block-Toeplitz matrices."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from framebench.errors import InputError
from framebench.models.operators import fourier_blocks
from tests.models.regularizers import dense

# kernel, stride, dilation, groups, size
CASES = [(k, s, 1, g, 6) for k in (1, 3, 5) for s in (1, 2) for g in (1, 2)]
CASES += [(3, 1, 2, 1, 8), (3, 2, 3, 2, 8), (3, 3, 1, 1, 6), (2, 2, 1, 1, 5 + 5), (3, 1, 1, 1, 5), (5, 1, 1, 1, 5)]


@pytest.mark.parametrize("shape", [(2, 4), (4, 2)], ids=["wide", "narrow"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_singular_values_are_those_of_the_toeplitz_matrix(case, shape):
    kernel, stride, dilation, groups, size = case
    torch.manual_seed(0)
    conv = nn.Conv2d(*shape, kernel, stride, dilation=dilation, groups=groups).double()
    blocks, weights = fourier_blocks(conv.weight, (size, size), stride=conv.stride, dilation=conv.dilation,
                                     groups=groups)
    side = size // stride
    assert blocks.shape[1:] == (shape[1] // groups, shape[0] // groups * stride**2)
    assert weights.sum() == groups * side**2
    values = torch.linalg.svdvals(blocks).repeat_interleave(weights.long(), 0).flatten()
    want = torch.linalg.svdvals(dense.toeplitz(conv, size))
    values = values.sort(descending=True).values
    assert len(values) == len(want)
    torch.testing.assert_close(values, want, atol=1e-10, rtol=0)


def test_maps_that_are_not_square():
    conv = nn.Conv2d(2, 3, (3, 1), (2, 1)).double()
    blocks, weights = fourier_blocks(conv.weight, (4, 7), stride=(2, 1))
    assert weights.sum() == 2 * 7
    # Parseval: the squares of all singular values are those of the kernel, once an output position.
    squares = (blocks.abs().square().sum((1, 2)) * weights).sum()
    torch.testing.assert_close(squares, conv.weight.square().sum() * 14, atol=1e-10, rtol=0)


def test_gradients_flow_to_the_kernel():
    weight = torch.randn(2, 2, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def energy(w):
        blocks, weights = fourier_blocks(w, (4, 4), stride=(2, 2))
        return (torch.linalg.eigvalsh(blocks @ blocks.mH).square().sum(1) * weights).sum()
    assert torch.autograd.gradcheck(energy, weight.requires_grad_())


def test_a_map_that_the_stride_does_not_divide_is_refused():
    with pytest.raises(InputError, match="stride 2x2 needs a map that it divides, not 5x6"):
        fourier_blocks(torch.zeros(1, 1, 3, 3), (5, 6), stride=(2, 2))
