"""Defocus, glass, motion, zoom and Gaussian blur."""

from __future__ import annotations

from functools import cache

import numpy as np
from scipy import ndimage, signal, sparse

from framebench.domains.corruptions.pixels import Generators, to_bytes, uniform, unit
from framebench.domains.corruptions.resample import zoom_matrix

#: Kernels with more rows are applied by FFT, which is faster from there on.
LARGEST_DIRECT = 9


def gaussian(x: np.ndarray, sigma: float) -> np.ndarray:
    """Smooth [n, H, W] or [n, H, W, C] along H and W; border pixels are repeated, the filter ends at 4 sigma."""
    return ndimage.gaussian_filter(x, (0, sigma, sigma, 0)[: x.ndim], mode="nearest", truncate=4.0)


def gaussian_blur(x: np.ndarray, sigma: float) -> np.ndarray:
    """Smooth with a Gaussian filter."""
    return to_bytes(gaussian(unit(x), sigma))


def defocus_blur(x: np.ndarray, radius: float, alias: float) -> np.ndarray:
    """Correlate with a disk. Beyond the border the image is mirrored without repeating its edge (reflect-101).

    In the reference, OpenCV applies this kernel with a DFT; here only a large kernel needs one. The direct sum differs
    only for pixels that are within rounding error of a level.
    """
    kernel = _disk(radius, alias).astype(np.float64)[None, :, :, None]
    if kernel.shape[1] <= LARGEST_DIRECT:
        return to_bytes(ndimage.correlate(unit(x), kernel, mode="mirror"))
    reach = kernel.shape[1] // 2
    padded = np.pad(unit(x), ((0, 0), (reach, reach), (reach, reach), (0, 0)), mode="reflect")
    return to_bytes(signal.fftconvolve(padded, kernel, mode="valid", axes=(1, 2)))  # the kernel is symmetric


@cache
def _disk(radius: float, alias: float) -> np.ndarray:
    """Return a disk smoothed by a small Gaussian with standard deviation `alias`, float32 [k, k].

    It is smoothed on a square that a disk of radius 8 or more touches; beyond it, the disk is mirrored (reflect-101).
    """
    reach, half = (8, 1) if radius <= 8 else (int(radius), 2)
    y, x = np.mgrid[-reach:reach + 1, -reach:reach + 1]
    disk: np.ndarray = (x**2 + y**2 <= radius**2).astype(np.float32)
    disk /= disk.sum()
    taps = np.exp(-np.arange(-half, half + 1) ** 2 / (2 * alias**2))
    taps = (taps / taps.sum()).astype(np.float32)[half:]
    for _ in range(2):  # along the rows, then along the columns
        padded = np.pad(disk, ((0, 0), (half, half)), mode="reflect")
        disk = taps[0] * disk
        for k in range(1, half + 1):
            sides = padded[:, half - k:len(disk) + half - k] + padded[:, half + k:len(disk) + half + k]
            disk = (float(taps[k]) * sides.astype(np.float64) + disk).astype(np.float32)  # a fused multiply-add
        disk = disk.T
    used = np.flatnonzero(disk.any(axis=0))
    return disk[used[0]:used[-1] + 1, used[0]:used[-1] + 1]


def glass_blur(x: np.ndarray, rngs: Generators, sigma: float, delta: int, passes: int) -> np.ndarray:
    """Smooth, move pixels by at most `delta` rows and columns, and smooth again.

    The reference means to swap each pixel with a random neighbour, from the last pixel to the first. But it swaps two
    views of one array, so that the neighbour is copied and not changed.
    """
    n, height, width, _ = x.shape
    draws = np.stack([rng.integers(-delta, delta, (passes, height - 2 * delta, width - 2 * delta, 2)) for rng in rngs],
                     axis=1)
    draws = draws[:, :, ::-1, ::-1]  # drawn in the order of the loop
    neighbours = np.tile(np.arange(n * height * width).reshape(n, height, width), (passes, 1, 1, 1))
    neighbours[:, :, delta + 1:height - delta + 1, delta + 1:width - delta + 1] += draws[..., 1] * width + draws[..., 0]

    pixels = to_bytes(gaussian(unit(x), sigma)).reshape(-1, 3)
    for chosen in neighbours.reshape(passes, -1):
        pixels = pixels.take(_sources(chosen), axis=0)
    return to_bytes(gaussian(unit(pixels.reshape(x.shape)), sigma))


