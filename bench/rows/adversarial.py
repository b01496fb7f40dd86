"""Attacked images kept for others to read: ``OUT/adversarial/EVALUATION/images-*.safetensors``, in parts.

Tensors of a part: images float32 [n, C, H, W] in [0, 1], ids int64 [n], labels int64 [n]; its metadata say of what, and
its name carries its checksum.
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
    """What saved images are of.

    Attributes:
        model: The model that was attacked.
        domain: Name of the domain.
        domain_digest: sha256 of its images and labels.
        title: What the data are.
        attack: What tables call the attack.
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
        origin: What they are of.
    """

    images: torch.Tensor
    ids: np.ndarray
    labels: np.ndarray
    origin: Origin


class Adversarial:
    """The final images of one evaluation, as they are added.

    Args:
        rows: The evaluation's rows.
        repair: Whether the images of rows that lack theirs are to be made; otherwise each must have its image.
        new: Whether nothing that is kept already is looked at, as where others add to the same folder.

    Raises:
        InputError: if a file is damaged, or a row has no image.
    """

    def __init__(self, rows: Rows, *, repair: bool = False, new: bool = False) -> None:
        self.folder, self._origin = folder_of(rows), _origin(rows)
        self._added: list[tuple[torch.Tensor, np.ndarray, np.ndarray]] = []
        self._known = np.zeros(0, np.int64) if new else saved_ids(rows)
        if not repair and (missing := len(np.setdiff1d(rows.ids, self._known))):
            raise InputError(f"{missing} rows of {self._origin.model} have no attacked image (they were made without "
                             "--save-adversarial, or the images were removed); --repair attacks these images again")

    def add(self, ids: np.ndarray, labels: np.ndarray, images: torch.Tensor) -> None:
        """Keep attacked images [r, C, H, W], but for those that are kept already; `flush` writes them."""
        if (new := ~np.isin(ids, self._known)).any():
            kept = images.detach().float().cpu()[torch.from_numpy(new)]
            self._added.append((kept.contiguous(), ids[new], labels[new]))

    def flush(self) -> None:
        """Write what was added since the last time as a part."""
        if self._added:
            images, ids, labels = zip(*self._added, strict=True)
            _write(self.folder, Saved(torch.cat(images), np.concatenate(ids), np.concatenate(labels), self._origin))
            self._added = []


def folder_of(rows: Rows) -> Path:
    """Return where the attacked images of an evaluation are kept."""
    return rows.folder.parent.parent / "adversarial" / rows.folder.name


def parts_of(folder: Path) -> list[Path]:
    """Return the files of saved images in a folder."""
    return sorted(folder.glob("images-*.safetensors"))


def read(folder: Path) -> Saved:
    """Read the saved images in a folder; of an example that was saved twice, the first part's image.

    Raises:
        InputError: if there are none, or a file is damaged or does not hold what it should.
    """
    found = [_read_part(path) for path in parts_of(folder)]
    if not found:
        raise InputError(f"{folder} is no folder of attacked images; bench attack --save-adversarial writes such "
                         "folders below OUT/adversarial/")
    if len({part.origin for part in found}) > 1:
        raise InputError(f"{folder} has images of several evaluations; keep those of one")
    ids, first = np.unique(np.concatenate([part.ids for part in found]), return_index=True)
    images, labels = torch.cat([part.images for part in found]), np.concatenate([part.labels for part in found])
    return Saved(images[torch.from_numpy(first)], ids, labels[first], found[0].origin)


def take_adversarial(store: Store, other: Store) -> None:
    """Add the images that another store keeps to those of the same evaluations, whose rows are joined already."""
    own = {rows.evaluation.key: rows for rows in store.all()}
    for theirs in other.all():
        if parts_of(source := folder_of(theirs)):
            mine = own[theirs.evaluation.key]
            target = folder_of(mine)
            for path in parts_of(source):
                saved = _read_part(path)
                new = ~np.isin(saved.ids, _ids(target))
                if new.any():
                    # Of one evaluation, but the other folder may know the model or the data by other names.
                    _write(target, Saved(saved.images[torch.from_numpy(new)], saved.ids[new], saved.labels[new],
                                         _origin(mine)))


def saved_ids(rows: Rows) -> np.ndarray:
    """Return the ids of the attacked images that an evaluation keeps."""
    return _ids(folder_of(rows))


def lost(rows: Rows, pictured: np.ndarray, *, saved: bool) -> np.ndarray:
    """Return the examples with a row, but without what is kept beside it: ids, int64 ascending.

    Args:
        rows: The rows.
        pictured: Ids of the images whose pictures are kept.
        saved: Whether all attacked images are kept.
    """
    ids = rows.ids
    without = np.setdiff1d(pictured, Pictures(rows.folder).examples)
    return np.union1d(np.intersect1d(ids, without), np.setdiff1d(ids, saved_ids(rows)) if saved else ids[:0])


def _ids(folder: Path) -> np.ndarray:
    """Return the ids of all saved images; one part at a time is in memory, since all may not fit."""
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
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        problem, origin = type(error).__name__, None
    if problem or origin is None:
        raise InputError(f"{path} does not hold attacked images ({problem}); remove it, and bench attack "
                         "--save-adversarial --repair makes it anew")
    return Saved(images, ids.numpy(), labels.numpy(), origin)


def _problem(images: torch.Tensor, integers: Sequence[torch.Tensor]) -> str | None:
    """Return what keeps tensors from being images, ids and labels; None if nothing does."""
    if images.dtype != torch.float32 or images.ndim != 4:
        return f"images are {images.dtype} {list(images.shape)}"
    if any(column.dtype != torch.int64 or column.shape != images.shape[:1] for column in integers):
        return "ids or labels do not fit the images"
    if not (bool((images >= 0).all()) and bool((images <= 1).all())):
        return "values outside [0, 1]"
    if not len(images) or len(images) != len(torch.unique(integers[0])):
        return "no image, or an id twice"
    return "negative ids or labels" if any(bool((column < 0).any()) for column in integers) else None
