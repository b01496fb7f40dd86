"""Conversions between bytes, floats and HSV, and random draws for a batch: what all corruptions share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

#: One random generator per image, keyed by the image's id.
Generators = Sequence[np.random.Generator]


def unit(x: np.ndarray) -> np.ndarray:
    """Convert uint8 levels to float64 in [0, 1]."""
    values: np.ndarray = x / 255.0
    return values


def to_bytes(x: np.ndarray) -> np.ndarray:
    """Convert floats to uint8: clip to [0, 1], scale by 255 in their own precision, and *truncate*.

    The official files were made by truncation, not by rounding. It darkens images by half a level on average.
    """
    levels: np.ndarray = np.clip(x, 0, 1)
    levels *= 255
    truncated: np.ndarray = levels.astype(np.uint8)
    return truncated


def normal(rngs: Generators, shape: tuple[int, ...]) -> np.ndarray:
    """Draw standard normal numbers, float64 [n, *shape]; each image uses its own generator."""
    out = np.empty((len(rngs), *shape))
    for rng, row in zip(rngs, out, strict=True):
        rng.standard_normal(out=row)
    return out


def uniform(rngs: Generators, shape: tuple[int, ...]) -> np.ndarray:
    """Draw uniform numbers in [0, 1), float64 [n, *shape]; each image uses its own generator."""
    out = np.empty((len(rngs), *shape))
    for rng, row in zip(rngs, out, strict=True):
        rng.random(out=row)
    return out


def rgb_to_hsv(x: np.ndarray) -> np.ndarray:
    """Convert RGB, float64 [..., 3] in [0, 1], to hue, saturation and value, [3, ...] in [0, 1].

    If the largest channels are equal, blue decides the hue before green, and green before red. Grey has hue and
    saturation 0.
    """
    r, g, b = np.ascontiguousarray(np.moveaxis(x, -1, 0))
    v = np.maximum(np.maximum(r, g), b)
    delta = v - np.minimum(np.minimum(r, g), b)
    blue, green = b == v, g == v
    h = np.where(blue, r - g, np.where(green, b - r, g - b)) / np.where(delta == 0, 1.0, delta)
    h += np.where(blue, 4.0, np.where(green, 2.0, 0.0))
    h /= 6.0
    h[h < 0] += 1.0
    h[delta == 0] = 0.0
    return np.stack([h, delta / np.where(v == 0, 1.0, v), v])


def hsv_to_rgb(hsv: np.ndarray) -> np.ndarray:
    """Convert hue, saturation and value, float64 [3, ...] in [0, 1], to RGB [..., 3] in [0, 1]."""
    h, s, v = hsv
    sector = np.floor(h * 6)
    f = h * 6 - sector
    sector = sector.astype(np.uint8)
    sector[sector == 6] = 0  # hue 1 equals hue 0
    high, low, middle = v, v * (1 - s), v * (1 - np.where(sector & 1, f, 1 - f) * s)
    return np.stack([np.choose(sector, (high, middle, low, low, middle, high)),
                     np.choose(sector, (middle, high, high, middle, low, low)),
                     np.choose(sector, (low, low, middle, high, high, middle))], axis=-1)