def _sources(neighbours: np.ndarray) -> np.ndarray:
    """Return where the pixels of a pass come from, int64 [m], if each copies a neighbour, from the last to the first.

    A neighbour before the pixel still has its own content. One after it already has a copy, perhaps of a copy.
    """
    sources = neighbours.copy()
    pixels = np.flatnonzero(neighbours > np.arange(len(neighbours)))
    at = neighbours[pixels]
    while len(pixels):
        following = neighbours[at]
        sources[pixels] = following
        copied = following > at
        pixels, at = pixels[copied], following[copied]
    return sources


def motion_blur(x: np.ndarray, rngs: Generators, radius: int, sigma: float) -> np.ndarray:
    """Smear along a line with a random angle between -45 and 45 degrees."""
    angles = -45 + 90 * uniform(rngs, (1,))[:, 0]
    return smear(x, radius, sigma, angles)


def smear(x: np.ndarray, radius: int, sigma: float, angles: np.ndarray) -> np.ndarray:
    """Blur uint8 [n, H, W, C] along one side of a line; the result is that of ImageMagick 6 at 16 bits, bit for bit.

    s(y, x) = sum_i k_i in(y + dy_i, x + dx_i), with k_i ~ exp(-i^2 / 2 sigma^2) for i = 0 .. 2 radius. Offsets are
    rounded to whole pixels, and border pixels are repeated. Level v is 257 v at 16 bits. Sums are rounded to 16 bits,
    then truncated to 8 bits: floor(round(257 s) / 257), which is floor(s + 1 / 514).

    Args:
        x: The images.
        radius: Half the length of the kernel, in pixels.
        sigma: Standard deviation of the kernel, in pixels.
        angles: Direction of the line for each image, in degrees, float64 [n].
    """
    steps = np.arange(2 * radius + 1)
    kernel = np.exp(-steps**2 / (2 * sigma**2))
    kernel /= kernel.sum()
    steps = steps[kernel > 1e-12]  # the omitted terms change a sum by less than 1e-9 levels
    direction = np.stack([np.sin(np.deg2rad(angles)), np.cos(np.deg2rad(angles))], axis=1)
    offsets = np.ceil(direction[:, :, None] * steps - 0.5).astype(np.int64)  # [n, (dy, dx), taps]

    _, height, width, _ = x.shape
    reach = int(np.abs(offsets).max(initial=0))
    padded = np.pad(x, ((0, 0), (reach, reach), (reach, reach), (0, 0)), mode="edge")
    shifted, out = np.empty((len(steps), *x.shape[1:])), np.empty_like(x)
    for image, (down, across), result in zip(padded, (offsets + reach).tolist(), out, strict=True):
        for view, top, left in zip(shifted, down, across, strict=True):
            view[:] = image[top:top + height, left:left + width]
        total = kernel[: len(steps)] @ shifted.reshape(len(steps), -1)
        result[:] = (total + 1 / 514).reshape(result.shape)
    return out


def zoom_blur(x: np.ndarray, end: float, step: float) -> np.ndarray:
    """Average the image and its magnifications about the centre by 1, 1 + step, 1 + 2 step, ... up to `end`."""
    factors = np.arange(1, end, step)  # rounding decides whether `end` is included, as in the reference
    n, height, width, channels = x.shape
    columns = np.ascontiguousarray((x.astype(np.float32) / np.float32(255)).transpose(1, 2, 0, 3)).reshape(
        height * width, n * channels)
    # float32 sums in the reference's order: in areas of one colour, values are at the boundary of two levels.
    total, doubles = np.zeros_like(columns), columns.astype(np.float64)
    for factor in factors:
        total += (_zoom_image(height, width, float(factor)) @ doubles).astype(np.float32)
    out = to_bytes((columns + total) / np.float32(len(factors) + 1))
    return out.reshape(height, width, n, channels).transpose(2, 0, 1, 3)


@cache
def _zoom_image(height: int, width: int, factor: float) -> sparse.csr_array:
    """Return the sparse matrix [H W, H W] that magnifies a flattened image by linear interpolation."""
    return sparse.csr_array(sparse.kron(zoom_matrix(height, factor), zoom_matrix(width, factor)))
