"""Images in one folder per class: a user's own folder as a domain, and small published images as arrays."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from framebench.classes import CIFAR10, CIFAR100, imagenet
from framebench.domains.bars import counted
from framebench.domains.base import Domain
from framebench.domains.imagefiles import DECODER, SUFFIXES, ImageFiles, Resizing, broken_files, decode, shown, sizes_of
from framebench.domains.reading import USUAL, Reading
from framebench.errors import InputError
from framebench.files import cache_folder, is_sealed, seal

#: The file in a user's folder that lists its classes, one per line, in the order of the model's logits.
CLASS_LIST = "classes.txt"
#: Names of the folders that hold the parts of a data set.
PARTS = ("train", "test", "val", "valid")
#: Other names that the folder of a CIFAR-10 class may have.
SYNONYMS = {"plane": "airplane", "aeroplane": "airplane", "car": "automobile"}
#: How images of another size become CIFAR's: each pixel is the average of those that it covers, as in CINIC-10.
CIFAR_SIZE = Resizing(32, 32, "box")
#: How torchvision evaluates most of its ImageNet models, and RobustBench its.
IMAGENET_SIZE = Resizing(256, 224)


def load_folder(path: Path, reading: Reading = USUAL) -> Domain:
    """Load ``<path>/<class>/*`` as images of any classes.

    The classes are those of ``<path>/classes.txt``, one per line in the order of the labels (for a part of a data set,
    such as ``photos/test``, also of ``photos/classes.txt``); else those of a model of the call that tells them; else
    those of CIFAR-10, CIFAR-100 or ImageNet, if all folders are named after them and the model has as many logits; else
    the folders' names in their order. Of a list, folders may be missing.

    Images of CIFAR-10's classes are resized to 32x32 and those of ImageNet's to 224x224; others keep their size, which
    must be one for all, unless `reading` asks for one. Ids are positions: sorted by label, then by file name. Other
    files in a class folder are skipped; the title says how many.

    Args:
        path: The folder.
        reading: How the files are read.

    Raises:
        InputError: if there are no images, a folder's name is not a class, two folders name the same class, or a file
            is no image.
    """
    name = shown(path)
    classes, folders = _classes_and_folders(path, reading)
    names, labels = files_of(folders)
    usual = CIFAR_SIZE if classes == CIFAR10 else IMAGENET_SIZE if classes == imagenet().names else None
    images, labels, notes = read_files(path, names, labels, reading, usual)
    missing = [name for label, name in enumerate(classes) if label not in folders]
    facts = f"{len(labels):,} images, {len(folders):,} of {len(classes):,} classes"
    facts += f"; missing: {_few(missing, 10)}" if missing else ""
    facts = "; ".join([facts, *notes, *_skipped(folders.values())])
    resolved = path.resolve()
    called = "/".join(resolved.parts[-2:]) if resolved.name in PARTS else resolved.name
    return Domain(reading.named(f"folder:{name}", usual), f"folder {shown(called)} ({facts})", classes, images, labels)


def read_files(root: Path, names: list[str], labels: np.ndarray, reading: Reading,
               usual: Resizing | None) -> tuple[ImageFiles, np.ndarray, list[str]]:
    """Return files as images of one size.

    Args:
        root: The folder that they are in.
        names: Their paths below it.
        labels: Their labels, int64 [n].
        reading: How they are read.
        usual: How they are resized unless asked otherwise; None to keep their size.

    Returns:
        The images, the labels of those that are not left out, and notes for the title.

    Raises:
        InputError: if a file is no image, or if sizes differ and no size is asked for.
    """
    notes = []
    if reading.skip_broken and (broken := set(broken_files(root, names))):
        kept = [i for i, name in enumerate(names) if name not in broken]
        names, labels = [names[i] for i in kept], labels[kept]
        notes.append(f"{len(broken):,} broken images left out")
    if not names:
        raise InputError(f"{shown(root)} has no images{' that can be decoded' if notes else ''}; each class needs a "
                         "folder of them")
    rule = reading.rule(usual)
    if rule is not None and (reading.resizes or usual is not CIFAR_SIZE):
        return ImageFiles(root, names, rule), labels, [str(rule), *notes]
    sizes = sizes_of(root, names)
    if rule is not None:  # CIFAR's: said only of images that it changes
        other = {size: count for size, count in sizes.items() if size != (rule.size, rule.size)}
        if other:
            height, width = next(iter(other))
            notes.insert(0, f"{sum(other.values()):,} resized to {rule.size}x{rule.size} from " + (
                f"{width}x{height}" if len(other) == 1 else f"{len(other)} other sizes"))
        return ImageFiles(root, names, rule), labels, notes
    if len(sizes) > 1:
        shapes = [f"{width}x{height}" for height, width in sorted(sizes)]
        raise InputError(f"the images in {shown(root)} have {len(sizes):,} sizes ({_few(shapes, 3)}); give "
                         "--image-size, the height and width that the model takes")
    (size,) = sizes
    return ImageFiles(root, names, None, size), labels, [f"{size[1]}x{size[0]}", *notes]


def _classes_and_folders(path: Path, reading: Reading) -> tuple[tuple[str, ...], dict[int, Path]]:
    """Return the classes of a user's folder, and its class folders by label."""
    folders = class_folders(path)
    if not folders:
        raise InputError(f"{shown(path)} contains no folder of images; folder:PATH needs one per class")
    resolved = path.resolve()
    for listed in (path / CLASS_LIST, *([resolved.parent / CLASS_LIST] if resolved.name in PARTS else [])):
        if os.path.lexists(listed):
            classes = read_class_list(listed)
            return classes, labelled(folders, classes)
    nearest = max(reading.classes, key=lambda classes: sum(_named_after(folders, classes)), default=None)
    if nearest is not None and any(_named_after(folders, nearest)):
        return nearest, labelled(folders, nearest)
    for classes in (CIFAR10, CIFAR100, imagenet().names):
        if len(classes) == reading.logits and all(_named_after(folders, classes)):
            return classes, labelled(folders, classes)
    classes = tuple(folder.name for folder in folders)
    return classes, dict(enumerate(folders))


def _named_after(folders: Iterable[Path], classes: tuple[str, ...]) -> list[bool]:
    names = _names_of(classes)
    return [_label(folder, names) is not None for folder in folders]


def read_class_list(path: Path) -> tuple[str, ...]:
    """Read a list of classes, one per line.

    Raises:
        InputError: if it is no such file, or names a class twice.
    """
    try:
        if not path.is_file():
            raise OSError(0, "it is not a file")
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise InputError(f"can't read the class list {shown(path)} ({reason}); write one class per line") from None
    classes = tuple(line.strip() for line in lines if line.strip())
    if not classes or len(set(classes)) < len(classes):
        twice = next((name for i, name in enumerate(classes) if name in classes[:i]), None)
        raise InputError(f"the class list {shown(path)} " + (f"names {twice} twice" if twice else "is empty") +
                         "; write one class per line, in the order of the model's logits")
    return classes


def class_folders(path: Path) -> list[Path]:
    """Return the folders in a folder in the order of their names, without hidden ones.

    Raises:
        InputError: if it is not a folder, or a name is not UTF-8: classes are stored and shown by it.
    """
    if not path.is_dir():
        raise InputError(f"{shown(path)} is not a folder; it must have one folder of images per class")
    folders = sorted(entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    for folder in folders:
        if shown(folder.name) != folder.name:
            raise InputError(f"the name of the folder {shown(folder)} is not UTF-8; rename it")
    return folders


def _names_of(classes: Sequence[str]) -> dict[str, int]:
    """Return what the folder of a class may be called -> its label."""
    names = {name.lower(): label for label, name in enumerate(classes)}
    if tuple(classes) == imagenet().names:
        names |= {wnid: label for label, wnid in enumerate(imagenet().wnids)}
    if tuple(classes) == CIFAR10:
        names |= {other: names[name] for other, name in SYNONYMS.items()}
    return names | {name: label for label, name in enumerate(classes)}


def _label(folder: Path, names: Mapping[str, int]) -> int | None:
    return names.get(folder.name, names.get(folder.name.lower()))


def labelled(folders: Iterable[Path], classes: Sequence[str]) -> dict[int, Path]:
    """Return folders by label; upper and lower case do not matter where no class differs by them alone.

    Raises:
        InputError: if a folder's name is not a class, or two folders name the same class.
    """
    names, found, strangers = _names_of(classes), dict[int, Path](), []
    for folder in folders:
        label = _label(folder, names)
        if label is None:
            strangers.append(folder)
        elif label in found:
            raise InputError(f"{shown(folder.parent)} has both '{found[label].name}' and '{folder.name}' for the class "
                             f"{classes[label]}; merge the two folders")
        else:
            found[label] = folder
    known = f"the {len(classes):,} classes are {_few(classes, 10)}"
    if strangers:
        raise InputError(f"{shown(strangers[0].parent)} has folders that are not named after a class "
                         f"({_few([folder.name for folder in strangers], 5)}); remove or rename them; {known}")
    return dict(sorted(found.items()))


def files_of(folders: Mapping[int, Path], keep: Callable[[str], bool] | None = None) -> tuple[list[str], np.ndarray]:
    """List the images of class folders that lie in one folder.

    Args:
        folders: Folders by label.
        keep: Takes a file name and returns whether the file counts (default: all).

    Returns:
        Paths below the folder that the class folders lie in, and labels int64 [n]; sorted by label, then by file name.

    Raises:
        InputError: if a class folder is missing or has no images.
    """
    names, labels = list[str](), list[int]()
    for label, folder in sorted(folders.items()):
        if not folder.is_dir():
            raise InputError(f"{shown(folder.parent)} has no folder '{folder.name}'; each class needs one")
        images = sorted(name for name in os.listdir(folder) if Path(name).suffix.lower() in SUFFIXES)
        if not images:
            raise InputError(f"the class folder {shown(folder)} holds no images ({', '.join(sorted(SUFFIXES))})")
        kept = [f"{folder.name}/{name}" for name in images if keep is None or keep(name)]
        names += kept
        labels += [label] * len(kept)
    return names, np.array(labels, dtype=np.int64)


def _skipped(folders: Iterable[Path]) -> list[str]:
    """Return, for the title, how many entries of the class folders are not images; hidden ones do not count."""
    entries = [entry for folder in folders for entry in folder.iterdir()
               if entry.suffix.lower() not in SUFFIXES and not entry.name.startswith(".")]
    if not entries:
        return []
    kinds = sorted({"folders" if entry.is_dir() else shown(entry.suffix) or "no suffix" for entry in entries})
    return [f"{len(entries):,} skipped as no image ({', '.join(kinds[:5])}{', ...' if len(kinds) > 5 else ''})"]


def _few(names: Sequence[str], most: int) -> str:
    """Return names as a list that is not long."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def read_class_folders(root: Path, classes: tuple[str, ...], keep: Callable[[str], bool] | None = None, *,
                       some: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Read 32x32 images ``root/<class>/*`` into arrays, in the order of `classes` and then of file names.

    Args:
        root: The folder that contains one folder per class.
        classes: Class names; the label of an image is the index of its folder's name.
        keep: Takes a file name and returns whether the file is read (default: all files).
        some: Whether folders of classes may be missing; then a folder with any other name is an error.

    Returns:
        images uint8 [n, 32, 32, 3] and labels int64 [n].

    Raises:
        InputError: if a class has no folder or no images, or an image can't be decoded or is not 32x32.
    """
    names, labels = files_of(labelled(class_folders(root), classes) if some else
                             dict(enumerate(root / name for name in classes)), keep)
    if some and not names:
        raise InputError(f"{shown(root)} contains no folder named after a class, such as {_few(classes, 3)}")
    return _decoded(root, names), labels


def _decoded(root: Path, names: Sequence[str]) -> np.ndarray:
    """Decode 32x32 images below `root` into uint8 [n, 32, 32, 3], or map the array in the cache.

    The key in the cache folder depends on the decoder and on the path, size and modification time of each file.
    """
    stamps = [f"{name}|{s.st_size}|{s.st_mtime_ns}" for name in names for s in [(root / name).stat()]]
    parts = [f"decoder {DECODER}", str(root.resolve()), *stamps]
    cache, stem = cache_folder() / "decoded", hashlib.sha256(os.fsencode(chr(10).join(parts))).hexdigest()[:32]
    for kept in cache.glob(f"{stem}-*.npy"):
        try:
            if is_sealed(kept):  # else damaged: decoded below
                known: np.ndarray = np.load(kept, mmap_mode="r", allow_pickle=False)
                return known
        except (OSError, ValueError):
            continue
    images = np.empty((len(names), 32, 32, 3), dtype=np.uint8)
    with counted(len(names), desc=f"decoding {root.parent.name}/{root.name}", unit="image", least=2000) as done:
        for i, name in enumerate(names):
            picture = decode(root / name)
            if picture.size != (32, 32):
                raise InputError(f"the image {shown(root / name)} is {picture.width}x{picture.height}, not 32x32")
            images[i] = np.asarray(picture)
            done(1)
    try:
        content = io.BytesIO()
        np.save(content, images, allow_pickle=False)
        seal(cache, stem, ".npy", content.getbuffer())
    except OSError:
        pass  # without a cache, the next run decodes them again
    return images
