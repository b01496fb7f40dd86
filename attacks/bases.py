"""Orthonormal bases of SimBA's directions, and the perturbed images in them.

A direction is an index from 0 to C H W - 1 of (channel, row, column): one colour value of one pixel, or one coefficient
of a channel's two-dimensional DCT. A `Basis` stores the images of the attack's slots, so that testing a direction
changes only one value (pixel) or one channel (DCT) of an image.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch

from framebench.errors import InputError

#: Values of directions that are computed at once on a CPU, so that they stay in a core's L2 cache.
PART = 2**17
#: Numbers, slot * C + channel, of several small planes [r], or of one large plane.
_Plane = int | torch.Tensor


class Basis:
    """The images of all slots, as perturbations of clean images along directions.

    Args:
        slots: Number of images held at once.
        shape: (C, H, W) of an image.
        dtype: Their floating-point type.
        device: Where they lie.
        linf: Bound on the perturbation's largest entry, or None.

    Attributes:
        images: [slots, C, H, W], channels-last: the model's next input, clip(clean + perturbation, 0, 1).
    """

    def __init__(self, slots: int, shape: tuple[int, int, int], dtype: torch.dtype, device: torch.device,
                 linf: float | None) -> None:
        self.shape, self.linf = shape, linf
        channels, height, width = shape
        # Channels last in memory, which is fastest for convolutions on CPUs and tensor cores.
        self.images = torch.zeros(slots, height, width, channels, dtype=dtype, device=device).permute(0, 3, 1, 2)
        self._clean = torch.zeros(slots, *shape, dtype=dtype, device=device)  # each channel is contiguous

    def admit(self, rows: np.ndarray, x: torch.Tensor) -> None:
        """Put clean images x [r, C, H, W] into the slots `rows`."""
        index = self._to_device(rows)
        self._clean[index] = x = x.to(self._clean)
        # In the order of the target: an assignment that also reorders takes several times as long.
        self.images[index] = x.contiguous(memory_format=torch.channels_last)

    def move(self, source: np.ndarray, target: np.ndarray) -> None:
        """Copy slots `source` over slots `target`."""
        source_index, target_index = self._to_device(source), self._to_device(target)
        for state in self._states():
            state[target_index] = state[source_index]

    def show(self, rows: np.ndarray, directions: np.ndarray, amounts: np.ndarray) -> None:
        """Set images to clip(clean + kept perturbation + amount * direction); an amount of 0 reverts a trial.

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
        """See `Basis.keep`: the images contain it already."""


class DCTBasis(Basis):
    """One coefficient of the orthonormal DCT-II of one channel.

    The perturbation accumulates without clipping, and each image is clipped from it. So a rejected trial leaves no
    trace; cumulative clipping, as in the reference's single-image code, loses energy permanently.
    """

    def __init__(self, slots: int, shape: tuple[int, int, int], dtype: torch.dtype, device: torch.device,
                 linf: float | None) -> None:
        super().__init__(slots, shape, dtype, device, linf)
        self._kept = torch.zeros_like(self._clean)
        self._vertical, self._horizontal = (_dct_matrix(n).to(device) for n in shape[1:])
        self._part = slots if device.type != "cpu" else PART // math.prod(shape[1:])
        self._single = self._part < 4  # large planes one by one, as views: no copies

    def admit(self, rows: np.ndarray, x: torch.Tensor) -> None:
        """See `Basis.admit`."""
        super().admit(rows, x)
        self._kept[self._to_device(rows)] = 0

    def show(self, rows: np.ndarray, directions: np.ndarray, amounts: np.ndarray) -> None:
        """See `Basis.show`."""
        for plane, step in self._steps(rows, directions, amounts):
            trial = self._bounded(step.add_(_planes(self._kept, plane)))
            self._put(plane, trial.add_(_planes(self._clean, plane)))

    def keep(self, rows: np.ndarray, directions: np.ndarray, amounts: np.ndarray) -> None:
        """See `Basis.keep`."""
        kept = self._kept.flatten(0, 1)
        for plane, step in self._steps(rows, directions, amounts):
            if isinstance(plane, int):
                kept[plane].add_(step)
            else:
                kept.index_add_(0, plane, step)

    def _steps(self, rows: np.ndarray, directions: np.ndarray,
               amounts: np.ndarray) -> Iterator[tuple[_Plane, torch.Tensor]]:
        """Yield, for parts of the rows, planes and the steps amount * direction to add to them, [r, H, W] or [H, W]."""
        channel, row, column = np.unravel_index(directions, self.shape)
        planes = rows * self.shape[0] + channel
        # A table of all directions would take (H W)^2 numbers: 20 GB at 224x224.
        vertical = self._vertical[self._to_device(row)] * self._to_device(amounts)[:, None]
        dtype = torch.promote_types(self._clean.dtype, torch.float32)
        factors = [vertical[:, :, None].to(dtype), self._horizontal[self._to_device(column)][:, None].to(dtype)]
        parts: Iterable[Iterable[Any]] = (planes.tolist(), *factors) if self._single else (
            torch.split(values, self._part) for values in (self._to_device(planes), *factors))
        for plane, down, across in zip(*parts, strict=True):
            yield plane, (down * across).to(self._clean.dtype)

    def _put(self, plane: _Plane, trial: torch.Tensor) -> None:
        """Set planes of the images to `trial`, [r, H, W] or [H, W], clipped."""
        slot, channel = plane // self.shape[0], plane % self.shape[0]
        if isinstance(plane, int):
            torch.clamp(trial, 0, 1, out=self.images[slot, channel])
        else:
            self.images[slot, channel] = trial.clamp_(0, 1)

    def _states(self) -> list[torch.Tensor]:
        return [*super()._states(), self._kept]


