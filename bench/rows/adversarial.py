"""Saved attacked images: ``OUT/adversarial/EVALUATION/images-*.safetensors``, in parts.

Tensors of a part: images float32 [n, C, H, W] in [0, 1], ids int64 [n], labels int64 [n]. Its metadata hold their
`Origin`, and its name has its checksum.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from bench.rows.facts import from_json
from bench.rows.parts import Rows
from bench.rows.pictures import Pictures
from bench.rows.store import Store
from framebench.errors import InputError
from framebench.files import seal, unseal


@dataclass(frozen=True)
class Origin:
    """The evaluation that saved images come from.

    Attributes:
        model: The model that was attacked.
        domain: Name of the domain.
        domain_digest: sha256 of its images and labels.
        title: Title of the data.
        attack: Name of the attack in tables.
        epsilon: Its epsilon, if it has one.
        budget: The largest number of iterations.
        key: Key of the evaluation.
    """

    model: str
    domain: str
    domain_digest: str
    title: str
    attack: str
    epsilon: float | None
    budget: int
    key: str


@dataclass(frozen=True)
class Saved:
    """Saved images.

    Attributes:
        images: float32 [n, C, H, W] in [0, 1].
        ids: int64 [n], ascending.
        labels: int64 [n].
        origin: The evaluation that they come from.
    """

    images: torch.Tensor
    ids: np.ndarray
    labels: np.ndarray
    origin: Origin


class Adversarial:
    """The store of the attacked images of one evaluation.

    Args:
        rows: The evaluation's rows.
        repair: Whether rows may lack their image, because it will be computed again.
        new: Whether to ignore stored images, since other processes add to the same folder.

    Raises:
        InputError: if a file is damaged, or a row has no image.
    """

    def __init__(self, rows: Rows, *, repair: bool = False, new: bool = False) -> None:
        self.folder, self._origin = folder_of(rows), _origin(rows)
        self._added: list[tuple[torch.Tensor, np.ndarray, np.ndarray]] = []
        self._saved = np.zeros(0, np.int64) if new else _ids(self.folder)
        if not repair and (missing := len(np.setdiff1d(rows.ids, self._saved))):
            raise InputError(f"{missing} rows of {self._origin.model} have no attacked image (they were made without "
                             "--save-adversarial, or the images were removed); --repair attacks these images again")

    def add(self, ids: np.ndarray, labels: np.ndarray, images: torch.Tensor) -> None:
        """Add attacked images [n, C, H, W], except those that are saved already; `flush` writes them."""
        if (new := ~np.isin(ids, self._saved)).any():
            unsaved = images.detach().float().cpu()[torch.from_numpy(new)]
            self._added.append((unsaved.contiguous(), ids[new], labels[new]))

    def flush(self) -> None:
        """Write the added images as a part."""
        if self._added:
            images, ids, labels = zip(*self._added, strict=True)
            _write(self.folder, Saved(torch.cat(images), np.concatenate(ids), np.concatenate(labels), self._origin))
            self._added = []


def folder_of(rows: Rows) -> Path:
    """Return the folder of an evaluation's attacked images."""
    return rows.folder.parent.parent / "adversarial" / rows.folder.name


def parts_of(folder: Path) -> list[Path]:
    """Return the files of saved images in a folder."""
    return sorted(folder.glob("images-*.safetensors"))


def read(folder: Path) -> Saved:
    """Read the saved images in a folder; see `joined`.

    Raises:
        InputError: if there are none, or a file is damaged or has other content.
    """
    parts = [_read_part(path) for path in parts_of(folder)]
    if not parts:
        raise InputError(f"{folder} is not a folder of attacked images; bench attack --save-adversarial writes such "
                         "folders below OUT/adversarial/")
    if len({part.origin for part in parts}) > 1:
        raise InputError(f"{folder} has images of several evaluations; keep those of one")
    return joined(parts)


