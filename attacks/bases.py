"""Orthonormal bases that SimBA draws its directions from, and the perturbed images kept in them.

A direction is a number from 0 to C H W - 1, read as (channel, row, column): one colour value of one pixel, or one
coefficient of a channel's two-dimensional DCT. A `Basis` owns the images of the attack's slots, so that testing a
direction touches one value (pixel) or one channel (DCT) of an image and nothing else.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator

import numpy as np
import torch

from framebench.errors import InputError

#: Values of directions that are computed at once on a CPU: few enough that they stay in a core's cache.
PART = 2**18


class Basis:
    """The images of all slots, as perturbations of clean images along directions.

    Args:
        slots: Number of images held at once.
        shape: (C, H, W) of an image.
        dtype: Their floating-point type.
        device: Where they lie.
        linf: Bound on the perturbation's largest entry, or None.

    Attributes:
        images: [slots, C, H, W], channels-last: what the model sees next, clip(clean + perturbation, 0, 1).
    """

    def __init__(self, slots: int, shape: tuple[int, int, int], dtype: torch.dtype, device: torch.device,
                 linf: float | None) -> None:
        self.shape, self.linf = shape, linf
        channels, height, width = shape
        # Channels last in memory, as convolutions on CPUs and tensor cores like it.
        self.images = torch.zeros(slots, height, width, channels, dtype=dtype, device=device).permute(0, 3, 1, 2)
        self._clean = torch.zeros(slots, *shape, dtype=dtype, device=device)  # a channel in one piece

    def admit(self, rows: np.ndarray, x: torch.Tensor) -> None:
        """Put clean images x [r, C, H, W] into the slots `rows`."""
        index = self._to_device(rows)
        self._clean[index] = x.to(self._clean)
        self.images[index] = self._clean[index]

    def move(self, source: np.ndarray, target: np.ndarray) -> None:
        """Copy slots `source` over slots `target`."""
        source_index, target_index = self._to_device(source), self._to_device(target)
        for state in self._states():
            state[target_index] = state[source_index]

    def show(self, rows: np.ndarray, directions: np.ndarray, amounts: np.ndarray) -> None:
        """Set images to clip(clean + kept perturbation + amount * direction); an amount of 0 takes a trial back.

        Args:
            rows: int [r], distinct slots.
            directions: int [r].
            amounts: float [r].
        """
        raise NotImplementedError

    def keep(self, rows: np.ndarray, directions: np.ndarray, amounts: np.ndarray) -> None:
        """Add amount * direction, which the images already show, to the kept perturbation."""
        raise NotImplementedError

    def distances(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the (L2, Linf) distances of images from their clean ones, float64 [r] each."""
        index = self._to_device(rows)
        difference = (self.images[index].double() - self._clean[index].double()).permute(0, 2, 3, 1).flatten(1)
        return difference.norm(dim=1).cpu().numpy(), difference.abs().amax(1).cpu().numpy()

    def _states(self) -> list[torch.Tensor]:
        return [self._clean, self.images]

    def _to_device(self, values: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).to(self.images.device)

    def _bounded(self, perturbation: torch.Tensor) -> torch.Tensor:
        return perturbation if self.linf is None else perturbation.clamp(-self.linf, self.linf)


class PixelBasis(Basis):
    """One colour value of one pixel. No direction repeats, so an entry is perturbed at most once."""

    def show(self, rows: np.ndarray, directions: np.ndarray, amounts: np.ndarray) -> None:
        """See `Basis.show`."""
        where = tuple(map(self._to_device, (rows, *np.unravel_index(directions, self.shape))))
        change = self._bounded(self._to_device(amounts).to(self._clean.dtype))
        self.images[where] = (self._clean[where] + change).clamp_(0, 1)

    def keep(self, rows: np.ndarray, directions: np.ndarray, amounts: np.ndarray) -> None:
        """See `Basis.keep`: nothing to do, the images hold it."""


