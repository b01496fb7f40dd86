"""Compare all corruptions, severities and parameters with the plain implementation for one image, pixel for pixel.

Shot noise draws differently from its definition; it is compared with the Poisson distribution instead.
"""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from scipy import stats

from framebench.domains import load_domain
from framebench.domains.corruptions import NAMES, SEVERITIES, blur, corrupt, frost, noise
from framebench.seeding import generator
from tests.domains.corruptions import reference

SEED = 5


@pytest.fixture(scope="module")
def pictures():
    """Real images, and images of one colour, where the result depends on how sums are rounded."""
    x, _ = load_domain("samples").load([1, 6])
    real = np.rint(x.permute(0, 2, 3, 1).numpy() * 255).astype(np.uint8)
    flat = np.stack([np.full((32, 32, 3), level, np.uint8) for level in (77, 255)])
    halves = np.zeros((1, 32, 32, 3), np.uint8)
    halves[:, :16], halves[:, 16:, :, 1], halves[:, 16:, :, 2] = 200, 95, 14
    return np.concatenate([real, flat, halves])


@pytest.mark.parametrize("name", [name for name in NAMES if name != "shot_noise"])
def test_pixels_are_the_references(name, pictures):
    compare(name, pictures, [40 + 3 * i for i in range(len(pictures))], None, "cifar")


@pytest.mark.parametrize("parameters", ["tiny-imagenet", "imagenet"])
@pytest.mark.parametrize("name", [name for name in NAMES if name != "shot_noise"])
def test_pixels_with_the_parameters_for_larger_images(name, parameters, pictures):
    """The sides differ, so that rows and columns can't be exchanged."""
    large = np.stack([np.pad(picture, ((12, 4), (8, 16), (0, 0)), mode="symmetric") for picture in pictures[[0, 4]]])
    compare(name, large, [3, 8], parameters, parameters)


def compare(name, images, ids, parameters, table):
    textures = frost.textures({"cifar": 0.2, "tiny-imagenet": 0.3, "imagenet": 1}[table], *images.shape[1:3])
    for severity in SEVERITIES:
        found = corrupt(images, name, severity, SEED, ids, parameters)
        for image, example, got in zip(images, ids, found, strict=True):
            rng = generator(SEED, f"corruption-{name}", severity, example)
            want = reference.corrupt(image, name, severity, rng, textures, table)
            np.testing.assert_array_equal(got, want, err_msg=f"{name} {severity}, example {example}")


@pytest.mark.parametrize("photons", [500, 250, 75, 12, 3])
def test_shot_noise_is_poisson(photons):
    share, other = noise._shots(photons)
    counts = np.arange(3 * photons + 20)
    results = np.trunc(np.minimum(counts / photons, 1) * 255).astype(int)
    for level in range(0, 256, 15):
        want = np.bincount(results, stats.poisson.pmf(counts, level / 255 * photons), minlength=256)
        have = np.clip(share[level], 0, 1) + np.bincount(other[level], 1 - np.clip(share[level], 0, 1), minlength=256)
        np.testing.assert_allclose(have / 256, want, atol=1e-12)


def test_shot_noise_draws_from_its_table():
    images = np.full((200, 32, 32, 3), 40, np.uint8)
    have = np.bincount(corrupt(images, "shot_noise", 4).ravel(), minlength=256)
    counts = np.arange(76)
    want = np.bincount((counts / 75 * 255).astype(int), stats.poisson.pmf(counts, 40 / 255 * 75)) * have.sum()
    likely = want > 5
    assert have[~likely].sum() < 100
    assert stats.chisquare(have[likely], want[likely] * have[likely].sum() / want[likely].sum()).pvalue > 1e-3


@pytest.mark.parametrize(("radius", "sigma", "angle", "row", "digest"), [
    (6, 1, -30.0, [149, 155, 162, 169, 176], "8f455fca1770154c"),
    (9, 2.5, 41.5, [181, 190, 199, 92, 101], "035fe8f3fbc62e6e"),
    (14, 12, -77.0, [31, 33, 35, 37, 39], "5d703b386ab612b5")])
def test_smearing_is_imagemagicks(radius, sigma, angle, row, digest):
    """The expected values are those of MagickMotionBlurImage in ImageMagick 6.9.11-60 Q16, as an 8-bit grey PNG."""
    y, x = np.mgrid[:32, :32]
    pattern = ((37 * y * y + 11 * x * y + 5 * x) // 8 % 256).astype(np.uint8)
    found = blur.smear(pattern[None, ..., None], radius, sigma, np.array([angle]))[0, ..., 0]
    assert found[5, 7:12].tolist() == row
    assert hashlib.sha256(found.tobytes()).hexdigest()[:16] == digest
