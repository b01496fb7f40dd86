"""ImageNet (ILSVRC 2012, Russakovsky et al. 2015, arXiv 1409.0575) and the test sets made for its models.

- ImageNet-V2 (Recht et al. 2019, arXiv 1902.10811): new images, the same 1,000 classes.
- ImageNet-Sketch (Wang et al. 2019, arXiv 1905.13549): drawings, the same 1,000 classes.
- ImageNet-A (Hendrycks et al. 2021, arXiv 1907.07174) and ImageNet-R (arXiv 2006.16241): 200 of the classes each. As
  their authors do, a model of the 1,000 classes chooses among these 200 alone.
- Tiny ImageNet (Le and Yang 2015): 200 of the classes at 64x64, for models of these 200.

Images are resized as torchvision does for most of its models: the shorter side to 256, bilinear, then the central
224x224. A subset of the folders keeps its labels.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from framebench.classes import imagenet
from framebench.domains.base import Domain
from framebench.domains.folder import IMAGENET_SIZE, class_folders, files_of, labelled, read_files
from framebench.domains.imagefiles import Resizing, shown
from framebench.domains.layout import Places, find, titled
from framebench.domains.reading import USUAL, Reading
from framebench.domains.samples import foolbox_images
from framebench.errors import InputError

PLACES: dict[str, Places] = {
    "imagenet": ("imagenet/val/", "ILSVRC2012/val/", "ILSVRC/Data/CLS-LOC/val/"),
    "imagenet-v2": ("imagenetv2-matched-frequency-format-val/", "imagenet-v2/"),
    "imagenet-sketch": ("imagenet-sketch/", "sketch/"),
    "imagenet-a": ("imagenet-a/",),
    "imagenet-r": ("imagenet-r/",),
    "tiny-imagenet": ("tiny-imagenet-200/val/", "tiny-imagenet/val/"),
}
#: The 200 classes of ImageNet-A and of ImageNet-R as indices into the 1,000, as in their authors' and timm's lists.
SUBSETS = {
    "imagenet-a": """
        6 11 13 15 17 22 23 27 30 37 39 42 47 50 57 70 71 76 79 89 90 94 96 97 99 105 107 108 110 113 124 125 130 132
        143 144 150 151 207 234 235 254 277 283 287 291 295 298 301 306 307 308 309 310 311 313 314 315 317 319 323
        324 326 327 330 334 335 336 347 361 363 372 378 386 397 400 401 402 404 407 411 416 417 420 425 428 430 437
        438 445 456 457 461 462 470 472 483 486 488 492 496 514 516 528 530 539 542 543 549 552 557 561 562 569 572
        573 575 579 589 606 607 609 614 626 627 640 641 642 643 658 668 677 682 684 687 701 704 719 736 746 749 752
        758 763 765 768 773 774 776 779 780 786 792 797 802 803 804 813 815 820 823 831 833 835 839 845 847 850 859
        862 870 879 880 888 890 897 900 907 913 924 932 933 934 937 943 945 947 951 954 956 957 959 971 972 980 981
        984 986 987 988""",
    "imagenet-r": """
        1 2 4 6 8 9 11 13 22 23 26 29 31 39 47 63 71 76 79 84 90 94 96 97 99 100 105 107 113 122 125 130 132 144 145
        147 148 150 151 155 160 161 162 163 171 172 178 187 195 199 203 207 208 219 231 232 234 235 242 245 247 250
        251 254 259 260 263 265 267 269 276 277 281 288 289 291 292 293 296 299 301 308 309 310 311 314 315 319 323
        327 330 334 335 337 338 340 341 344 347 353 355 361 362 365 366 367 368 372 388 390 393 397 401 407 413 414
        425 428 430 435 437 441 447 448 457 462 463 469 470 471 472 476 483 487 515 546 555 558 570 579 583 587 593
        594 596 609 613 617 621 629 637 657 658 701 717 724 763 768 774 776 779 780 787 805 812 815 820 824 833 847
        852 866 875 883 889 895 907 928 931 932 933 934 936 937 943 945 947 948 949 951 953 954 957 963 965 967 980
        981 983 988""",
}
_FLAT = re.compile(r"ILSVRC2012_val_\d{8}\.JPEG", re.IGNORECASE)


def load_imagenet(root: Path | None, reading: Reading = USUAL) -> Domain:
    """Load the validation images from ``imagenet/val/<wnid>/*``, or from flat files with a list of their labels.

    The labels of flat files ``ILSVRC2012_val_*.JPEG`` come from ``LOC_val_solution.csv`` or from the devkit's folder
    ``ILSVRC2012_devkit_t12``, in ``val/`` or in one of the folders above it below the data root.

    Raises:
        InputError: if the data are missing or damaged, a folder is not named after a class, or labels are missing.
    """
    folder = find(root, "imagenet", PLACES["imagenet"])
    wnids = imagenet().wnids
    flat = sorted(path.name for path in folder.iterdir() if _FLAT.fullmatch(path.name))
    if not flat:
        return _load("imagenet", "ImageNet validation", folder, reading, [50] * 1000)
    wnid_of = _labels_of_flat_files(folder)
    if missing := [name for name in flat if name.rpartition(".")[0] not in wnid_of]:
        raise InputError(f"the list of labels of {shown(folder)} does not have {missing[0]}; get the list again")
    labels = np.array([wnids.index(wnid_of[name.rpartition(".")[0]]) for name in flat], dtype=np.int64)
    return _built("imagenet", "ImageNet validation", imagenet().names, folder, flat, labels, reading, [50] * 1000)


def load_imagenet_v2(root: Path | None, reading: Reading = USUAL) -> Domain:
    """Load ImageNet-V2 from folders named 0 to 999, the labels; ids are sorted by label, then by file name.

    Raises:
        InputError: if the data are missing or damaged, or a folder's name is no label.
    """
    folder = find(root, "imagenet-v2", PLACES["imagenet-v2"])
    folders = {}
    for entry in class_folders(folder):
        if not re.fullmatch(r"0|[1-9]\d{0,2}", entry.name, re.ASCII):
            raise InputError(f"{shown(folder)} has a folder {entry.name}; ImageNet-V2's are named 0 to 999")
        folders[int(entry.name)] = entry
    version = re.search(r"matched-frequency|threshold-?0\.7|top-?images", folder.resolve().name)
    title = f"ImageNet-V2{f' {version[0]}' if version else ''}"
    return _built("imagenet-v2", title, imagenet().names, folder, *files_of(folders), reading, [10] * 1000)


def load_imagenet_sketch(root: Path | None, reading: Reading = USUAL) -> Domain:
    """Load ImageNet-Sketch from ``imagenet-sketch/<wnid>/*`` or ``sketch/<wnid>/*``."""
    folder = find(root, "imagenet-sketch", PLACES["imagenet-sketch"])
    return _load("imagenet-sketch", "ImageNet-Sketch", folder, reading, 50_889)


def load_imagenet_a(root: Path | None, reading: Reading = USUAL) -> Domain:
    """Load ImageNet-A from ``imagenet-a/<wnid>/*``; labels are those of its 200 classes."""
    return _load("imagenet-a", "ImageNet-A", find(root, "imagenet-a", PLACES["imagenet-a"]), reading, 7_500)


def load_imagenet_r(root: Path | None, reading: Reading = USUAL) -> Domain:
    """Load ImageNet-R from ``imagenet-r/<wnid>/*``; labels are those of its 200 classes."""
    return _load("imagenet-r", "ImageNet-R", find(root, "imagenet-r", PLACES["imagenet-r"]), reading, 30_000)


def load_tiny_imagenet(root: Path | None, reading: Reading = USUAL) -> Domain:
    """Load Tiny ImageNet's validation images, 64x64, from the official ``val/`` or from ``val/<wnid>/*``.

    The classes are those of ``wnids.txt`` beside ``val/`` in the order of their wnids, as torchvision's ImageFolder
    numbers them; without the file, those that occur.

    Raises:
        InputError: if the data are missing or damaged.
    """
    folder = find(root, "tiny-imagenet", PLACES["tiny-imagenet"])
    annotations, listed = folder / "val_annotations.txt", folder.parent / "wnids.txt"
    if annotations.is_file():
        rows = _lines(annotations, "\t")
        pairs = sorted((row[0], row[1]) for row in rows if len(row) >= 2 and "/" not in row[0])
        names, found = [f"images/{name}" for name, _ in pairs], [wnid for _, wnid in pairs]
    else:
        folders = class_folders(folder)
        names, positions = files_of(dict(enumerate(folders)))
        found = [folders[position].name for position in positions]
    wnids = sorted({row[0] for row in _lines(listed, "\t")} if listed.is_file() else set(found))
    label_of = {wnid: label for label, wnid in enumerate(wnids)}
    if strangers := [wnid for wnid in found if wnid not in label_of]:
        raise InputError(f"{shown(folder)} has images of the class {strangers[0]}, which {shown(listed)} does not "
                         "have; get the data set again")
    labels = np.array([label_of[wnid] for wnid in found], dtype=np.int64)
    return _built("tiny-imagenet", "Tiny ImageNet validation", imagenet().names_of(wnids), folder, names, labels,
                  reading, [50] * 200 if len(wnids) == 200 else 10_000, usual=None)


def load_imagenet_samples(_root: Path | None = None, reading: Reading = USUAL) -> Domain:
    """Load the 20 ImageNet images that foolbox ships; the id of an image is its number in foolbox.

    Raises:
        InputError: if foolbox is not installed or contains other images.
    """
    paths = foolbox_images("imagenet_[0-9][0-9]_*.jpg", "ImageNet")
    labels = np.array([int(path.stem.rpartition("_")[2]) for path in paths], dtype=np.int64)
    return _built("imagenet-samples", "ImageNet sample (20 images shipped by foolbox)", imagenet().names,
                  paths[0].parent, [path.name for path in paths], labels, reading, 20)


def _load(name: str, title: str, folder: Path, reading: Reading, published: Sequence[int] | int) -> Domain:
    """Load ``<folder>/<wnid>/*`` with the labels of ImageNet's classes, or of those 200 that the set has."""
    logits = tuple(map(int, SUBSETS[name].split())) if name in SUBSETS else None
    wnids, names = ([entries[label] for label in logits or range(1000)] for entries in imagenet())
    files, labels = files_of(labelled(class_folders(folder), wnids))
    return _built(name, title, tuple(names), folder, files, labels, reading, published, logits=logits)


def _built(name: str, title: str, classes: tuple[str, ...], folder: Path, names: list[str], labels: np.ndarray,
           reading: Reading, published: Sequence[int] | int, *, usual: Resizing | None = IMAGENET_SIZE,
           logits: tuple[int, ...] | None = None) -> Domain:
    images, labels, notes = read_files(folder, names, labels, reading, usual)
    title, present = titled(title, labels, published), len(np.unique(labels))
    title += f", {present} of {len(classes):,} classes" if present < len(classes) else ""
    return Domain(reading.named(name, usual), "; ".join([title, *notes]), classes, images, labels, logits=logits)


def _labels_of_flat_files(folder: Path) -> Mapping[str, str]:
    """Return the wnid of each validation image by its name without suffix."""
    for place in [folder, *list(folder.parents)[:4]]:
        solution, devkit = place / "LOC_val_solution.csv", place / "ILSVRC2012_devkit_t12" / "data"
        if solution.is_file():
            return {row[0]: _known(row[1].split()[0], solution) for row in _lines(solution, ",")[1:]
                    if len(row) == 2 and row[1].strip()}
        if devkit.is_dir():
            numbers = _lines(devkit / "ILSVRC2012_validation_ground_truth.txt", " ")
            wnid_of = _synsets(devkit / "meta.mat")
            return {f"ILSVRC2012_val_{i:08}": _known(wnid_of.get(row[0], row[0]), devkit)
                    for i, row in enumerate(numbers, 1)}
    raise InputError(f"{shown(folder)} has images without class folders, and their labels are missing: put "
                     "LOC_val_solution.csv or the devkit's folder ILSVRC2012_devkit_t12 beside it, or sort the images "
                     "into folders by wnid")


def _known(wnid: str, where: Path) -> str:
    if wnid not in imagenet().wnids:
        raise InputError(f"{shown(where)} names {wnid!r}, which is not a class of ImageNet; get it again")
    return wnid


def _synsets(path: Path) -> dict[str, str]:
    """Read which wnid each number of the devkit means; the devkit's numbers are in an order of their own."""
    from scipy.io import loadmat  # here: all commands import this module, few read the devkit

    try:
        synsets = loadmat(path, variable_names=["synsets"], squeeze_me=True)["synsets"]  # it can't run code
        return {str(int(number)): str(wnid) for number, wnid in zip(synsets["ILSVRC2012_ID"], synsets["WNID"],
                                                                     strict=True)}
    except Exception as error:  # a damaged file raises nearly anything
        raise InputError(f"{shown(path)} can't be read ({' '.join(str(error).split())}); get the devkit "
                         "again") from None


def _lines(path: Path, delimiter: str) -> list[list[str]]:
    try:
        with open(path, encoding="utf-8", newline="") as file:
            rows = [row for row in csv.reader(file, delimiter=delimiter) if row]
        if any("\0" in cell for row in rows for cell in row):  # which Python 3.10 says itself
            raise csv.Error("line contains NUL")
        return rows
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{shown(path)} can't be read ({error}); get the data set again") from None
