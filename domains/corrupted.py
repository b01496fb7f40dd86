"""Corrupted sets: CIFAR-10-C and CIFAR-100-C from the official files where they are, else generated.

>>> corrupted = load_corrupted("cifar10-c", root)
>>> x, y = corrupted.cell("fog", 3).load([0, 1, 2])
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from framebench.domains import load_domain
from framebench.domains.arrays import read_npy
from framebench.domains.base import CIFAR10_CLASSES, Domain
from framebench.domains.cells import MANIFEST
from framebench.domains.cifar import has_cifar10
from framebench.domains.corruptions import BENCHMARK, NAMES, SEVERITIES
from framebench.domains.layout import file_md5
from framebench.errors import InputError, unknown

#: name -> what it is
CORRUPTED = {
    "cifar10-c": "CIFAR-10-C: the official files under --data-root, else generated from its CIFAR-10 test set",
    "cifar100-c": "CIFAR-100-C: the official files under --data-root, else generated from its CIFAR-100 test set",
    "samples-c": "the 20 samples, corrupted here",
    "folder-c:PATH": "folder:PATH, corrupted here (likewise DOMAIN-c for every other domain)",
}


@dataclass(frozen=True)
class Publication:
    """What is known of official files: their folder, the md5 of labels.npy, and names of classes without the set."""

    folder: str
    labels_md5: str
    classes: tuple[str, ...]


#: The checksums are those of the files in Zenodo's records 2535967 and 3555552.
OFFICIAL = {
    "cifar10-c": Publication("CIFAR-10-C", "c439b113295ed5254878798ffe28fd54", CIFAR10_CLASSES),
    "cifar100-c": Publication("CIFAR-100-C", "bb4026e9ce52996b95f439544568cdb2",
                              tuple(f"class {i}" for i in range(100))),
}


class CorruptedSet(ABC):
    """Images under several corruptions at severities 1 to 5.

    Attributes:
        name: What the command line calls it.
        title: What the data are, as results must name them.
        official: Whether they are the published files.
        clean: The same images, by the same ids, without corruption; None where they are not at hand.
        corruptions: Names of those that there are, in the order of `framebench.domains.corruptions.NAMES`.
        hint: What to know or do about it, or empty.
    """

    name: str
    title: str
    official: bool
    clean: Domain | None
    corruptions: tuple[str, ...]
    hint: str

    @abstractmethod
    def cell(self, corruption: str, severity: int) -> Domain:
        """Return one corruption at one severity, by the ids of `clean`; pixels are read when asked for.

        Raises:
            InputError: for a corruption or severity that there is not.
        """

    def missing(self, corruptions: Iterable[str], severities: Iterable[int]) -> list[tuple[str, int]]:
        """Return the cells that `generate` would make: none of files."""
        return []

    def generate(self, corruptions: Iterable[str], severities: Iterable[int], *, folder: Path | None = None,
                 progress: Callable[[str, int], None] | None = None, workers: int = 1) -> Path | None:
        """Make the cells that are missing; of files there are none."""
        return None

    def check(self, corruption: str, severity: int) -> None:
        """Refuse a corruption or severity that there is not.

        Raises:
            InputError: saying which there are.
        """
        if corruption not in self.corruptions:
            raise unknown(f"corruption of {self.name}", corruption, self.corruptions)
        if severity not in SEVERITIES:
            raise InputError(f"the severity {severity} does not exist; choose 1 to 5")


class FileSet(CorruptedSet):
    """A set read from files in the official layout: ``<corruption>.npy``, severity s in its s-th fifth."""

    def __init__(self, name: str, folder: Path, clean: Domain | None, in_order: bool) -> None:
        """Map and check the files.

        Args:
            name: "cifar10-c" or "cifar100-c".
            folder: Where the files are.
            clean: The clean test set, if it is at hand.
            in_order: Whether `clean` has the order of the official files, so that other labels mean damage.
        """
        known = OFFICIAL[name]
        labels = read_npy(folder / "labels.npy", (None,), "iu")
        n = len(labels) // len(SEVERITIES)
        if not n or len(labels) % len(SEVERITIES) or (labels.reshape(-1, n) != labels[:n]).any():
            raise InputError(f"{folder / 'labels.npy'} has not the same labels for each of the 5 severities; "
                           "get the set again")
        self.labels = np.array(labels[:n], dtype=np.int64)
        self.files = {corruption: read_npy(folder / f"{corruption}.npy", (len(labels), 32, 32, 3), "B")
                      for corruption in NAMES if (folder / f"{corruption}.npy").is_file()}
        if not self.files:
            raise InputError(f"{folder} has labels.npy but no corruption's array, such as fog.npy; get the set again")
        self.corruptions = tuple(self.files)
        self.name, self.hint, self.clean = name, "", clean
        if clean is None:
            self.hint = f"the gap to clean accuracy needs the clean test set ({name[:-2]}) in the data root"
        elif not np.array_equal(clean.labels, self.labels):
            if in_order:
                raise InputError(f"the labels of {folder} are not those of {clean.title}; get both sets again")
            self.hint = f"{clean.title} has another order, so it does not serve as the clean images of {known.folder}"
            self.clean = None
        self.classes = known.classes if self.clean is None else self.clean.classes
        # Right labels and right sizes are enough to say so; the fetched archive was checked by its md5.
        self.official = file_md5(folder / "labels.npy") == known.labels_md5 and not any(
            (folder / f"{corruption}.npy").stat().st_size - images.nbytes > 128  # numpy's header
            for corruption, images in self.files.items())
        absent = [corruption for corruption in BENCHMARK if corruption not in self.files]
        self.title = f"{known.folder} ({'official files' if self.official else 'files in the official layout'})" + (
            f", partial: without {', '.join(absent)}" if absent else "")

    def cell(self, corruption: str, severity: int) -> Domain:
        """Return one corruption at one severity; an id is the row within it, which is the test set's."""
        self.check(corruption, severity)
        n = len(self.labels)
        return Domain(f"{self.name}/{corruption}/{severity}", f"{self.title}, {corruption} at severity {severity}",
                      self.classes, self.files[corruption][(severity - 1) * n : severity * n], self.labels,
                      self.hint)


