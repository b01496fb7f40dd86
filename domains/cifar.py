"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009) from what lies under the data root.

torchvision reads the same files, but by `pickle.load`, which runs whatever a file tells it to;
`framebench.domains.pickles` builds arrays and nothing else.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from framebench.domains.base import CIFAR10_CLASSES, Domain
from framebench.domains.folder import read_class_folders
from framebench.domains.layout import find, is_official, titled
from framebench.domains.pickles import read_batch
from framebench.errors import InputError

BATCHES = {"train": tuple(f"data_batch_{i}" for i in range(1, 6)), "test": ("test_batch",)}
#: md5 of the official files, as torchvision publishes them; they decide whether data are called official.
MD5 = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f", "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751", "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb", "test_batch": "40351d587109b95175f43aff81a1287e",
}
MD5_100 = {"train": "16019d7e3df5f24257cddd939b257f8d", "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
           "meta": "7973b15100ade9c7d40fb424638fde48"}
#: Images of a split, in equal shares a class.
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
    folder = find(data_root, "cifar10", "cifar-10-batches-py/", f"cifar10/{split}/")
    published = [COUNTS[split] // 10] * 10
    if folder.name != split:
        images, labels = _read_batches(folder, BATCHES[split], "labels")
        genuine = is_official(folder, {name: MD5[name] for name in BATCHES[split]})
        title = f"CIFAR-10 {split}{'' if genuine else ' (not the official files)'}"
    else:
        images, labels = read_class_folders(folder, CIFAR10_CLASSES)
        kinds = {path.suffix.lower() for path in (folder / CIFAR10_CLASSES[0]).iterdir()}
        title = f"CIFAR-10 {split} ({'JPEG' if kinds & {'.jpg', '.jpeg'} else 'lossless'} class folders)"
    return Domain("cifar10", titled(title, labels, published), CIFAR10_CLASSES, images, labels)


def load_cifar100(data_root: Path | None, split: str = "test") -> Domain:
    """Load CIFAR-100 with its 100 fine classes from ``cifar-100-python/``; ids are the rows of the official files.

    Raises:
        InputError: if the data are missing or damaged.
    """
    folder = find(data_root, "cifar100", "cifar-100-python/")
    images, labels = _read_batches(folder, [split], "fine_labels")
    found = read_batch(folder / "meta").get("fine_label_names")
    names = [name.decode(errors="replace") for name in found if isinstance(name, bytes)] if found else []
    if len(names) != 100:
        raise InputError(f"{folder / 'meta'} does not name 100 classes (fine_label_names); get the set again")
    genuine = is_official(folder, {name: MD5_100[name] for name in (split, "meta")})
    title = f"CIFAR-100 {split}{'' if genuine else ' (not the official files)'}"
    return Domain("cifar100", titled(title, labels, [COUNTS[split] // 100] * 100), tuple(names), images, labels)


def _read_batches(folder: Path, names: tuple[str, ...] | list[str], key: str) -> tuple[np.ndarray, np.ndarray]:
    """Read batches into images uint8 [n, 32, 32, 3] and labels int64 [n]; `key` is what the file calls the labels."""
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
                           "get the set again")
        images.append(data.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
        labels.append(batch_labels.astype(np.int64))
    return np.ascontiguousarray(np.concatenate(images)), np.concatenate(labels)
