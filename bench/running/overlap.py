"""Which of the images that models are evaluated on they may have been trained on: CIFAR-10's training images."""

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
    """Look in the sets without corruptions for CIFAR-10's training images, where the data root has these.

    Returns:
        Digest of each set of CIFAR-10's classes that was looked through -> those of its images that are training
        images.
    """
    asked = [cell.images for cell in cells if not cell.corruption and cell.images.classes == CIFAR10]
    if root is None or not asked or not has_cifar10(root, "train"):
        return {}
    try:
        training = load_training("cifar10", root)
    except InputError as error:  # nobody has asked for them
        _log.warning("whether models were trained on these images is not looked at: %s", error)
        return {}
    return {domain.digest: duplicates_of(domain, training) for domain in asked if domain.shape == training.shape}


def write_training_images(out: Path, cells: Sequence[Cell], found: Mapping[str, Duplicates]) -> None:
    """Write what was found into ``duplicates.csv``, in the place of what earlier runs found in the same sets.

    Args:
        out: The output folder.
        cells: The cells, whose names the sets are called by.
        found: What `training_images` returned.

    Raises:
        InputError: if the table's file is damaged.
    """
    names = {cell.images.digest: cell.name for cell in cells if not cell.corruption}
    known = DUPLICATES.read(out)
    tables = [known[~known["domain_digest"].isin(list(found))]]
    for digest, twice in found.items():
        tables.append(pd.DataFrame({
            "domain": names[digest], "domain_digest": digest, "example": twice.examples,
            "train_example": twice.originals, "similarity": twice.similarity.astype(float).round(4),
            "mirrored": twice.mirrored, "exact": twice.exact}))
    if len(known) or any(map(len, tables)):
        DUPLICATES.write(out, *tables)
