"""Labelled images by name.

>>> from framebench.domains import load_domain
>>> samples = load_domain("samples")
>>> x, y = samples.load([0, 1, 2])  # float32 [3, 3, 32, 32] in [0, 1], int64 [3]
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from framebench.domains.base import Domain
from framebench.domains.cifar import has_cifar10, load_cifar10, load_cifar100
from framebench.domains.cifar_retests import load_cifar10_1, load_cifar10_1_v4, load_cifar10_2
from framebench.domains.cinic import load_cinic10, load_cinic10_all, load_cinic10_unique
from framebench.domains.folder import load_folder
from framebench.domains.samples import load_samples
from framebench.domains.stl import load_stl10
from framebench.domains.svhn import load_svhn
from framebench.errors import InputError, unknown

__all__ = ["DOMAINS", "TRAINING", "Domain", "data_root", "default_domain", "describe", "load_domain", "load_training"]

#: name -> (loader of the data root, what it is)
DOMAINS: dict[str, tuple[Callable[[Path | None], Domain], str]] = {
    "samples": (load_samples, "20 lossless CIFAR-10 test images, shipped by foolbox"),
    "cifar10": (load_cifar10, "the CIFAR-10 test set under --data-root"),
    "cinic10": (load_cinic10, "CINIC-10's test images of ImageNet alone (70,000)"),
    "cinic10-unique": (load_cinic10_unique, "the same without exact duplicates"),
    "cinic10-all": (load_cinic10_all, "CINIC-10's whole test split (90,000), CIFAR-10's training images in it"),
    "cifar10.1": (load_cifar10_1, "CIFAR-10.1 v6, a new test set for CIFAR-10 (2,000)"),
    "cifar10.1-v4": (load_cifar10_1_v4, "CIFAR-10.1 v4 (2,021)"),
    "cifar10.2": (load_cifar10_2, "CIFAR-10.2 test, another new test set (2,000)"),
    "stl10": (load_stl10, "STL-10 test at 32x32, the 9 classes that CIFAR-10 has too (7,200)"),
    "cifar100": (load_cifar100, "the CIFAR-100 test set (10,000), for models of its 100 classes"),
    "svhn": (load_svhn, "the SVHN test set (26,032 digits), for models of its 10 digits"),
}

#: Sets that models are trained on: name -> loader of (data root, split); the test set is the domain of that name.
TRAINING: dict[str, Callable[[Path | None, str], Domain]] = {
    "cifar10": load_cifar10, "cifar100": load_cifar100, "svhn": load_svhn,
}


def data_root(given: str | None) -> Path | None:
    """Return where data lie: the folder given, else ``$BENCH_DATA``, else None.

    Raises:
        InputError: if it is not a folder.
    """
    name = given or os.environ.get("BENCH_DATA")
    if not name:
        return None
    root = Path(name).expanduser()
    if not root.is_dir():
        raise InputError(f"the data root {root} is not a folder; --data-root (or BENCH_DATA) names the one with data")
    return root


def default_domain(root: Path | None) -> str:
    """Return the domain that a bare command uses: the CIFAR-10 test set where the data root has it, else `samples`."""
    return "cifar10" if root is not None and has_cifar10(root) else "samples"


def describe() -> dict[str, str]:
    """Return every kind of name that `load_domain` and `load_corrupted` take, and what it is."""
    from framebench.domains.corrupted import CORRUPTED

    fixed = {name: what for name, (_, what) in DOMAINS.items()}
    return {**fixed, "folder:PATH": "your own PATH/<class>/*, by CIFAR-10's class names; some may be missing",
            **CORRUPTED, "SET-c/CORRUPTION/SEVERITY": "one cell of a corrupted set, such as cifar10-c/fog/3"}


def load_domain(name: str, root: Path | None = None) -> Domain:
    """Load a domain by name.

    Args:
        name: A name of `DOMAINS`, ``folder:PATH``, or one cell of a corrupted set as ``cifar10-c/fog/3``.
        root: The folder that holds the data sets.

    Raises:
        InputError: for an unknown name, and for data that are missing, incomplete or damaged.
    """
    if name.startswith("folder:"):
        return load_folder(Path(name.removeprefix("folder:")).expanduser())
    if name not in DOMAINS:
        base, *cell = name.rsplit("/", 2)
        if len(cell) == 2 and base.partition(":")[0].endswith("-c") and cell[1].isdigit():
            from framebench.domains.corrupted import load_corrupted  # here: it builds on this module
            return load_corrupted(base, root).cell(cell[0], int(cell[1]))
        raise unknown("domain", name, [*DOMAINS, "folder:PATH"])
    loader, _ = DOMAINS[name]
    return loader(root)


def load_training(name: str, root: Path | None) -> Domain:
    """Load the training set of a name of `TRAINING`; ``load_domain(name, root)`` is its test set.

    Raises:
        InputError: for an unknown name, and for data that are missing, incomplete or damaged.
    """
    if name not in TRAINING:
        raise unknown("training set", name, TRAINING)
    return TRAINING[name](root, "train")
