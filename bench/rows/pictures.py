"""A few attacked images of an evaluation, kept beside its rows for the report."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from framebench.attacks.base import MarginPath
from framebench.errors import InputError
from framebench.files import seal, unseal

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Picture:
    """An image before and after the attack.

    Attributes:
        clean: float32 [C, H, W] in [0, 1].
        attacked: Likewise.
        confidence: Softmax probability of the prediction of the clean image; nan where it is not known.
        path: The margin's path, or None where the attack gives none.
    """

    clean: np.ndarray
    attacked: np.ndarray
    confidence: float = np.nan
    path: MarginPath | None = None


class Pictures:
    """Images before and after the attack. Rows don't depend on them: a damaged file is left out, and said.

    Several processes may add to one folder, each to a file of its own; whoever reads them next can join them.

    Args:
        folder: The evaluation's folder.
        new: Whether to begin a file of one's own; otherwise what is there is read, and joined by `flush`.
    """

    def __init__(self, folder: Path, *, new: bool = False) -> None:
        self.folder = folder
        self._pictures: dict[int, Picture] = {}
        self._files = [] if new else sorted(folder.glob("pictures-*.safetensors"))
        for path in self._files:
            try:
                self._pictures |= _unpacked(load(unseal(path)))
            except (InputError, SafetensorError, KeyError, TypeError, ValueError):
                _log.warning("%s is damaged; its pictures are left out of the report (bench attack --repair makes them "
                             "anew)", path)
        self._changed = len(self._files) > 1

    def add(self, example: int, picture: Picture) -> None:
        """Keep an image before and after."""
        self._pictures[example] = picture
        self._changed = True

    def join(self, other: Pictures) -> None:
        """Add another's images that are missing here."""
        self._changed |= bool(other._pictures.keys() - self._pictures.keys())
        self._pictures = {**other._pictures, **self._pictures}

    def get(self, example: int) -> Picture | None:
        """Return an image before and after, or None where it was not kept."""
        return self._pictures.get(example)

    @property
    def examples(self) -> list[int]:
        """Ids of the images that were kept, ascending."""
        return sorted(self._pictures)

    def flush(self) -> None:
        """Write them, if there are new ones, in the place of the files there were."""
        if not self._changed:
            return
        written = seal(self.folder, "pictures", ".safetensors", save(_packed(self._pictures)))
        for path in set(self._files) - {written}:
            path.unlink(missing_ok=True)
        self._files, self._changed = [written], False


def _packed(pictures: dict[int, Picture]) -> dict[str, np.ndarray]:
    """Return pictures as tensors; the paths lie one after the other, and `path_lengths` tells them apart."""
    ids = sorted(pictures)
    own = [pictures[example] for example in ids]
    paths = [picture.path or MarginPath() for picture in own]
    # Contiguous: images are channels-last in memory, and safetensors writes an array's memory as it lies.
    images = {name: np.ascontiguousarray(np.stack([getattr(picture, name) for picture in own]), dtype=np.float32)
              for name in ("clean", "attacked")}
    return {"ids": np.array(ids), **images,
            "clean_confidence": np.array([picture.confidence for picture in own], dtype=np.float64),
            "path_lengths": np.array([len(path.queries) for path in paths]),
            "path_queries": np.array([query for path in paths for query in path.queries], dtype=np.int64),
            "path_margins": np.array([margin for path in paths for margin in path.margins], dtype=np.float64)}


def _unpacked(kept: dict[str, np.ndarray]) -> dict[int, Picture]:
    """Return what `_packed` has packed, by example; files of earlier versions have images alone.

    Raises:
        KeyError, ValueError: if tensors are missing, or don't fit each other.
    """
    ids = kept["ids"]
    none = np.zeros(len(ids), dtype=np.int64)
    lengths = kept.get("path_lengths", none)
    queries, margins = (np.split(kept.get(f"path_{name}", none[:0]), np.cumsum(lengths)) for name in
                        ("queries", "margins"))
    if not [*lengths, 0] == [*map(len, queries)] == [*map(len, margins)]:
        raise ValueError("paths of other lengths than they should have")
    paths = [MarginPath(*(part.tolist() for part in pair)) if len(pair[0]) else None
             for pair in zip(queries[:-1], margins[:-1], strict=True)]
    confidences = kept.get("clean_confidence", none + np.nan).tolist()
    return {int(example): Picture(*own) for example, *own in
            zip(ids, kept["clean"], kept["attacked"], confidences, paths, strict=True)}