class DCTBasis(Basis):
    """One coefficient of the orthonormal DCT-II of one channel.

    The perturbation accumulates without clipping; each image shown is clipped anew, so that a trial that is taken
    back leaves no trace (clipping cumulatively, as the reference's single-image code does, loses energy for good).
    """

    def __init__(self, slots: int, shape: tuple[int, int, int], dtype: torch.dtype, device: torch.device,
                 linf: float | None) -> None:
        super().__init__(slots, shape, dtype, device, linf)
        self._kept = torch.zeros_like(self._clean)
        self._vertical, self._horizontal = (_dct_matrix(n).to(device) for n in shape[1:])
        self._part = slots if device.type != "cpu" else max(1, PART // math.prod(shape[1:]))

    def admit(self, rows: np.ndarray, x: torch.Tensor) -> None:
        """See `Basis.admit`."""
        super().admit(rows, x)
        self._kept[self._to_device(rows)] = 0

    def show(self, rows: np.ndarray, directions: np.ndarray, amounts: np.ndarray) -> None:
        """See `Basis.show`."""
        clean, kept = self._planes(self._clean), self._planes(self._kept)
        for plane, step in self._steps(rows, directions, amounts):
            trial = self._bounded(step.add_(kept.index_select(0, plane)))
            self._put(plane, trial.add_(clean.index_select(0, plane)))

    def keep(self, rows: np.ndarray, directions: np.ndarray, amounts: np.ndarray) -> None:
        """See `Basis.keep`."""
        for plane, step in self._steps(rows, directions, amounts):
            self._planes(self._kept).index_add_(0, plane, step)

    def _steps(self, rows: np.ndarray, directions: np.ndarray,
               amounts: np.ndarray) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield planes [r] and what is to be added to them, amount * direction [r, H, W]: in parts of all rows."""
        for start in range(0, len(rows), self._part):
            part = slice(start, start + self._part)
            channel, row, column = map(self._to_device, np.unravel_index(directions[part], self.shape))
            # A table of all vectors would take (H W)^2 numbers: 20 GB at 224x224.
            vectors = (self._vertical[row][:, :, None] * self._horizontal[column][:, None]).to(self._clean.dtype)
            amount = self._to_device(amounts[part]).to(vectors.dtype)
            yield self._to_device(rows[part]) * self.shape[0] + channel, vectors.mul_(amount[:, None, None])

    def _planes(self, state: torch.Tensor) -> torch.Tensor:
        """Return a view [slots C, H, W] of all channels, which one index reads twice as fast as two do."""
        return state.flatten(0, 1)

    def _put(self, plane: torch.Tensor, trial: torch.Tensor) -> None:
        """Let images show the planes `trial` [r, H, W], clipped."""
        self.images[plane // self.shape[0], plane % self.shape[0]] = trial.clamp_(0, 1)

    def _states(self) -> list[torch.Tensor]:
        return [*super()._states(), self._kept]


class CumulativeDCTBasis(DCTBasis):
    """The DCT under a clip that accumulates: every accepted step is clip(x + step), on the image before it.

    What is kept is the image; what the clip has removed of a step is lost for good.
    """

    def admit(self, rows: np.ndarray, x: torch.Tensor) -> None:
        """See `Basis.admit`."""
        super().admit(rows, x)
        index = self._to_device(rows)
        self._kept[index] = self._clean[index]

    def show(self, rows: np.ndarray, directions: np.ndarray, amounts: np.ndarray) -> None:
        """See `Basis.show`; an amount of 0 shows the kept image, bit for bit."""
        for plane, step in self._steps(rows, directions, amounts):
            trial = step.add_(self._planes(self._kept).index_select(0, plane))
            if self.linf is not None:
                clean = self._planes(self._clean).index_select(0, plane)
                trial.clamp_(clean - self.linf, clean + self.linf)
            self._put(plane, trial)

    def keep(self, rows: np.ndarray, directions: np.ndarray, amounts: np.ndarray) -> None:
        """See `Basis.keep`."""
        where = self._to_device(rows), self._to_device(np.unravel_index(directions, self.shape)[0])
        self._kept[where] = self.images[where]


#: Name (see `framebench.attacks.options.CHOICES`) -> basis.
BASES: dict[str, type[Basis]] = {"pixel": PixelBasis, "dct": DCTBasis}

#: Those whose clip accumulates. No pixel's direction repeats, so that there the two are one.
CUMULATIVE: dict[str, type[Basis]] = {"pixel": PixelBasis, "dct": CumulativeDCTBasis}


@functools.lru_cache(maxsize=4)
def _dct_matrix(n: int) -> torch.Tensor:
    """Return the orthonormal DCT-II, float64 [n (frequencies), n (pixels)]."""
    k, i = torch.arange(n, dtype=torch.float64)[:, None], torch.arange(n, dtype=torch.float64)[None]
    matrix = torch.cos(math.pi * (2 * i + 1) * k / (2 * n)) * math.sqrt(2 / n)
    matrix[0] /= math.sqrt(2)
    return matrix


def bands(order: str, shape: tuple[int, int, int]) -> np.ndarray | None:
    """Return the band of every DCT direction of images (C, H, W), int16 [C H W]; None where all are one band.

    A lower band comes first; inside a band the order is an image's own. A direction's frequency is the larger of its
    vertical and horizontal one.

    Args:
        order: "random": one band. "low-frequency": a band per frequency. "strided": the lowest eighth, then bands of a
            thirty-second of the frequencies, which at 224 and 299 pixels are the numbers of the authors' code.
        shape: (C, H, W).
    """
    if order == "random":
        return None
    channels, height, width = shape
    band = np.maximum(np.arange(height)[:, None], np.arange(width)[None])
    if order == "strided":
        first, stride = -(-max(height, width) // 8), max(1, max(height, width) // 32)
        band = np.maximum(band - first, -1) // stride + 1
    return np.tile(band.ravel().astype(np.int16), channels)  # two bytes: sorted by radix, five times as fast as eight


def check_directions(budget: int, shape: tuple[int, int, int]) -> int:
    """Return the number of directions of images (C, H, W).

    Raises:
        InputError: if a budget of iterations is larger: no direction repeats.
    """
    directions = math.prod(shape)
    if budget > directions:
        raise InputError(f"{budget} iterations are more than the {directions} directions of an image of "
                         f"{shape[1]}x{shape[2]}; no direction repeats, so lower the budget")
    return directions
