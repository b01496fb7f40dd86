"""What of the images that models are evaluated on they may have been trained on: CIFAR-10's training images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from bench.rows.kept_tables import read_table, write_table
from bench.rows.store import Store
from bench.running.flags import duplicate_flags
from bench.running.shifting import Cell, evaluation_of
from framebench.domains import load_training
from framebench.domains.base import CIFAR10_CLASSES
from framebench.domains.cifar import has_cifar10
from framebench.domains.duplicates import Duplicates, duplicates_of
from framebench.errors import InputError
from framebench.models.registry import LoadedModel

KEYS = ["domain", "example"]
COLUMNS = [*KEYS, "train_example", "similarity", "mirrored", "exact"]


def training_images(cells: Sequence[Cell], root: Path | None) -> dict[str, Duplicates]:
    """Look in the sets without corruptions for CIFAR-10's training images, where the data root has these.

    Returns:
        Digest of a set of CIFAR-10's classes -> its images that are training images; empty where they can't be told.
    """
    asked = [cell.images for cell in cells if not cell.corruption and cell.images.classes == CIFAR10_CLASSES]
    if root is None or not asked or not has_cifar10(root, "train"):
        return {}
    try:
        training = load_training("cifar10", root)
    except InputError as error:  # nobody has asked for them
        print(f"whether models were trained on these images is not looked at: {error}", flush=True)
        return {}
    return {domain.digest: duplicates_of(domain, training) for domain in asked if domain.shape == training.shape}


def flag_training_images(cells: Sequence[Cell], models: Sequence[LoadedModel], store: Store,
                         found: Mapping[str, Duplicates]) -> None:
    """Flag the rows of sets that have training images among them, with what accuracy is without these."""
    for cell in cells:
        if cell.corruption or cell.images.digest not in found:
            continue
        for model in models:
            rows = store.open(evaluation_of(model, cell), {})
            examples, labels, predictions = rows.outcomes()
            flags = duplicate_flags(cell.name, labels == predictions,
                                    np.isin(examples, found[cell.images.digest].examples))
            known = rows.facts["warnings"]
            # An earlier run's goes: it was of fewer images.
            warnings = [flag for flag in known if "#duplicates)" not in flag] + flags
            if warnings != known:
                for flag in flags:
                    print(f"warning: {model.name}: {flag}", flush=True)
                rows.facts["warnings"] = warnings
                rows.flush()


def write_training_images(out: Path, cells: Sequence[Cell], found: Mapping[str, Duplicates]) -> None:
    """Write ``duplicates.csv``: the ids of images that are training images, and of which; other domains' are kept."""
    tables = [pd.DataFrame({"domain": cell.name, "example": twice.examples, "train_example": twice.originals,
                            "similarity": twice.similarity.astype(float).round(4), "mirrored": twice.mirrored,
                            "exact": twice.exact}, columns=COLUMNS)
              for cell in cells if not cell.corruption and (twice := found.get(cell.images.digest)) is not None]
    if not any(map(len, tables)):
        return
    path = out / "duplicates.csv"
    try:
        old = read_table(path, COLUMNS)
    except InputError:
        old = pd.DataFrame(columns=COLUMNS)  # the images tell it again
    others = old[~old["domain"].isin([cell.name for cell in cells])]
    write_table(path, others, *tables, keys=KEYS)
