"""Gaussian, shot, impulse and speckle noise."""

from __future__ import annotations

from functools import cache

import numpy as np
from scipy.special import pdtr

from framebench.domains.corruptions.pixels import Generators, normal, to_bytes, uniform, unit


def gaussian_noise(x: np.ndarray, rngs: Generators, sigma: float) -> np.ndarray:
    """Add normal noise."""
    values = sigma * normal(rngs, x.shape[1:])
    values += unit(x)
    return to_bytes(values)


def shot_noise(x: np.ndarray, rngs: Generators, photons: int) -> np.ndarray:
    """Replace each value by a Poisson count with this mean; white corresponds to `photons`.

    Each level has only 256 possible results. Walker's alias method draws one of them from a single uniform number. The
    first 8 bits choose a slot. If the remaining 45 bits are below the slot's own share, the result is the slot,
    otherwise the other result of the slot.
    """
    share, other = _shots(photons)
    draws = uniform(rngs, x.shape[1:]) * 256
    slots = draws.astype(np.uint8)
    entries = x * np.intp(256) + slots
    return np.where(draws - slots < share.take(entries), slots, other.take(entries))


@cache
def _shots(photons: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the alias tables [256, 256] of all levels: own shares (float64) and other results (uint8)."""
    results = to_bytes(np.arange(photons + 1) / photons)
    last = np.searchsorted(results, np.arange(255), side="right") - 1  # the largest count for each result
    rates = np.arange(256)[:, None] / 255 * photons
    shares = 256 * np.diff(pdtr(last, rates), axis=1, prepend=0, append=1)
    others = np.tile(np.arange(256, dtype=np.uint8), (256, 1))
    for share, other in zip(shares, others, strict=True):
        short, long = list(np.flatnonzero(share < 1)), list(np.flatnonzero(share >= 1))
        while short and long:  # fill a slot that is not full with a result that needs more than one slot
            slot, giver = short.pop(), long.pop()
            other[slot] = giver
            share[giver] -= 1 - share[slot]
            (short if share[giver] < 1 else long).append(giver)
    return shares, others


def impulse_noise(x: np.ndarray, rngs: Generators, amount: float) -> np.ndarray:
    """Set some of the values to 0 or 1; each channel of a pixel is drawn independently."""
    draws, out = uniform(rngs, x.shape[1:]), x.copy()
    out[draws < amount / 2] = 0
    out[draws >= 1 - amount / 2] = 255
    return out


def speckle_noise(x: np.ndarray, rngs: Generators, sigma: float) -> np.ndarray:
    """Add normal noise that is proportional to the value."""
    values = unit(x)
    return to_bytes(values + values * (sigma * normal(rngs, x.shape[1:])))
