from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.fft import idctn

from framebench.attacks.bases import BASES, CumulativeDCTBasis, DCTBasis, bands


def test_the_dct_directions_are_scipys_orthonormal_ones():
    shape = (2, 6, 4)
    directions = np.arange(48)
    basis = DCTBasis(48, shape, torch.float64, torch.device("cpu"), None)
    basis.admit(directions, torch.full((48, *shape), 0.5, dtype=torch.float64))
    basis.show(directions, directions, np.full(48, 0.4))
    vectors = (basis.images.numpy() - 0.5) / 0.4
    want = idctn(np.eye(48).reshape(48, *shape), axes=(2, 3), norm="ortho")
    np.testing.assert_allclose(vectors, want, atol=1e-13)


def test_large_images_take_little_memory():
    basis = DCTBasis(2, (3, 224, 224), torch.float32, torch.device("cpu"), None)
    basis.admit(np.arange(2), torch.full((2, 3, 224, 224), 0.5))
    directions = np.array([224 * 224 + 224 * 5 + 7, 3])
    basis.show(np.arange(2), directions, np.array([20.0, 20.0]))
    unit = np.zeros((224, 224))
    unit[5, 7] = 20
    np.testing.assert_allclose(basis.images[0, 1].numpy() - 0.5, idctn(unit, norm="ortho"), atol=1e-6)


@pytest.mark.parametrize("size", [5, 200])
@pytest.mark.parametrize("linf", [None, 0.3])
@pytest.mark.parametrize("kind", [*BASES.values(), CumulativeDCTBasis])
def test_a_trial_that_is_taken_back_leaves_no_trace(kind, linf, size):
    x = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    basis = kind(2, (3, size, size), torch.float32, torch.device("cpu"), linf)
    rows, kept = np.arange(2), x
    basis.admit(rows, x)
    for directions in (np.array([7, 31]), np.array([9, 33])):
        basis.show(rows, directions, np.array([0.9, -0.9]))
        assert not torch.equal(basis.images, kept)
        basis.show(rows, directions, np.zeros(2))
        assert torch.equal(basis.images, kept)
        basis.show(rows, directions, np.array([-0.8, 0.8]))
        basis.keep(rows, directions, np.array([-0.8, 0.8]))
        kept = basis.images.clone()


def test_low_frequencies_come_first():
    def listed(order, shape, budget):
        return [band.tolist() for band in bands(order, shape, budget)]

    assert listed("random", (1, 2, 3), 2) == [[0, 1, 2, 3, 4, 5]]
    every = [[0, 9], [1, 3, 4, 10, 12, 13], [2, 5, 6, 7, 8, 11, 14, 15, 16, 17]]
    assert listed("low-frequency", (2, 3, 3), 18) == every
    assert listed("low-frequency", (1, 2, 3), 6) == [[0], [1, 3, 4], [2, 5]]
    for budget, needed in ((0, 1), (2, 1), (3, 2), (8, 2), (9, 3)):
        assert listed("low-frequency", (2, 3, 3), budget) == every[:needed]


@pytest.mark.parametrize(("size", "first", "stride"), [(224, 28, 7), (299, 38, 9), (32, 4, 1)])
def test_strided_bands_are_those_of_the_authors_code(size, first, stride):
    """Their ImageNet runs: --freq_dims 28 --stride 7, and 38 and 9 for Inception-v3."""
    band = np.empty(size * size, dtype=int)
    for number, directions in enumerate(bands("strided", (1, size, size), size * size)):
        band[directions] = number
    band = band.reshape(size, size)
    np.testing.assert_array_equal(band, band.T)
    assert (band[:first, :first] == 0).all()
    for number, start in enumerate(range(first, size, stride), start=1):
        assert (band[: start + 1, start : start + stride] == number).all()
    assert band.max() == number
