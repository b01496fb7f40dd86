from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.fft import idctn

from attacks.bases import BASES, CumulativeDCTBasis, _dct_vectors, frequencies


def test_the_dct_basis_is_orthonormal_and_scipys():
    vectors = _dct_vectors(6, 4)
    torch.testing.assert_close(vectors @ vectors.T, torch.eye(24, dtype=torch.float64), atol=1e-13, rtol=0)
    for k in (0, 1, 4, 23):
        unit = np.zeros((6, 4))
        unit.flat[k] = 1
        np.testing.assert_allclose(vectors[k].reshape(6, 4).numpy(), idctn(unit, norm="ortho"), atol=1e-13)


@pytest.mark.parametrize("linf", [None, 0.3])
@pytest.mark.parametrize("kind", [*BASES.values(), CumulativeDCTBasis])
def test_a_trial_that_is_taken_back_leaves_no_trace(kind, linf):
    x = torch.rand(2, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    basis = kind(2, (3, 5, 5), torch.float32, torch.device("cpu"), linf)
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


def test_frequencies_grow_from_the_constant():
    frequency = frequencies((2, 3, 3))
    assert frequency.tolist() == [0, 1, 2, 1, 1, 2, 2, 2, 2] * 2
