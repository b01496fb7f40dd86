"""A domain: labelled images with stable ids."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from framebench.domains.imagefiles import ImageFiles
from framebench.errors import InputError, printable
from framebench.files import digest
from framebench.seeding import generator

if TYPE_CHECKING:
    import torch

#: The order of examples is part of the benchmark, not of a run: the first N do not depend on --seed.
ORDER_SEED = 0


@dataclass(frozen=True, eq=False)
class Domain:
    """Labelled images of one distribution.

    Attributes:
        name: Its name on the command line.
        title: What the data are, in the words that results use (official, JPEG, sample, ...).
        classes: Class names; a label is an index into this tuple.
        images: uint8 [n, H, W, 3]: an array, which may be memory-mapped, or files that are decoded when needed.
        labels: int64 [n]. Lists and tensors become arrays.
        hint: Advice for the user, such as how to get better data; may be empty.
        logits: Which logits of a model stand for `classes`, one index each, where the model knows more classes; None
            where the model's classes are these.
    """

    name: str
    title: str
    classes: tuple[str, ...]
    images: np.ndarray | ImageFiles = field(repr=False)
    labels: np.ndarray = field(repr=False)
    hint: str = ""
    logits: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        for name in ("name", "title"):
            object.__setattr__(self, name, printable(getattr(self, name)))
        object.__setattr__(self, "classes", tuple(map(str, self.classes)))
        object.__setattr__(self, "labels", np.asarray(self.labels))
        if not isinstance(self.images, ImageFiles):
            object.__setattr__(self, "images", np.asanyarray(self.images))
        if self.images.dtype != np.uint8 or self.images.ndim != 4 or self.images.shape[3] != 3:
            raise InputError(f"{self.title}: images must be uint8 [n, H, W, 3], not {self.images.dtype} "
                           f"{list(self.images.shape)}")
        if self.labels.shape != self.images.shape[:1]:
            raise InputError(f"{self.title}: {len(self.images)} images but labels of shape {list(self.labels.shape)}")
        if len(self.labels) == 0:
            raise InputError(f"{self.title}: there are no images")
        if not np.issubdtype(self.labels.dtype, np.integer):
            raise InputError(f"{self.title}: labels must be integers, not {self.labels.dtype}")
        if self.labels.min() < 0 or self.labels.max() >= len(self.classes):
            raise InputError(f"{self.title}: labels from {self.labels.min()} to {self.labels.max()}, "
                           f"but there are {len(self.classes)} classes (0 to {len(self.classes) - 1})")

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels of an image."""
        height, width, channels = self.images.shape[1:]
        return height, width, channels

    def pixels(self, ids: np.ndarray) -> np.ndarray:
        """Return the images `ids` (int64 [n]) as uint8 [n, H, W, 3]. All images are read through this method."""
        return np.asarray(self.images[ids])

    def load(self, ids: Sequence[int] | np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the examples `ids`: images float32 [n, 3, H, W] in [0, 1] (channels last) and labels int64 [n]."""
        import torch

        index = np.asarray(ids, dtype=np.int64)
        return _as_tensor(self.pixels(index)), torch.from_numpy(self.labels[index].astype(np.int64))

    def batches(self, ids: np.ndarray, size: int) -> Iterator[tuple[np.ndarray, torch.Tensor, np.ndarray]]:
        """Yield `ids` in batches of `size`: ids, images as `load` has them, and labels int64.

        The next batch is decoded or made while one is used.
        """
        parts = [ids[start : start + size] for start in range(0, len(ids), size)]
        with ThreadPoolExecutor(1, thread_name_prefix="next-batch") as ahead:
            coming = [ahead.submit(self.pixels, part) for part in parts[:1]]
            for i, part in enumerate(parts):
                pixels = coming.pop().result()
                coming += [ahead.submit(self.pixels, following) for following in parts[i + 1 : i + 2]]
                yield part, _as_tensor(pixels), self.labels[part].astype(np.int64)

    @cached_property
    def digest(self) -> str:
        """sha256 of images and labels, and of the chosen logits."""
        if isinstance(self.images, ImageFiles):
            return hashlib.sha256(f"{self.images.digest} {digest(self.labels)} {self.logits}".encode()).hexdigest()
        arrays = digest(self.images, self.labels)
        return arrays if self.logits is None else hashlib.sha256(f"{arrays} {self.logits}".encode()).hexdigest()

    @cached_property
    def order(self) -> np.ndarray:
        """All ids in one seeded, class-balanced order; ``-n N`` takes the first N.

        Round k holds the k-th example of each class, in random class order. In every prefix, the numbers of images per
        class therefore differ by at most one, until the smallest class is used up.
        """
        rng = generator(ORDER_SEED, "example-order")
        per_class = [rng.permutation(np.flatnonzero(self.labels == c)) for c in range(len(self.classes))]
        rounds = []
        for k in range(max(map(len, per_class))):
            rounds.append(rng.permutation(np.array([ids[k] for ids in per_class if k < len(ids)], dtype=np.int64)))
        return np.concatenate(rounds)

    def first(self, n: int | None) -> np.ndarray:
        """Return the ids of the first `n` examples of `order` (all for None).

        Raises:
            InputError: if `n` is not between 1 and the number of images.
        """
        if n is not None and not 1 <= n <= len(self):
            raise InputError(f"-n {n} is not possible: {self.title} has {len(self)} images; choose 1 to {len(self)}")
        return self.order[:n]


def _as_tensor(pixels: np.ndarray) -> torch.Tensor:
    import torch  # here: `list`, `fetch` and the processes that make corrupted images need no torch

    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float().div_(255)  # a view: channels-last memory
