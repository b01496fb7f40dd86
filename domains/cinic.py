"""CINIC-10 (Darlow et al. 2018, arXiv 1810.03505): CIFAR-10's classes, with images from CIFAR-10 and from ImageNet.

The test split contains all CIFAR-10 test images and 10,000 CIFAR-10 training images; their file names start with
"cifar". Only the images from ImageNet make a fair test of domain shift, so they are the default. The whole split has a
name of its own.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import numpy as np

from framebench.classes import CIFAR10
from framebench.domains.base import Domain
from framebench.domains.folder import read_class_folders
from framebench.domains.layout import find, titled
from framebench.errors import InputError

PLACES = ("CINIC-10/test/", "cinic10/test/")
#: Test images per class: those from ImageNet only, and all of them.
IMAGENET, ALL = 7000, 9000
_OF_CIFAR = re.compile(r"cifar-?10-", re.IGNORECASE)


def load_cinic10(data_root: Path | None) -> Domain:
    """Load the test images that come from ImageNet, including duplicates."""
    images, labels = _read(data_root, "cinic10", whole=False)
    return _domain("cinic10", "CINIC-10 test, ImageNet part", images, labels, IMAGENET)


def load_cinic10_all(data_root: Path | None) -> Domain:
    """Load the whole test split, including its CIFAR-10 test and training images."""
    images, labels = _read(data_root, "cinic10-all", whole=True)
    return _domain("cinic10-all", "CINIC-10 test, whole (CIFAR-10's test images and training images in it)", images,
                   labels, ALL)


def load_cinic10_unique(data_root: Path | None) -> Domain:
    """Load the ImageNet part without duplicates: the first of several equal images is kept, whatever their classes."""
    images, labels = _read(data_root, "cinic10-unique", whole=False)
    first = first_of_equals(images)
    kept = np.flatnonzero(first == np.arange(len(first)))
    title = titled("CINIC-10 test, ImageNet part", labels, [IMAGENET] * 10)
    return Domain("cinic10-unique", f"{title}, without {len(images) - len(kept):,} exact duplicates", CIFAR10,
                  images[kept], labels[kept])


def first_of_equals(images: np.ndarray) -> np.ndarray:
    """Return, for each image, the position of the first image with the same pixels, int64 [n]."""
    seen: dict[bytes, int] = {}
    return np.array([seen.setdefault(hashlib.sha256(image).digest(), i) for i, image in enumerate(images)],
                    dtype=np.int64)


def _read(data_root: Path | None, name: str, whole: bool) -> tuple[np.ndarray, np.ndarray]:
    folder = find(data_root, name, PLACES)
    images, labels = read_class_folders(folder, CIFAR10,
                                        None if whole else lambda file: not _OF_CIFAR.match(file))
    if not len(images):
        raise InputError(f"{folder} contains only images from CIFAR-10 (cifar10-*), none from ImageNet "
                         "(n########_*.png); get the data set again")
    return images, labels


def _domain(name: str, title: str, images: np.ndarray, labels: np.ndarray, per_class: int) -> Domain:
    first = first_of_equals(images)
    repeats = first != np.arange(len(first))
    title = titled(title, labels, [per_class] * 10)
    hint = ""
    if repeats.any():
        title += f", {int(repeats.sum()):,} exact duplicates"
        torn = int((labels[first] != labels)[repeats].sum())
        hint = f"{torn:,} of the duplicates have another class than the first copy" if torn else ""
        hint += f"{'; ' if hint else ''}cinic10-unique is the ImageNet part without duplicates"
    return Domain(name, title, CIFAR10, images, labels, hint)
