"""New test sets for CIFAR-10, collected like it: CIFAR-10.1 (Recht et al. 2018) and CIFAR-10.2 (Lu et al. 2020).

Papers: arXiv 1806.00451, and "Harder or Different? A Closer Look at Distribution Shift in Dataset Reproduction".
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from framebench.classes import CIFAR10
from framebench.domains.arrays import read_npy, read_npz
from framebench.domains.base import Domain
from framebench.domains.layout import Places, find, titled

PLACES: dict[str, Places] = {
    "cifar10.1": ("CIFAR-10.1/cifar10.1_{version}_data.npy", "CIFAR-10.1/datasets/cifar10.1_{version}_data.npy",
                  "cifar10.1_{version}_data.npy"),
    "cifar10.2": ("CIFAR-10.2/cifar102_test.npz", "cifar102_test.npz"),
}
#: Images in each version of CIFAR-10.1: per class, or in total where the classes differ in size.
PUBLISHED: dict[str, list[int] | int] = {"v6": [200] * 10, "v4": 2021}


def load_cifar10_1(data_root: Path | None) -> Domain:
    """Load CIFAR-10.1 v6, the version that its authors recommend; ids are rows of the official files."""
    return _load_version(data_root, "cifar10.1", "v6")


def load_cifar10_1_v4(data_root: Path | None) -> Domain:
    """Load CIFAR-10.1 v4, the version in the main part of the paper; ids are rows of the official files."""
    return _load_version(data_root, "cifar10.1-v4", "v4")


def _load_version(data_root: Path | None, name: str, version: str) -> Domain:
    path = find(data_root, name, PLACES["cifar10.1"], version=version)
    images = read_npy(path, (None, 32, 32, 3), "B")
    labels = np.array(read_npy(path.with_name(f"cifar10.1_{version}_labels.npy"), (None,), "iu"), dtype=np.int64)
    return Domain(name, titled(f"CIFAR-10.1 {version}", labels, PUBLISHED[version]), CIFAR10, images, labels)


def load_cifar10_2(data_root: Path | None) -> Domain:
    """Load the test set of CIFAR-10.2 (200 images per class); ids are rows of the official file."""
    path = find(data_root, "cifar10.2", PLACES["cifar10.2"])
    images, labels = read_npz(path, {"images": ((None, 32, 32, 3), "B"), "labels": ((None,), "iu")})
    return Domain("cifar10.2", titled("CIFAR-10.2 test", labels, [200] * 10), CIFAR10, images,
                  labels.astype(np.int64))