class CumulativeDCTBasis(DCTBasis):
    """The DCT with cumulative clipping: an accepted step changes the image x to clip(x + step).

    The image is kept, not the perturbation; what the clip removes of a step is lost.
    """

    def admit(self, rows: np.ndarray, x: torch.Tensor) -> None:
        """See `Basis.admit`."""
        super().admit(rows, x)
        index = self._to_device(rows)
        self._kept[index] = self._clean[index]

    def show(self, rows: np.ndarray, directions: np.ndarray, amounts: np.ndarray) -> None:
        """See `Basis.show`; an amount of 0 shows the kept image, bit for bit."""
        for plane, step in self._steps(rows, directions, amounts):
            trial = step.add_(_planes(self._kept, plane))
            if self.linf is not None:
                clean = _planes(self._clean, plane)
                trial.clamp_(clean - self.linf, clean + self.linf)
            self._put(plane, trial)

    def keep(self, rows: np.ndarray, directions: np.ndarray, amounts: np.ndarray) -> None:
        """See `Basis.keep`."""
        where = self._to_device(rows), self._to_device(np.unravel_index(directions, self.shape)[0])
        self._kept[where] = self.images[where]


#: Name (see `framebench.attacks.options.CHOICES`) -> basis.
BASES: dict[str, type[Basis]] = {"pixel": PixelBasis, "dct": DCTBasis}

#: Bases with cumulative clipping. For pixels there is no difference, since no direction repeats.
CUMULATIVE: dict[str, type[Basis]] = {"pixel": PixelBasis, "dct": CumulativeDCTBasis}


def _planes(state: torch.Tensor, plane: _Plane) -> torch.Tensor:
    """Return one plane [H, W] of images [slots, C, H, W] as a view, or copies of several planes [r, H, W]."""
    state = state.flatten(0, 1)
    return state[plane] if isinstance(plane, int) else state.index_select(0, plane)


@functools.lru_cache(maxsize=4)
def _dct_matrix(n: int) -> torch.Tensor:
    """Return the orthonormal DCT-II, float64 [n (frequencies), n (pixels)]."""
    k, i = torch.arange(n, dtype=torch.float64)[:, None], torch.arange(n, dtype=torch.float64)[None]
    matrix = torch.cos(math.pi * (2 * i + 1) * k / (2 * n)) * math.sqrt(2 / n)
    matrix[0] /= math.sqrt(2)
    return matrix


def bands(order: str, shape: tuple[int, int, int], budget: int) -> list[np.ndarray]:
    """Return the directions of each band, ascending, of images (C, H, W): int64 [directions of the band] each.

    Lower bands come first; within a band, the order is random. The frequency of a direction is the larger of its
    vertical and horizontal frequencies.

    Args:
        order: "random": one band. "low-frequency": a band per frequency. "strided": the lowest eighth, then bands of a
            thirty-second of the frequencies, as in the authors' code for 224 and 299 pixels.
        shape: (C, H, W).
        budget: Number of directions that are needed; bands after the last of them are left out.
    """
    channels, height, width = shape
    if order == "random":
        return [np.arange(math.prod(shape))]
    band = np.maximum(np.arange(height)[:, None], np.arange(width)[None])
    if order == "strided":
        first, stride = -(-max(height, width) // 8), max(1, max(height, width) // 32)
        band = np.maximum(band - first, -1) // stride + 1
    number = np.tile(band.ravel(), channels)
    ends = np.cumsum(np.bincount(number))
    needed = int(np.searchsorted(ends, budget)) + 1
    return np.split(np.argsort(number, kind="stable"), ends[:-1])[:needed]


def check_directions(budget: int, shape: tuple[int, int, int]) -> int:
    """Return the number of directions of images (C, H, W).

    Raises:
        InputError: if the budget of iterations is larger, since no direction repeats.
    """
    directions = math.prod(shape)
    if budget > directions:
        raise InputError(f"{budget} iterations are more than the {directions} directions of an image of "
                         f"{shape[1]}x{shape[2]}; no direction repeats, so lower the budget")
    return directions
