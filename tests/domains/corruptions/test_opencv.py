"""Compare our versions of OpenCV's operations with OpenCV, and HSV with scikit-image, if they are installed."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from framebench.domains.corruptions import blur, frost, opencv, pixels, resample


@pytest.fixture(scope="module")
def cv2():
    return pytest.importorskip("cv2", exc_type=ImportError)


def liquids():
    """Layers like those of spatter, some of noise and some of blocks; uint8 [60, 32, 32]."""
    rng = np.random.default_rng(0)
    layers = ndimage.gaussian_filter(rng.normal(0.65, 0.3, (58, 32, 32)), (0, 1, 1))
    layers[:30][layers[:30] < 0.69] = 0
    blocks = np.kron(rng.random((2, 4, 4)), np.ones((8, 8)))
    return (np.clip(np.concatenate([layers, blocks]), 0, 1) * 255).astype(np.uint8)


def test_canny(cv2):
    layers = liquids()
    for low, high in ((50, 150), (20, 400)):
        want = [cv2.Canny(layer, low, high) > 0 for layer in layers]
        np.testing.assert_array_equal(opencv.canny(layers, low, high), want)
        assert 0.005 < np.mean(want) < 0.6


def test_distance(cv2):
    rng = np.random.default_rng(1)
    targets = rng.random((40, 32, 32)) < rng.uniform(0.001, 0.2, (40, 1, 1))
    targets = targets[targets.any((1, 2)), :29]
    want = [cv2.distanceTransform(np.where(mask, 0, 255).astype(np.uint8), cv2.DIST_L2, 5) for mask in targets]
    np.testing.assert_allclose(opencv.distance(targets), want, atol=1e-4)  # some builds use floats, not 1/65536
    assert (opencv.distance(np.zeros((1, 32, 32), bool)) > 1000).all()


def test_equalize(cv2):
    layers = np.concatenate([liquids(), np.full((1, 32, 32), 9, np.uint8)])
    np.testing.assert_array_equal(opencv.equalize(layers), [cv2.equalizeHist(layer) for layer in layers])


def test_box_blur_and_emboss(cv2):
    layers = liquids()
    np.testing.assert_array_equal(opencv.box_blur(layers), [cv2.blur(layer, (3, 3)) for layer in layers])
    floats = np.random.default_rng(2).random((20, 32, 32), dtype=np.float32) * 20
    np.testing.assert_allclose(opencv.box_blur(floats), [cv2.blur(layer, (3, 3)) for layer in floats], rtol=1e-6)
    kernel = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]], np.int32)
    np.testing.assert_array_equal(opencv.emboss(layers), [cv2.filter2D(layer, cv2.CV_8U, kernel) for layer in layers])


def test_grey(cv2):
    x = np.random.default_rng(3).random((64, 64, 3), dtype=np.float32)
    np.testing.assert_allclose(opencv.grey(x), cv2.cvtColor(x, cv2.COLOR_RGB2GRAY), rtol=2e-7)


@pytest.mark.parametrize(("radius", "alias"), [(0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)])
def test_the_disk(cv2, radius, alias):
    y, x = np.mgrid[-8:9, -8:9]
    disk = (x**2 + y**2 <= radius**2).astype(np.float32)
    want = cv2.GaussianBlur(disk / disk.sum(), ksize=(3, 3), sigmaX=alias)
    ours = blur._disk(radius, alias)
    np.testing.assert_allclose(np.pad(ours, (17 - len(ours)) // 2), want, rtol=2e-7)


def test_warping(cv2):
    """OpenCV 5 uses exact positions, OpenCV 3 and 4.10 round them as we do: they differ by at most 1/64 of a pixel."""
    rng = np.random.default_rng(4)
    x = ndimage.gaussian_filter(rng.random((8, 32, 32, 3)), (0, 2, 2, 0)).astype(np.float32)
    back = np.array([[1, 0, 0], [0, 1, 0]]) + rng.normal(0, (0.1, 0.1, 2), (8, 2, 3))
    ours = resample.affine_warp(x, back)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    want = np.stack([cv2.warpAffine(image, m, (32, 32), flags=flags, borderMode=cv2.BORDER_REFLECT_101)
                     for image, m in zip(x, back, strict=True)])
    slope = np.abs(np.diff(x, axis=1)).max() + np.abs(np.diff(x, axis=2)).max()
    assert np.abs(ours - want).max() < slope / 60
    assert np.abs(ours - want).mean() < slope / 300


def test_frost_is_resized_as_opencv_does(cv2):
    picture = np.random.default_rng(5).integers(0, 256, (315, 563, 3), dtype=np.uint8)
    for scale in (0.2, 0.3):
        np.testing.assert_array_equal(frost._interpolated(picture, scale),
                                      cv2.resize(picture, (0, 0), fx=scale, fy=scale))


def test_hsv():
    colour = pytest.importorskip("skimage.color", exc_type=ImportError)
    levels = np.stack(np.meshgrid(*[np.arange(0, 256, 15)] * 3, indexing="ij"), axis=-1).reshape(1, -1, 3) / 255
    hsv = pixels.rgb_to_hsv(levels)
    np.testing.assert_array_equal(np.moveaxis(hsv, 0, -1), colour.rgb2hsv(levels))
    np.testing.assert_array_equal(pixels.hsv_to_rgb(hsv), colour.hsv2rgb(colour.rgb2hsv(levels)))
