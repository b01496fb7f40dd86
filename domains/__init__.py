"""Labelled images by name.

>>> from domains import load_domain
>>> samples = load_domain("samples")
>>> x, y = samples.load([0, 1, 2])  # float32 [3, 3, 32, 32] in [0, 1], int64 [3]
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from domains.base import Domain
from domains.cifar import has_cifar10, load_cifar10
from domains.samples import load_samples
from framebench.errors import InputError, unknown

__all__ = ["DOMAINS", "Domain", "data_root", "default_domain", "load_domain"]

#: name -> (loader of the data root, what it is)
DOMAINS: dict[str, tuple[Callable[[Path | None], Domain], str]] = {
    "samples": (load_samples, "20 lossless CIFAR-10 test images, shipped by foolbox"),
    "cifar10": (load_cifar10, "the CIFAR-10 test set under --data-root"),
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


def load_domain(name: str, root: Path | None = None) -> Domain:
    """Load a domain by name.

    Args:
        name: A name of `DOMAINS`.
        root: The folder that holds the data sets.

    Raises:
        InputError: for an unknown name, and for data that are missing, incomplete or damaged.
    """
    if name not in DOMAINS:
        raise unknown("domain", name, DOMAINS)
    loader, _ = DOMAINS[name]
    return loader(root)
