"""The 20 CIFAR-10 test images in the package foolbox: real and lossless, and no download is needed."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
from PIL import Image

from framebench.classes import CIFAR10
from framebench.domains.base import Domain
from framebench.errors import InputError


def foolbox_images(pattern: str, kind: str) -> list[Path]:
    """Return the 20 images in foolbox whose names match a pattern, sorted by name; `kind` is for the message.

    Raises:
        InputError: if foolbox is not installed or contains other images.
    """
    spec = importlib.util.find_spec("foolbox")  # found, not imported: importing foolbox takes seconds and needs git
    paths = sorted((Path(spec.origin).parent / "data").glob(pattern)) if spec and spec.origin else []
    if len(paths) != 20:
        raise InputError(f"the package foolbox should contain 20 {kind} images, but {len(paths)} were found; "
                         "reinstall it with pip install --force-reinstall foolbox")
    return paths


def load_samples(_data_root: Path | None = None) -> Domain:
    """Load the domain `samples`; the id of an image is its number in foolbox. For errors see `foolbox_images`."""
    files = foolbox_images("cifar10_[0-9][0-9]_[0-9].png", "CIFAR-10")
    images = np.stack([np.asarray(Image.open(path).convert("RGB")) for path in files])
    labels = np.array([int(path.stem.rsplit("_", 1)[1]) for path in files], dtype=np.int64)
    hint = ("for the full set, use --data-root DIR (or BENCH_DATA), a folder with CIFAR-10's cifar-10-batches-py/ "
            "or cifar10/test/<class>/*.png")
    return Domain("samples", "CIFAR-10 test sample (20 lossless images shipped by foolbox)", CIFAR10,
                  images, labels, hint)
