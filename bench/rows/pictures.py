"""A few attacked images of an evaluation, kept beside its rows for the report."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from framebench.errors import InputError
from framebench.files import seal, unseal

_log = logging.getLogger(__name__)


class Pictures:
    """Images before and after the attack. Rows don't depend on them: a damaged file is left out, and said.

    Args:
        folder: The evaluation's folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._images: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self._files = sorted(folder.glob("pictures-*.safetensors"))
        for path in self._files:
            try:
                kept = load(unseal(path))
                images = zip(kept["ids"].tolist(), kept["clean"], kept["attacked"], strict=True)
                self._images |= {int(example): (clean, attacked) for example, clean, attacked in images}
            except (InputError, SafetensorError, KeyError, TypeError, ValueError):
                _log.warning("%s is damaged; its pictures are left out of the report", path)
        self._changed = False

    def add(self, example: int, clean: np.ndarray, attacked: np.ndarray) -> None:
        """Keep an image before and after, [C, H, W] in [0, 1]."""
        self._images[example] = clean.astype(np.float32), attacked.astype(np.float32)
        self._changed = True

    def join(self, other: Pictures) -> None:
        """Add another's images that are missing here."""
        self._changed |= bool(other._images.keys() - self._images.keys())
        self._images = {**other._images, **self._images}

    def get(self, example: int) -> tuple[np.ndarray, np.ndarray] | None:
        """Return an image before and after, float32 [H, W, C] in [0, 1], or None where it was not kept."""
        if example not in self._images:
            return None
        clean, attacked = self._images[example]
        return clean.transpose(1, 2, 0), attacked.transpose(1, 2, 0)

    @property
    def examples(self) -> list[int]:
        """Ids of the images that were kept, ascending."""
        return sorted(self._images)

    def flush(self) -> None:
        """Write them, if there are new ones, in the place of the files there were."""
        if not self._changed:
            return
        ids = self.examples
        # Contiguous: images are channels-last in memory, and safetensors writes an array's memory as it lies.
        content = save({"ids": np.array(ids), **{
            name: np.ascontiguousarray(np.stack([self._images[example][side] for example in ids]))
            for side, name in enumerate(("clean", "attacked"))}})
        written = seal(self.folder, "pictures", ".safetensors", content)
        for path in set(self._files) - {written}:
            path.unlink(missing_ok=True)
        self._files, self._changed = [written], False
