"""Snow, frost, fog, brightness and spatter."""

from __future__ import annotations

import numpy as np

from framebench.domains.corruptions import opencv
from framebench.domains.corruptions.blur import gaussian, smear
from framebench.domains.corruptions.frost import textures
from framebench.domains.corruptions.pixels import Generators, hsv_to_rgb, normal, rgb_to_hsv, to_bytes, uniform, unit
from framebench.domains.corruptions.resample import zoom_matrix

WATER = np.array([175 / 255, 238 / 255, 238 / 255], np.float32)
MUD = np.array([63 / 255, 42 / 255, 20 / 255], np.float32)


def snow(x: np.ndarray, rngs: Generators, mean: float, spread: float, zoom: float, threshold: float, radius: int,
         sigma: float, keep: float) -> np.ndarray:
    """Whiten the image, and add smeared flakes twice: once as drawn, once turned by 180 degrees."""
    _, height, width, _ = x.shape
    flakes = mean + spread * normal(rngs, (height, width))
    flakes = zoom_matrix(height, zoom) @ flakes @ zoom_matrix(width, zoom).T
    flakes[flakes < threshold] = 0
    layer = unit(smear(to_bytes(flakes)[..., None], radius, sigma, -135 + 90 * uniform(rngs, (1,))[:, 0]))

    values = x.astype(np.float32) / np.float32(255)
    white = np.maximum(values, opencv.grey(values)[..., None] * np.float32(1.5) + np.float32(0.5))
    return to_bytes(keep * values + (1 - keep) * white + layer + layer[:, ::-1, ::-1])


def frost(x: np.ndarray, rngs: Generators, keep: float, amount: float, scale: float) -> np.ndarray:
    """Add a random piece of one of five pictures of frost, which are reduced by `scale`."""
    _, height, width, _ = x.shape
    pictures, pieces = textures(scale, height, width), np.empty_like(x)
    for piece, rng in zip(pieces, rngs, strict=True):
        picture = pictures[rng.integers(len(pictures))]
        top, left = rng.integers(0, picture.shape[0] - height), rng.integers(0, picture.shape[1] - width)
        piece[:] = picture[top:top + height, left:left + width]
    return np.clip(keep * x.astype(np.float64) + amount * pieces.astype(np.float64), 0, 255).astype(np.uint8)


def fog(x: np.ndarray, rngs: Generators, amount: float, decay: float) -> np.ndarray:
    """Add a plasma fractal, and scale back to the maximum of the image."""
    _, height, width, _ = x.shape
    values = unit(x)
    brightest = values.max(axis=(1, 2, 3), keepdims=True)
    side = 2 ** int(np.ceil(np.log2(max(height, width, 32))))
    values = values + amount * _plasma(side, decay, rngs)[:, :height, :width, None]
    return to_bytes(values * brightest / (brightest + amount))


def _plasma(side: int, decay: float, rngs: Generators) -> np.ndarray:
    """Return periodic plasma fractals in [0, 1], float64 [n, side, side], from the diamond-square algorithm."""
    n = len(rngs)
    draws = 2 * uniform(rngs, (side * side - 1,)) - 1
    plasma = np.zeros((n, side, side))
    used, step, wobble = 0, side, 100.0

    def middle(total: np.ndarray) -> np.ndarray:
        nonlocal used
        count = total.shape[1] * total.shape[2]
        noise = draws[:, used:used + count].reshape(total.shape)
        used += count
        return total / 4 + wobble * (wobble * noise)  # the reference scales twice

    while step >= 2:
        half = step // 2
        corners = plasma[:, ::step, ::step]
        pairs = corners + np.roll(corners, -1, axis=1)
        plasma[:, half::step, half::step] = middle(pairs + np.roll(pairs, -1, axis=2))
        centres = plasma[:, half::step, half::step]
        for axis, target in ((1, plasma[:, ::step, half::step]), (2, plasma[:, half::step, ::step])):
            along = centres + np.roll(centres, 1, axis=axis)
            target[:] = middle(along + (corners + np.roll(corners, -1, axis=3 - axis)))
        step, wobble = half, wobble / decay
    plasma -= plasma.min(axis=(1, 2), keepdims=True)
    plasma /= plasma.max(axis=(1, 2), keepdims=True)
    return plasma


def brightness(x: np.ndarray, shift: float) -> np.ndarray:
    """Increase the value in HSV."""
    hsv = rgb_to_hsv(unit(x))
    hsv[2] = np.clip(hsv[2] + shift, 0, 1)
    return to_bytes(hsv_to_rgb(hsv))


def spatter(x: np.ndarray, rngs: Generators, mean: float, spread: float, sigma: float, threshold: float,
            strength: float, mud: bool) -> np.ndarray:
    """Splash water or mud where smoothed noise is high."""
    values = x.astype(np.float32) / np.float32(255)
    liquid = gaussian(mean + spread * normal(rngs, x.shape[1:3]), sigma)
    liquid[liquid < threshold] = 0
    if not mud:
        return to_bytes(values + np.float32(strength) * _water(liquid)[..., None] * WATER)
    cover = gaussian((liquid > threshold).astype(np.float32), strength)
    cover[cover < 0.8] = 0
    return to_bytes(values * (1 - cover[..., None]) + MUD * cover[..., None])


def _water(liquid: np.ndarray) -> np.ndarray:
    """Shade drops by their distance from an edge, float32 [n, H, W], with maximum 1 in each image.

    An image without drops stays dry. The reference would divide by 0 here, but this does not happen in practice.
    """
    levels = (liquid * 255).astype(np.uint8)
    depth = np.minimum(opencv.distance(opencv.canny(levels, 50, 150)), np.float32(20))
    shade = opencv.equalize(opencv.box_blur(depth).astype(np.uint8))
    drops = levels * opencv.box_blur(opencv.emboss(shade)).astype(np.float32)
    highest = drops.max(axis=(1, 2), keepdims=True)
    return drops / np.where(highest > 0, highest, np.float32(1))
