"""ImageNet-C and Tiny ImageNet-C (Hendrycks & Dietterich 2019, arXiv 1903.12261) from their published files.

The files are JPEG of quality 85, saved after the corruption, and cut to 224 x 224 (64 x 64) before it. They lie in
``<corruption>/<severity>/<wnid>/``, with or without a folder for each of the publisher's archives above, and are
decoded when they are needed. Those of Tiny ImageNet-C were made from ImageNet's validation images, cut to the bounding
box (make_tinyimagenet_c.py). They have file names of Tiny ImageNet's validation images, but are other ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from framebench.classes import imagenet
from framebench.domains.base import Domain
from framebench.domains.corrupted import CorruptedSet
from framebench.domains.corruptions import BENCHMARK, NAMES, SEVERITIES
from framebench.domains.folder import class_folders, files_of, labelled
from framebench.domains.imagefiles import ImageFiles, Resizing, shown
from framebench.domains.layout import Places, located
from framebench.domains.reading import Reading
from framebench.errors import InputError

#: The publisher's archives.
ARCHIVES = ("noise", "blur", "weather", "digital", "extra")


@dataclass(frozen=True)
class PublishedImages:
    """What is known about a set.

    Attributes:
        title: What it is called.
        places: Where it may be.
        side: Height and width of its images.
        classes: Number of classes.
        images: Number of images per cell.
        clean: The domain of the same images without corruption; empty if there is none.
    """

    title: str
    places: Places
    side: int
    classes: int
    images: int
    clean: str = ""


PUBLISHED = {
    "imagenet-c": PublishedImages("ImageNet-C", ("ImageNet-C/", "imagenet-c/"), 224, 1000, 50_000,
                                  clean="imagenet"),
    "tiny-imagenet-c": PublishedImages("Tiny ImageNet-C", ("Tiny-ImageNet-C/", "tiny-imagenet-c/"), 64, 200, 10_000),
}


class ImageSet(CorruptedSet):
    """A set of image files; every cell must have the same ones.

    Ids are those of the clean images if these have the same file names. Otherwise they are positions, by class and then
    by file name.
    """

    official = False  # only the archives have checksums, not the files

    def __init__(self, name: str, folder: Path, clean: Domain | None, reading: Reading) -> None:
        """List the files of one cell.

        Args:
            name: A name of `PUBLISHED`.
            folder: Where the corruptions are.
            clean: The clean validation set, or None.
            reading: How the files are read.

        Raises:
            InputError: if the folder has no corruption, or class folders are missing or have other names.
        """
        self._known = known = PUBLISHED[name]
        usual = Resizing(known.side, known.side)
        self.name = reading.named(name, usual)
        self._rule = reading.rule(usual) if reading.resizes else None
        self._folders = {corruption: found for corruption in NAMES if (found := located(folder, _places(corruption)))}
        self.corruptions = tuple(self._folders)
        cells = [found / str(severity) for found in self._folders.values() for severity in SEVERITIES]
        first = next((path for path in cells if path.is_dir()), None)
        if first is None:
            raise InputError(f"{shown(folder)} has no folder of a corruption and a severity, such as fog/3; get the "
                             "data set again")
        self._wnids = imagenet().wnids if name == "imagenet-c" else tuple(path.name for path in class_folders(first))
        if len(self._wnids) != known.classes:
            raise InputError(f"{shown(first)} has {len(self._wnids)} class folders, not {known.classes}; get the data "
                             "set again")
        self.classes = imagenet().names_of(self._wnids)
        self._first, (self._names, labels) = first, self._listed(first)
        order = None if clean is None else _order(self._names, labels, clean)
        self.clean = None if order is None else clean
        self._order: np.ndarray = np.arange(len(labels)) if order is None else order
        self.labels = labels[self._order]
        self.title, self.hint = self._titled(), ""
        if clean is None and known.clean:
            self.hint = f"to get the gap to clean accuracy, put the clean set ({known.clean}) into the data root"
        elif clean is not None and order is None:
            self.hint = f"{clean.title} has other files than {known.title}, so it can't serve as its clean images"

    def _titled(self) -> str:
        missing = [corruption for corruption in BENCHMARK if corruption not in self.corruptions]
        partial = [f"without {', '.join(missing)}"] if missing else []
        if len(self.labels) != self._known.images:
            partial.insert(0, f"{len(self.labels):,} of {self._known.images:,} images")
        return f"{self._known.title} (files in the official layout)" + (
            f", partial: {'; '.join(partial)}" if partial else "") + (f"; {self._rule}" if self._rule else "")

    def cell(self, corruption: str, severity: int) -> Domain:
        """Return one corruption at one severity.

        Raises:
            InputError: if the set does not have it, or if it lacks files that other cells have.
        """
        self.check(corruption, severity)
        folder = self._folders[corruption] / str(severity)
        if not folder.is_dir():
            raise InputError(f"{shown(folder)} is missing; get the data set again, or leave out this severity")
        names, _ = self._listed(folder)
        if names != self._names:
            raise InputError(f"{shown(folder)} has other files than {shown(self._first)} ({len(names):,} and "
                             f"{len(self._names):,}); get the data set again")
        images = ImageFiles(folder, [names[i] for i in self._order], self._rule, (self._known.side, self._known.side))
        return Domain(f"{self.name}/{corruption}/{severity}", f"{self.title}, {corruption} at severity {severity}",
                      self.classes, images, self.labels, self.hint)

    def _listed(self, folder: Path) -> tuple[list[str], np.ndarray]:
        return files_of(labelled(class_folders(folder), self._wnids))


def _places(corruption: str) -> Places:
    return f"{corruption}/", *(f"{archive}/{corruption}/" for archive in ARCHIVES)


def _order(names: list[str], labels: np.ndarray, clean: Domain) -> np.ndarray | None:
    """Return the positions of the clean images' files, int64 [n], or None if these are not the same ones."""
    if not isinstance(clean.images, ImageFiles) or len(clean.images) != len(names):
        return None
    places = {Path(name).stem: i for i, name in enumerate(names)}
    order = np.array([places.get(Path(name).stem, -1) for name in clean.images.names], dtype=np.int64)
    same = len(places) == len(names) == len(set(order.tolist()) - {-1}) and np.array_equal(labels[order], clean.labels)
    return order if same else None