def default_corrupted(root: Path | None) -> str:
    """Return the set that a bare command uses: `cifar10-c` where the data root has it or the clean set."""
    there = root is not None and ((root / OFFICIAL["cifar10-c"].folder).is_dir() or has_cifar10(root))
    return "cifar10-c" if there else "samples-c"


def load_corrupted(name: str, root: Path | None = None, *, seed: int = 0) -> CorruptedSet:
    """Load a corrupted set by name; no pixels are read or made.

    Args:
        name: A name of `CORRUPTED`, or another domain's name with ``-c``.
        root: The folder that holds the data sets.
        seed: Seed of the corruptions' draws, where they are made here.

    Raises:
        InputError: for an unknown name, and for data that are missing, incomplete or damaged.
    """
    from framebench.domains.generated import GeneratedSet  # here: it builds on this module

    base, colon, path = name.partition(":")
    if not base.endswith("-c"):
        raise unknown("corrupted set", name, CORRUPTED)
    clean_name = base.removesuffix("-c") + colon + path
    if name not in OFFICIAL:
        return GeneratedSet(name, name, load_domain(clean_name, root), seed)
    label = OFFICIAL[name].folder
    if root is None or not (folder := root / label).is_dir():
        return GeneratedSet(name, label, load_domain(clean_name, root), seed)
    if (folder / MANIFEST).is_file():  # made by `generate` in the official layout
        return GeneratedSet(name, label, load_domain(clean_name, root), seed, folder)
    in_order = name == "cifar100-c" or (root / "cifar-10-batches-py").is_dir()
    there = has_cifar10(root) if name == "cifar10-c" else (root / "cifar-100-python").is_dir()
    return FileSet(name, folder, load_domain(clean_name, root) if there else None, in_order)
