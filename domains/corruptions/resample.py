"""Magnify, warp and displace batches of images with linear interpolation."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
from scipy import ndimage

Border = Callable[[np.ndarray, int], np.ndarray]


@cache
def zoom_matrix(size: int, factor: float) -> np.ndarray:
    """Return the matrix A [size, size] that magnifies the middle of a line of pixels to its full length.

    Linear interpolation stretches the middle ceil(size / factor) pixels by `factor`, so that the first and last pixels
    stay first and last. The middle `size` pixels of the result are kept. An image X becomes A X A^T.
    """
    kept = int(np.ceil(size / factor))
    start = (size - kept) // 2
    stretched = ndimage.zoom(np.eye(kept), (factor, 1), order=1)
    trim = (len(stretched) - size) // 2
    matrix = np.zeros((size, size))
    matrix[:, start:start + kept] = stretched[trim:trim + size]
    return matrix


@cache
def smoothing_matrix(size: int, sigma: float) -> np.ndarray:
    """Return the matrix [size, size] of a Gaussian filter that ends at 3 sigma; the line is mirrored at its ends."""
    return ndimage.gaussian_filter1d(np.eye(size), sigma, axis=0, mode="reflect", truncate=3.0) if sigma > 0 \
        else np.eye(size)


def affine_warp(x: np.ndarray, matrices: np.ndarray) -> np.ndarray:
    """Warp float32 images as OpenCV's warpAffine does: linear, and mirrored without repeating the edge.

    Source coordinates are rounded to 1/32 of a pixel with OpenCV's fixed-point arithmetic (10 fractional bits).

    Args:
        x: float32 [n, H, W, 3].
        matrices: Maps from *destination* (x, y, 1) to source (x, y), float64 [n, 2, 3].
    """
    _, height, width, _ = x.shape
    columns = np.rint(matrices[:, :, 0, None] * np.arange(width) * 1024).astype(np.int64)
    rows = np.rint((matrices[:, :, 1, None] * np.arange(height) + matrices[:, :, 2, None]) * 1024).astype(np.int64)
    fixed = (rows[:, :, :, None] + columns[:, :, None, :] + 16) >> 5  # [n, (x, y), H, W] in 1/32 of a pixel
    whole, part = fixed >> 5, (fixed & 31).astype(np.float32) / 32
    return _bilinear(x, (whole[:, 1], whole[:, 0]), (part[:, 1], part[:, 0]), _mirror)


def displace(x: np.ndarray, dy: np.ndarray, dx: np.ndarray) -> np.ndarray:
    """Read float32 images at (row + dy, column + dx): linear, and mirrored with the edge repeated.

    Args:
        x: float32 [n, H, W, 3].
        dy: Vertical displacement in pixels, float64 [n, H, W].
        dx: Horizontal displacement in pixels, float64 [n, H, W].
    """
    _, height, width, _ = x.shape
    positions = np.arange(height)[:, None] + dy, np.arange(width) + dx
    whole = [np.floor(position) for position in positions]
    part = positions[0] - whole[0], positions[1] - whole[1]
    return _bilinear(x, (whole[0].astype(np.int64), whole[1].astype(np.int64)), part, _mirror_with_edge).astype(
        np.float32)


def _bilinear(x: np.ndarray, corner: tuple[np.ndarray, np.ndarray], part: tuple[np.ndarray, np.ndarray],
              border: Border) -> np.ndarray:
    """Interpolate between four pixels: `corner` is the first, `part` the fraction, both (row, column) [n, H, W]."""
    n, height, width, channels = x.shape
    planes = np.ascontiguousarray(x.reshape(-1, channels).T)  # channels first gives numpy long rows
    base = np.arange(n)[:, None, None] * (height * width)
    rows = [base + fold * width for fold in _folded(corner[0], height, border)]
    columns = _folded(corner[1], width, border)
    out = np.zeros((channels, n, height, width), part[0].dtype)
    for row, row_weight in zip(rows, (1 - part[0], part[0]), strict=True):
        for column, column_weight in zip(columns, (1 - part[1], part[1]), strict=True):
            out += row_weight * column_weight * planes.take(row + column, axis=1)
    return np.moveaxis(out, 0, -1)


def _folded(index: np.ndarray, size: int, border: Border) -> list[np.ndarray]:
    """Fold `index` and `index` + 1 into 0 .. size - 1; a table saves one division per pixel."""
    first = int(index.min())
    table = border(np.arange(first, int(index.max()) + 2), size)
    return [table.take(index - (first - k)) for k in (0, 1)]


def _mirror(index: np.ndarray, size: int) -> np.ndarray:
    """Fold indices into 0 .. size - 1: ... 2 1 | 0 1 2 ..."""
    folded = index % (2 * size - 2)
    mirrored: np.ndarray = np.minimum(folded, 2 * size - 2 - folded)
    return mirrored


def _mirror_with_edge(index: np.ndarray, size: int) -> np.ndarray:
    """Fold indices into 0 .. size - 1: ... 1 0 | 0 1 ..."""
    folded = index % (2 * size)
    mirrored: np.ndarray = np.minimum(folded, 2 * size - 1 - folded)
    return mirrored
