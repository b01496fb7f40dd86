"""Checks of a fetched data set: each looks at a folder and returns the first problem, or None."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np

from framebench.files import file_digest

#: A check of a folder: returns what is wrong with it (to be read after "DIR: "), or None.
Check = Callable[[Path], "str | None"]


def mismatch(path: Path, checksum: str) -> str | None:
    """Return how a file differs from `checksum` (``algorithm:hex``), or None if it matches."""
    algorithm, _, expected = checksum.partition(":")
    found = file_digest(path, algorithm)
    return None if found == expected else f"the {algorithm} of its bytes is {found}, not {expected}"


def checksums(expected: Mapping[str, str]) -> Check:
    """Check files by their checksums (file name -> ``algorithm:hex``)."""
    def check(folder: Path) -> str | None:
        for name, checksum in expected.items():
            if not (folder / name).is_file():
                return f"{name} is missing"
            if problem := mismatch(folder / name, checksum):
                return f"{name}: {problem}"
        return None
    return check


def arrays(shapes: Mapping[str, tuple[int, ...]]) -> Check:
    """Check that ``.npy`` files are whole uint8 arrays (file name -> shape); only their headers are read."""
    def check(folder: Path) -> str | None:
        for name, shape in shapes.items():
            try:
                array = np.load(folder / name, mmap_mode="r", allow_pickle=False)  # fails if bytes are missing
            except FileNotFoundError:
                return f"{name} is missing"
            except Exception as error:  # a damaged file raises nearly anything
                return f"{name} is not a whole array ({error})"
            if array.shape != shape or array.dtype != np.uint8:
                return f"{name} is {array.dtype} {list(array.shape)}, not uint8 {list(shape)}"
        return None
    return check


def class_folders(splits: Iterable[str], classes: Iterable[str], count: int) -> Check:
    """Check that each folder ``<split>/<class>/`` contains `count` files ``*.png``."""
    folders = [f"{split}/{name}" for split in splits for name in classes]

    def check(folder: Path) -> str | None:
        for name in folders:
            if not (folder / name).is_dir():
                return f"{name} is missing"
            found = sum(path.suffix == ".png" for path in (folder / name).iterdir())
            if found != count:
                return f"{name} contains {found} images, not {count}"
        return None
    return check


def file_count(pattern: str, count: int) -> Check:
    """Check that `count` files match a pattern, such as ``*/*.jpg``."""
    def check(folder: Path) -> str | None:
        found = sum(1 for _ in folder.glob(pattern))
        return None if found == count else f"{found} files match {pattern}, not {count}"
    return check


def labelled_images(counts: Mapping[str, int], classes: int = 10, size: int = 32) -> Check:
    """Check that ``.npz`` files (file name -> n) contain images and labels, and that all classes occur.

    ``images`` must be uint8 [n, size, size, 3] and ``labels`` integers [n]. The sizes that the file states are checked
    before anything is read into memory.
    """
    def check(folder: Path) -> str | None:
        for name, n in counts.items():
            try:
                with zipfile.ZipFile(folder / name) as members:
                    if max((info.file_size for info in members.infolist()), default=0) > 2 * n * size * size * 3:
                        return f"{name} claims to contain more than {n} images"
                with np.load(folder / name, allow_pickle=False) as stored:
                    images, labels = stored["images"], stored["labels"]
            except FileNotFoundError:
                return f"{name} is missing"
            except Exception as error:  # a damaged file raises nearly anything
                return f"{name} has no readable arrays named images and labels ({error})"
            if images.dtype != np.uint8 or images.shape != (n, size, size, 3):
                return f"{name}: images are {images.dtype} {list(images.shape)}, not uint8 {[n, size, size, 3]}"
            if labels.dtype.kind not in "iu" or labels.shape != (n,) or set(labels.tolist()) != set(range(classes)):
                return f"{name}: labels are not {n} integers that include all classes from 0 to {classes - 1}"
        return None
    return check
