"""CIFAR-10 (Krizhevsky 2009) from what lies under the data root."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from domains.base import CIFAR10_CLASSES, Domain
from domains.folder import read_class_folders
from domains.pickles import read_batch
from framebench.errors import InputError

BATCHES = {"train": tuple(f"data_batch_{i}" for i in range(1, 6)), "test": ("test_batch",)}
#: md5 of the official files, as torchvision publishes them; they decide whether data are called official.
MD5 = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f", "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751", "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb", "test_batch": "40351d587109b95175f43aff81a1287e",
}
COUNTS = {"train": 50000, "test": 10000}


def has_cifar10(data_root: Path, split: str = "test") -> bool:
    """Tell whether `data_root` has CIFAR-10's `split` in one of the two layouts."""
    return (data_root / "cifar-10-batches-py").is_dir() or (data_root / "cifar10" / split).is_dir()


def load_cifar10(data_root: Path | None, split: str = "test") -> Domain:
    """Load CIFAR-10 from ``cifar-10-batches-py/`` or else ``cifar10/<split>/<class>/*``.

    Ids: the row in the official files; in class folders the position, classes in CIFAR's order, then file names.

    Raises:
        InputError: if the data are missing, incomplete or damaged.
    """
    if data_root is None:
        raise InputError("cifar10 needs --data-root DIR (or BENCH_DATA); without data, --domain samples works")
    if not data_root.is_dir():
        raise InputError(f"the data root {data_root} is not a folder; --data-root names the one with data sets")
    official = data_root / "cifar-10-batches-py"
    folders = data_root / "cifar10" / split
    if official.is_dir():
        return _load_batches(official, split)
    if not folders.is_dir():
        raise InputError(f"{data_root} has neither cifar-10-batches-py/ nor cifar10/{split}/<class>/*; "
                       "put CIFAR-10 there in one of the two layouts")
    images, labels = read_class_folders(folders, CIFAR10_CLASSES)
    kinds = {path.suffix.lower() for path in (folders / CIFAR10_CLASSES[0]).iterdir()}
    lossy = "JPEG" if kinds & {".jpg", ".jpeg"} else "lossless"
    return Domain("cifar10", _title(f"CIFAR-10 {split} ({lossy} class folders)", labels, split), CIFAR10_CLASSES,
                  images, labels)


def _load_batches(folder: Path, split: str) -> Domain:
    images, labels, genuine = [], [], True
    for name in BATCHES[split]:
        path = folder / name
        batch = read_batch(path)
        data, batch_labels = batch.get("data"), np.asarray(batch.get("labels", []))
        if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != 3072 \
                or batch_labels.dtype.kind != "i" or batch_labels.shape != data.shape[:1]:
            raise InputError(f"{path} is not a CIFAR-10 batch (uint8 data [n, 3072] and n labels); get the set again")
        images.append(data.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
        labels.append(batch_labels.astype(np.int64))
        genuine &= hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest() == MD5[name]
    y = np.concatenate(labels)
    title = f"CIFAR-10 {split}" if genuine else _title(f"CIFAR-10 {split} (not the official files)", y, split)
    return Domain("cifar10", title, CIFAR10_CLASSES, np.ascontiguousarray(np.concatenate(images)), y)


def _title(title: str, labels: np.ndarray, split: str) -> str:
    counts = np.bincount(labels, minlength=10)
    whole = len(labels) == COUNTS[split] and (counts == COUNTS[split] // 10).all()
    return title if whole else f"{title}, partial: {len(labels)} of {COUNTS[split]} images"
