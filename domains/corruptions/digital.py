"""Contrast, elastic transform, pixelation, JPEG compression and saturation."""

from __future__ import annotations

from io import BytesIO

import numpy as np
from PIL import Image

from framebench.domains.corruptions.pixels import Generators, hsv_to_rgb, rgb_to_hsv, to_bytes, uniform, unit
from framebench.domains.corruptions.resample import affine_warp, displace, smoothing_matrix


def contrast(x: np.ndarray, keep: float) -> np.ndarray:
    """Move values towards the mean of their channel."""
    values = unit(x)
    means = values.mean(axis=(1, 2), keepdims=True)
    return to_bytes((values - means) * keep + means)


def elastic_transform(x: np.ndarray, rngs: Generators, alpha: float, sigma: float, jitter: float) -> np.ndarray:
    """Apply a random affine map, then displace pixels by smoothed noise (not where `alpha` is 0)."""
    n, height, width, _ = x.shape
    draws = 2 * uniform(rngs, (6 + (2 * height * width if alpha else 0),)) - 1

    arm, across, down = min(height, width) // 3, width // 2, height // 2
    corners = np.array([[across + arm, down + arm], [across + arm, down - arm], [across - arm, down - arm]], np.float32)
    moved = corners + (jitter * draws[:, :6]).reshape(n, 3, 2).astype(np.float32)
    values = affine_warp(x.astype(np.float32) / np.float32(255), _affine(moved, corners))

    if alpha == 0:
        return to_bytes(values)
    noise = draws[:, 6:].reshape(n, 2, height, width)
    shift = smoothing_matrix(height, sigma) @ noise @ smoothing_matrix(width, sigma).T
    dx, dy = np.moveaxis((shift * alpha).astype(np.float32), 1, 0)
    return to_bytes(displace(values, dy.astype(np.float64), dx.astype(np.float64)))


def _affine(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return the affine maps, float64 [n, 2, 3], from three points (x, y) [n, 3, 2] to the points [3, 2]."""
    homogeneous = np.concatenate([source.astype(np.float64), np.ones((len(source), 3, 1))], axis=2)
    return np.linalg.solve(homogeneous, target.astype(np.float64)).transpose(0, 2, 1)


def pixelate(x: np.ndarray, share: float) -> np.ndarray:
    """Reduce and enlarge the image with a box filter."""
    _, height, width, _ = x.shape
    small, out = (int(width * share), int(height * share)), np.empty_like(x)
    for image, row in zip(x, out, strict=True):
        row[:] = Image.fromarray(image).resize(small, Image.Resampling.BOX).resize((width, height),
                                                                                   Image.Resampling.BOX)
    return out


def jpeg_compression(x: np.ndarray, quality: int) -> np.ndarray:
    """Encode and decode with Pillow's libjpeg, with chroma at half the resolution."""
    out = np.empty_like(x)
    for image, row in zip(x, out, strict=True):
        encoded = BytesIO()
        Image.fromarray(image).save(encoded, "JPEG", quality=quality)
        row[:] = Image.open(encoded)
    return out


def saturate(x: np.ndarray, scale: float, shift: float) -> np.ndarray:
    """Scale and shift the saturation in HSV."""
    hsv = rgb_to_hsv(unit(x))
    hsv[1] = np.clip(hsv[1] * scale + shift, 0, 1)
    return to_bytes(hsv_to_rgb(hsv))
