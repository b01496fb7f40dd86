"""Pictures: a few images before and after an attack, kept beside the rows for the report."""

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
        confidence: Softmax probability of the prediction of the clean image; nan if it is not known.
        path: The path of the margin; None if the attack gives none.
    """

    clean: np.ndarray
    attacked: np.ndarray
    confidence: float = np.nan
    path: MarginPath | None = None


class Pictures:
    """The pictures of an evaluation. Rows don't depend on them: a damaged file is left out with a warning.

    Several processes may add to one folder, each in its own file; the next reader joins the files.

    Args:
        folder: The evaluation's folder.
        new: Whether to start a new file; otherwise the existing files are read, and joined by `flush`.
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
        """Add a picture; `flush` writes it."""
        self._pictures[example] = picture
        self._changed = True

    def join(self, other: Pictures) -> None:
        """Add the pictures of `other` that are missing here."""
        self._changed |= bool(other._pictures.keys() - self._pictures.keys())
        self._pictures = {**other._pictures, **self._pictures}

    def get(self, example: int) -> Picture | None:
        """Return the picture of an example, or None."""
        return self._pictures.get(example)

    @property
    def examples(self) -> list[int]:
        """Ids of the examples that have a picture, ascending."""
        return sorted(self._pictures)

    def flush(self) -> None:
        """Write all pictures to one file and remove the old files, if anything has changed."""
        if not self._changed:
            return
        written = seal(self.folder, "pictures", ".safetensors", save(_packed(self._pictures)))
        for path in set(self._files) - {written}:
            path.unlink(missing_ok=True)
        self._files, self._changed = [written], False


def _packed(pictures: dict[int, Picture]) -> dict[str, np.ndarray]:
    """Return pictures as tensors. The paths are concatenated; `path_lengths` has their lengths."""
    ids = sorted(pictures)
    ordered = [pictures[example] for example in ids]
    paths = [picture.path or MarginPath() for picture in ordered]
    # Contiguous: images are channels-last in memory, and safetensors writes the memory of an array as it is.
    images = {name: np.ascontiguousarray(np.stack([getattr(picture, name) for picture in ordered]), dtype=np.float32)
              for name in ("clean", "attacked")}
    return {"ids": np.array(ids), **images,
            "clean_confidence": np.array([picture.confidence for picture in ordered], dtype=np.float64),
            "path_lengths": np.array([len(path.queries) for path in paths]),
            "path_queries": np.array([query for path in paths for query in path.queries], dtype=np.int64),
            "path_margins": np.array([margin for path in paths for margin in path.margins], dtype=np.float64)}


def _unpacked(tensors: dict[str, np.ndarray]) -> dict[int, Picture]:
    """Return the pictures that `_packed` has packed, by example.

    Raises:
        KeyError, ValueError: if tensors are missing or don't fit each other.
    """
    lengths = tensors["path_lengths"]
    queries, margins = (np.split(tensors[f"path_{name}"], np.cumsum(lengths)) for name in ("queries", "margins"))
    if not [*lengths, 0] == [*map(len, queries)] == [*map(len, margins)]:
        raise ValueError("paths of other lengths than they should have")
    paths = [MarginPath(*(part.tolist() for part in pair)) if len(pair[0]) else None
             for pair in zip(queries[:-1], margins[:-1], strict=True)]
    fields = (tensors["clean"], tensors["attacked"], tensors["clean_confidence"].tolist(), paths)
    return {int(example): Picture(*picture) for example, *picture in zip(tensors["ids"], *fields, strict=True)}
