"""Finds CIFAR-10's training images among the images that models are evaluated on."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from bench.rows.kept import DUPLICATES
from bench.running.cells import Cell
from framebench.classes import CIFAR10
from framebench.domains import load_training
from framebench.domains.cifar import has_cifar10
from framebench.domains.duplicates import Duplicates, duplicates_of
from framebench.errors import InputError

_log = logging.getLogger(__name__)


def training_images(cells: Sequence[Cell], root: Path | None) -> dict[str, Duplicates]:
    """Search sets without corruptions for CIFAR-10's training images, if the data root has these.

    Returns:
        Digest of each searched set -> its training images. Sets with other classes are not searched.
    """
    clean = [cell.images for cell in cells if not cell.corruption and cell.images.classes == CIFAR10]
    if root is None or not clean or not has_cifar10(root, "train"):
        return {}
    try:
        training = load_training("cifar10", root)
    except InputError as error:  # no reason to fail: the user has not asked for them
        _log.warning("the images are not checked for copies of training images: %s", error)
        return {}
    return {domain.digest: duplicates_of(domain, training) for domain in clean if domain.shape == training.shape}


def write_training_images(out: Path, cells: Sequence[Cell], found: Mapping[str, Duplicates]) -> None:
    """Write ``duplicates.csv``; entries of earlier runs for the same sets are replaced.

    Args:
        out: The output folder.
        cells: The cells, which name the sets.
        found: The result of `training_images`.

    Raises:
        InputError: if the table's file is damaged.
    """
    names = {cell.images.digest: cell.name for cell in cells if not cell.corruption}
    earlier = DUPLICATES.read(out)
    tables = [earlier[~earlier["domain_digest"].isin(list(found))]]
    for digest, duplicates in found.items():
        tables.append(pd.DataFrame({
            "domain": names[digest], "domain_digest": digest, "example": duplicates.examples,
            "train_example": duplicates.originals, "similarity": duplicates.similarity.astype(float).round(4),
            "mirrored": duplicates.mirrored, "exact": duplicates.exact}))
    if len(earlier) or any(map(len, tables)):
        DUPLICATES.write(out, *tables)
