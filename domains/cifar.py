"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009), read from the data root.

torchvision reads the same files with `pickle.load`, which can run any code that a file contains.
`framebench.domains.pickles` builds arrays and nothing else.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from framebench.classes import CIFAR10, CIFAR100
from framebench.domains.base import Domain
from framebench.domains.folder import read_class_folders
from framebench.domains.layout import Places, find, located, titled, unofficial
from framebench.domains.pickles import read_batch
from framebench.errors import InputError

PLACES: dict[str, Places] = {
    "cifar10": ("cifar-10-batches-py/", "cifar10/{split}/"),
    "cifar100": ("cifar-100-python/", "cifar100/{split}/"),
}
BATCHES = {"train": tuple(f"data_batch_{i}" for i in range(1, 6)), "test": ("test_batch",)}
#: md5 of the official files, as published by torchvision. Files that match are called official.
MD5 = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f", "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751", "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb", "test_batch": "40351d587109b95175f43aff81a1287e",
}
MD5_100 = {"train": "16019d7e3df5f24257cddd939b257f8d", "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
           "meta": "7973b15100ade9c7d40fb424638fde48"}
#: Number of images in each split; all classes have the same share.
COUNTS = {"train": 50000, "test": 10000}


def has_cifar10(data_root: Path | None, split: str = "test") -> bool:
    """Return whether `data_root` has this split of CIFAR-10, in either layout."""
    return located(data_root, PLACES["cifar10"], split=split) is not None


def load_cifar10(data_root: Path | None, split: str = "test") -> Domain:
    """Load CIFAR-10 from ``cifar-10-batches-py/``, else from ``cifar10/<split>/<class>/*``.

    Ids are rows of the official files. For class folders they are positions: sorted by class in CIFAR-10's order, then
    by file name.

    Raises:
        InputError: if the data are missing, incomplete or damaged.
    """
    folder = find(data_root, "cifar10", PLACES["cifar10"], split=split)
    if in_class_folders(folder):
        images, labels = read_class_folders(folder, CIFAR10)
        kind = _kind(folder)
    else:
        images, labels = _read_batches(folder, BATCHES[split], "labels")
        kind = unofficial(folder, {name: MD5[name] for name in BATCHES[split]})
    title = titled(f"CIFAR-10 {split}{kind}", labels, [COUNTS[split] // 10] * 10)
    return Domain("cifar10", title, CIFAR10, images, labels)


def load_cifar100(data_root: Path | None, split: str = "test") -> Domain:
    """Load CIFAR-100 with its 100 fine classes from ``cifar-100-python/``, else from ``cifar100/<split>/<class>/*``.

    Class folders may be missing; the labels are CIFAR-100's all the same. Ids are as in `load_cifar10`.

    Raises:
        InputError: if the data are missing or damaged, or a folder is not named after a class.
    """
    folder = find(data_root, "cifar100", PLACES["cifar100"], split=split)
    if in_class_folders(folder):
        images, labels = read_class_folders(folder, CIFAR100, some=True)
        kind = _kind(folder)
    else:
        images, labels = _read_batches(folder, [split], "fine_labels")
        names = read_batch(folder / "meta").get("fine_label_names")
        if not isinstance(names, list) or names != [name.encode() for name in CIFAR100]:
            raise InputError(f"{folder / 'meta'} does not name CIFAR-100's classes in their order (fine_label_names); "
                             "get the data set again")
        kind = unofficial(folder, {name: MD5_100[name] for name in (split, "meta")})
    title = titled(f"CIFAR-100 {split}{kind}", labels, [COUNTS[split] // 100] * 100)
    return Domain("cifar100", title, CIFAR100, images, labels)


def in_class_folders(folder: Path) -> bool:
    """Return whether one of the `PLACES` is a split with class folders; otherwise it has the official batches."""
    return folder.name in COUNTS


def _kind(folder: Path) -> str:
    suffixes = {path.suffix.lower() for path in folder.glob("*/*")}
    return f" ({'JPEG' if suffixes & {'.jpg', '.jpeg'} else 'lossless'} class folders)"


def _read_batches(folder: Path, names: tuple[str, ...] | list[str], key: str) -> tuple[np.ndarray, np.ndarray]:
    """Read batches: images uint8 [n, 32, 32, 3] and labels int64 [n]. `key` is the name of the labels in the file."""
    images, labels = [], []
    for name in names:
        batch = read_batch(folder / name)
        data = batch.get("data")
        try:
            batch_labels = np.asarray(batch.get(key, []))
        except ValueError:  # lists of unequal length
            batch_labels = np.empty(0)
        if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != 3072 \
                or batch_labels.dtype.kind != "i" or batch_labels.shape != data.shape[:1]:
            raise InputError(f"{folder / name} is not a batch of CIFAR (uint8 data [n, 3072] and n {key}); "
                             "get the data set again")
        images.append(data.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
        labels.append(batch_labels.astype(np.int64))
    return np.ascontiguousarray(np.concatenate(images)), np.concatenate(labels)
