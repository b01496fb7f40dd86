"""OpenCV's luma, Canny, distance transform, histogram equalisation, box blur and emboss, for batches of images.

The results are those of OpenCV 4, bit for bit where it computes in integers. Images are [n, H, W] unless stated.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

#: Steps of the 5 x 5 chamfer distance (1, 1.4, 2.1969: straight, diagonal, knight's move) in 1/65536 of a pixel.
_STRAIGHT, _DIAGONAL, _KNIGHT = 65536, 91750, 143976
_FAR = (2**31 - 1) >> 2
#: tan(22.5 degrees) in 1/32768.
_TAN = 13573


def grey(x: np.ndarray) -> np.ndarray:
    """Return the luma, float32 [...], of float32 RGB [..., 3]; each fused multiply-add rounds once."""
    red, green, blue = (x[..., i].astype(np.float64) for i in range(3))
    luma = (green * np.float32(0.587)).astype(np.float32)
    for channel, weight in ((red, 0.299), (blue, 0.114)):
        luma = (channel * np.float32(weight) + luma).astype(np.float32)
    return luma


def canny(levels: np.ndarray, low: int, high: int) -> np.ndarray:
    """Return the Canny edges, bool [n, H, W], of uint8 levels: 3 x 3 Sobel, |dx| + |dy|, hysteresis."""
    around = _neighbours(levels.astype(np.int32), "edge")
    dx = around[0][2] + 2 * around[1][2] + around[2][2] - around[0][0] - 2 * around[1][0] - around[2][0]
    dy = around[2][0] + 2 * around[2][1] + around[2][2] - around[0][0] - 2 * around[0][1] - around[0][2]
    size = np.abs(dx) + np.abs(dy)
    near = _neighbours(size, "constant")
    # Only ridges are kept: across the edge, larger than the neighbour before and not smaller than the one after.
    across, down = np.abs(dx), np.abs(dy) << 15
    rising = (dx ^ dy) < 0
    before = np.where(rising, near[0][2], near[0][0])
    after = np.where(rising, near[2][0], near[2][2])
    diagonal = (size > before) & (size > after)
    vertical = (size > near[0][1]) & (size >= near[2][1])
    horizontal = (size > near[1][0]) & (size >= near[1][2])
    ridge = np.where(down < across * _TAN, horizontal,
                     np.where(down > across * _TAN + (across << 16), vertical, diagonal))
    candidates = ridge & (size > low)
    # Connected candidates form an edge if one of them is strong.
    labels, count = ndimage.label(candidates, structure=np.stack([np.zeros((3, 3)), np.ones((3, 3)), np.zeros((3, 3))]))
    strong = np.zeros(count + 1, bool)
    strong[labels[candidates & (size > high)]] = True
    return strong[labels]


def distance(targets: np.ndarray) -> np.ndarray:
    """Return the 5 x 5 chamfer distance of each pixel to the nearest target, float32 [n, H, W].

    In an image without targets, all distances are 8192.

    Args:
        targets: bool [n, H, W].
    """
    n, height, width = targets.shape
    padded = np.full((height + 4, width + 4, n), _FAR, np.int32)  # the batch last: each step works on long rows
    padded[2:-2, 2:-2][np.moveaxis(targets, 0, -1)] = 0
    for sweep in (padded, padded[::-1, ::-1]):
        _sweep(sweep)
    inside = np.minimum(padded[2:-2, 2:-2], _FAR)
    pixels: np.ndarray = np.moveaxis(inside, -1, 0).astype(np.float32) / np.float32(65536)
    return pixels


def _sweep(padded: np.ndarray) -> None:
    """Reduce distances, in place, by moves from above and from the left, row by row."""
    width = padded.shape[1] - 4
    ramp = (np.arange(width, dtype=np.int32) * _STRAIGHT)[:, None]
    for y in range(2, padded.shape[0] - 2):
        one, two = padded[y - 1], padded[y - 2]
        row = np.minimum(padded[y, 2:-2], one[2:-2] + _STRAIGHT)
        for move, cost in ((one[1:-3], _DIAGONAL), (one[3:-1], _DIAGONAL), (one[:-4], _KNIGHT), (one[4:], _KNIGHT),
                           (two[1:-3], _KNIGHT), (two[3:-1], _KNIGHT)):
            np.minimum(row, move + cost, out=row)
        # Moves from the left, all at once: d[x] = min over x' <= x of d[x'] + (x - x').
        padded[y, 2:-2] = np.minimum.accumulate(row - ramp, axis=0) + ramp


def equalize(levels: np.ndarray) -> np.ndarray:
    """Equalise the histogram of each image, uint8 [n, H, W]; its lowest level becomes 0."""
    n = len(levels)
    images = np.arange(n)
    counts = np.bincount((levels + 256 * images[:, None, None]).reshape(-1), minlength=256 * n).reshape(n, 256)
    lowest = (counts > 0).argmax(1)
    rest = counts.sum(1) - counts[images, lowest]
    scale = np.float32(255) / np.maximum(rest, 1).astype(np.float32)
    above = np.cumsum(counts, axis=1) - counts[images, lowest][:, None]
    table = np.rint(np.maximum(above, 0).astype(np.float32) * scale[:, None]).astype(np.uint8)
    table[rest == 0] = lowest[rest == 0, None]  # an image with a single level is not changed
    equalized: np.ndarray = table[images[:, None, None], levels]
    return equalized


def box_blur(x: np.ndarray) -> np.ndarray:
    """Average 3 x 3 pixels, with a reflect-101 border; uint8 is rounded to uint8, float32 stays float32."""
    if x.dtype == np.uint8:
        return ((_sum(x.astype(np.int32)) + 4) // 9).astype(np.uint8)
    return (_sum(x.astype(np.float64)) * (1 / 9)).astype(np.float32)


def _sum(x: np.ndarray) -> np.ndarray:
    """Sum 3 x 3 pixels, along rows first."""
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1)), mode="reflect")
    rows = padded[:, :, :-2] + padded[:, :, 1:-1] + padded[:, :, 2:]
    total: np.ndarray = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]
    return total


def emboss(levels: np.ndarray) -> np.ndarray:
    """Correlate uint8 levels with [[-2, -1, 0], [-1, 1, 1], [0, 1, 2]], with a reflect-101 border; clip to uint8."""
    around = _neighbours(levels.astype(np.int32), "reflect")
    total = (around[1][1] + around[1][2] + around[2][1] + 2 * around[2][2]
             - around[1][0] - around[0][1] - 2 * around[0][0])
    clipped: np.ndarray = np.clip(total, 0, 255).astype(np.uint8)
    return clipped


def _neighbours(x: np.ndarray, mode: str) -> list[list[np.ndarray]]:
    """Return the nine shifted views of the padded images as [row][column]; [1][1] is the image itself."""
    _, height, width = x.shape
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1)), mode=mode)  # type: ignore[call-overload]
    return [[padded[:, i:i + height, j:j + width] for j in range(3)] for i in range(3)]