def joined(parts: Sequence[Saved]) -> Saved:
    """Return the images of several parts of one evaluation. If they share an example, the image of the first counts."""
    ids, first = np.unique(np.concatenate([part.ids for part in parts]), return_index=True)
    images, labels = torch.cat([part.images for part in parts]), np.concatenate([part.labels for part in parts])
    return Saved(images[torch.from_numpy(first)], ids, labels[first], parts[0].origin)


def take_adversarial(store: Store, other: Store) -> None:
    """Copy the images of another store to the same evaluations here, whose rows have been joined."""
    by_key = {rows.evaluation.key: rows for rows in store.all()}
    for other_rows in other.all():
        rows = by_key[other_rows.evaluation.key]
        target = folder_of(rows)
        for path in parts_of(folder_of(other_rows)):
            saved = _read_part(path)
            new = ~np.isin(saved.ids, _ids(target))
            if new.any():
                # The evaluation is the same, but the other folder may have other names for the model or the data.
                _write(target, Saved(saved.images[torch.from_numpy(new)], saved.ids[new], saved.labels[new],
                                     _origin(rows)))


def lost(rows: Rows, pictured: np.ndarray, *, saved: bool) -> np.ndarray:
    """Return the ids of examples that have a row, but have lost their picture or attacked image: int64, ascending.

    Args:
        rows: The rows.
        pictured: Ids of the examples whose pictures are kept.
        saved: Whether all attacked images are kept.
    """
    ids = rows.ids
    lost_pictures = np.intersect1d(ids, np.setdiff1d(pictured, Pictures(rows.folder).examples))
    return np.union1d(lost_pictures, np.setdiff1d(ids, _ids(folder_of(rows))) if saved else ids[:0])


def _ids(folder: Path) -> np.ndarray:
    """Return the ids of the saved images in a folder. Parts are read one at a time, since all may not fit in memory."""
    return np.concatenate([np.zeros(0, np.int64), *(_read_part(path).ids for path in parts_of(folder))])


def _origin(rows: Rows) -> Origin:
    evaluation, traits = rows.evaluation, rows.facts.traits
    return Origin(evaluation.model, evaluation.domain, evaluation.domain_digest, rows.facts.title, rows.label,
                  None if traits is None else traits.epsilon, evaluation.budget, evaluation.key)


def _write(folder: Path, saved: Saved) -> None:
    tensors = {"images": saved.images, "ids": torch.from_numpy(saved.ids.astype(np.int64)),
               "labels": torch.from_numpy(saved.labels.astype(np.int64))}
    content = save(tensors, metadata={"framebench": json.dumps(dataclasses.asdict(saved.origin))})
    seal(folder, f"images-{len(parts_of(folder)) + 1:05}", ".safetensors", content)


def _read_part(path: Path) -> Saved:
    content = unseal(path)
    try:
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        origin = from_json(Origin, json.loads(header["__metadata__"]["framebench"]))
        tensors = load(content)
        images, ids, labels = (tensors[name] for name in ("images", "ids", "labels"))
        problem = _problem(images, [ids, labels])
    except (SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
        problem, origin = type(error).__name__, None
    if problem or origin is None:
        raise InputError(f"{path} does not hold attacked images ({problem}); remove it, and bench attack "
                         "--save-adversarial --repair makes it anew")
    return Saved(images, ids.numpy(), labels.numpy(), origin)


def _problem(images: torch.Tensor, integers: Sequence[torch.Tensor]) -> str | None:
    """Return why tensors are not valid images, ids and labels; None if they are."""
    if images.dtype != torch.float32 or images.ndim != 4:
        return f"images are {images.dtype} {list(images.shape)}"
    if any(column.dtype != torch.int64 or column.shape != images.shape[:1] for column in integers):
        return "ids or labels do not fit the images"
    if not (bool((images >= 0).all()) and bool((images <= 1).all())):
        return "values outside [0, 1]"
    if not len(images) or len(images) != len(torch.unique(integers[0])):
        return "no image, or an id twice"
    return "negative ids or labels" if any(bool((column < 0).any()) for column in integers) else None
