"""Corrupted sets: the published ones from their files if the data root has them, all others generated.

>>> corrupted = load_corrupted("cifar10-c", root)
>>> x, y = corrupted.cell("fog", 3).load([0, 1, 2])
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from framebench.classes import CIFAR10, CIFAR100
from framebench.domains import USUAL, Reading, cifar, load_domain
from framebench.domains.arrays import read_npy
from framebench.domains.base import Domain
from framebench.domains.cells import MANIFEST
from framebench.domains.corruptions import BENCHMARK, NAMES, SEVERITIES
from framebench.domains.layout import Places, file_md5, folder_of, located
from framebench.errors import InputError, MissingDataError, unknown

#: name -> description
CORRUPTED = {
    "cifar10-c": "CIFAR-10-C: the official files under --data-root, else generated from the CIFAR-10 test set there",
    "cifar100-c": "CIFAR-100-C: the official files under --data-root, else generated from the CIFAR-100 test set there",
    "imagenet-c": "ImageNet-C: the published files under --data-root, else generated from the ImageNet images there",
    "tiny-imagenet-c": "Tiny ImageNet-C: the published files under --data-root, else generated from the clean ones",
    "samples-c": "the 20 samples, corrupted by this benchmark",
    "folder-c:PATH": "folder:PATH, corrupted by this benchmark (DOMAIN-c works for every other domain too)",
}


@dataclass(frozen=True)
class Publication:
    """What is known about official files: where they may be, the md5 of labels.npy, and the names of the classes."""

    places: Places
    labels_md5: str
    classes: tuple[str, ...]

    @property
    def title(self) -> str:
        """The name of the set, which is also that of its folder."""
        return folder_of(self.places)


#: The checksums are those of the files in the Zenodo records 2535967 and 3555552.
OFFICIAL = {
    "cifar10-c": Publication(("CIFAR-10-C/", "cifar10-c/"), "c439b113295ed5254878798ffe28fd54", CIFAR10),
    "cifar100-c": Publication(("CIFAR-100-C/", "cifar100-c/"), "bb4026e9ce52996b95f439544568cdb2",
                              CIFAR100),
}


class CorruptedSet(ABC):
    """Images under several corruptions at severities 1 to 5.

    Attributes:
        name: Its name on the command line.
        title: What the data are, in the words that results use.
        official: Whether they are the published files.
        clean: The same images without corruption, with the same ids; None if they are not available.
        corruptions: The corruptions that it has, in the order of `framebench.domains.corruptions.NAMES`.
        hint: Advice for the user; may be empty.
    """

    name: str
    title: str
    official: bool
    clean: Domain | None
    corruptions: tuple[str, ...]
    hint: str

    @abstractmethod
    def cell(self, corruption: str, severity: int) -> Domain:
        """Return one corruption at one severity, with the ids of `clean`; pixels are read when they are needed.

        Raises:
            InputError: for a corruption or severity that the set does not have.
        """

    def missing(self, corruptions: Iterable[str], severities: Iterable[int]) -> list[tuple[str, int]]:
        """Return the cells that `generate` would make; a set of files needs none."""
        return []

    def generate(self, corruptions: Iterable[str], severities: Iterable[int], *,
                 progress: Callable[[str, int], None] | None = None, workers: int = 1) -> Path | None:
        """Make the missing cells; a set of files has none."""
        return None

    def check(self, corruption: str, severity: int) -> None:
        """Refuse a corruption or severity that the set does not have.

        Raises:
            InputError: naming those that it has.
        """
        if corruption not in self.corruptions:
            raise unknown(f"corruption of {self.name}", corruption, self.corruptions)
        if severity not in SEVERITIES:
            raise InputError(f"the severity {severity} does not exist; choose 1 to 5")


class FileSet(CorruptedSet):
    """A set read from files in the official layout: the s-th fifth of ``<corruption>.npy`` has severity s."""

    def __init__(self, name: str, folder: Path, clean: Domain | None, in_order: bool) -> None:
        """Map and check the files.

        Args:
            name: "cifar10-c" or "cifar100-c".
            folder: Where the files are.
            clean: The clean test set, or None.
            in_order: Whether `clean` is in the order of the official files; if so, differing labels are an error.
        """
        known = OFFICIAL[name]
        labels = read_npy(folder / "labels.npy", (None,), "iu")
        n = len(labels) // len(SEVERITIES)
        if not n or len(labels) % len(SEVERITIES) or (labels.reshape(-1, n) != labels[:n]).any():
            raise InputError(f"{folder / 'labels.npy'} does not repeat the same labels for each of the 5 severities; "
                             "get the data set again")
        self.labels = np.array(labels[:n], dtype=np.int64)
        self.files = {corruption: read_npy(folder / f"{corruption}.npy", (len(labels), 32, 32, 3), "B")
                      for corruption in NAMES if (folder / f"{corruption}.npy").is_file()}
        if not self.files:
            raise InputError(f"{folder} has labels.npy but no array of a corruption, such as fog.npy; get the data set "
                             "again")
        self.corruptions = tuple(self.files)
        self.name, self.hint, self.clean = name, "", clean
        if clean is None:
            self.hint = f"to get the gap to clean accuracy, put the clean test set ({name[:-2]}) into the data root"
        elif not np.array_equal(clean.labels, self.labels):
            if in_order:
                raise InputError(f"the labels of {folder} are not those of {clean.title}; get both data sets again")
            self.hint = f"{clean.title} has another order than {known.title}, so it can't serve as its clean images"
            self.clean = None
        self.classes = known.classes
        # Correct labels and sizes are enough here; `fetch` compares the md5 of the whole archive.
        self.official = file_md5(folder / "labels.npy") == known.labels_md5 and not any(
            (folder / f"{corruption}.npy").stat().st_size - images.nbytes > 128  # numpy's header
            for corruption, images in self.files.items())
        absent = [corruption for corruption in BENCHMARK if corruption not in self.files]
        self.title = f"{known.title} ({'official files' if self.official else 'files in the official layout'})" + (
            f", partial: without {', '.join(absent)}" if absent else "")

    def cell(self, corruption: str, severity: int) -> Domain:
        """Return one corruption at one severity; ids are rows of the test set."""
        self.check(corruption, severity)
        n = len(self.labels)
        return Domain(f"{self.name}/{corruption}/{severity}", f"{self.title}, {corruption} at severity {severity}",
                      self.classes, self.files[corruption][(severity - 1) * n : severity * n], self.labels,
                      self.hint)


def default_corrupted(root: Path | None) -> str:
    """Return the set that is used by default: `cifar10-c` if the data root has it or CIFAR-10, else `samples-c`."""
    there = located(root, OFFICIAL["cifar10-c"].places) is not None or cifar.has_cifar10(root)
    return "cifar10-c" if there else "samples-c"


def load_corrupted(name: str, root: Path | None = None, *, seed: int = 0, reading: Reading = USUAL) -> CorruptedSet:
    """Load a corrupted set by name; no pixels are read or made yet.

    Args:
        name: A name of `CORRUPTED`, or another domain's name with ``-c``.
        root: The folder that holds the data sets.
        seed: Seed of the random draws, for sets that are generated.
        reading: How the image files of the clean images are read.

    Raises:
        InputError: for an unknown name, and for data that are missing, incomplete or damaged.
    """
    from framebench.domains.generated import GeneratedSet  # here: they build on this module
    from framebench.domains.imagenet_c import PUBLISHED, ImageSet

    base, colon, path = name.partition(":")
    if not base.endswith("-c"):
        raise unknown("corrupted set", name, CORRUPTED)
    clean_name = base.removesuffix("-c") + colon + path
    if name in PUBLISHED:
        known = PUBLISHED[name]
        if (folder := located(root, known.places)) is None:
            return GeneratedSet(name, known.title, load_domain(clean_name, root, reading), seed)
        try:
            same = load_domain(known.clean, root, reading) if known.clean else None
        except MissingDataError:
            same = None
        return ImageSet(name, folder, same, reading)
    if name not in OFFICIAL:
        return GeneratedSet(name, name, load_domain(clean_name, root, reading), seed)
    folder = located(root, OFFICIAL[name].places)
    if folder is None or (folder / MANIFEST).is_file():  # a manifest: a copy of generated files, not the official ones
        return GeneratedSet(name, OFFICIAL[name].title, load_domain(clean_name, root, reading), seed, folder)
    clean = located(root, cifar.PLACES[clean_name], split="test")
    if clean is None:
        return FileSet(name, folder, None, in_order=False)
    return FileSet(name, folder, load_domain(clean_name, root, reading), in_order=not cifar.in_class_folders(clean))
