"""Images in one folder per class, decoded once; a user's own folder as a domain."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from framebench.domains.bars import counted
from framebench.domains.base import CIFAR10_CLASSES, Domain
from framebench.errors import InputError
from framebench.files import atomic, cache_folder

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm"}
#: Increased whenever the same files give other arrays, so that older arrays in the cache are not used.
DECODER = 2
#: Other names that the folder of a CIFAR-10 class may have.
SYNONYMS = {"plane": "airplane", "aeroplane": "airplane", "car": "automobile"}
SIZE = 32


def load_folder(path: Path) -> Domain:
    """Load ``<path>/<class>/*`` as images of CIFAR-10's classes; upper and lower case in folder names do not matter.

    Classes may be missing. The EXIF orientation is applied. Images of other sizes are cropped to their central square
    and resized to 32x32. 16-bit grey images are scaled to 8 bits. Ids are positions: sorted by class in CIFAR-10's
    order, then by file name. Other files in a class folder are skipped; the title says how many.

    Raises:
        InputError: if a folder's name is not a class, two folders name the same class, or an image can't be decoded.
    """
    folders = _folders_of_classes(path, CIFAR10_CLASSES, SYNONYMS)
    files = [(file, label) for label, folder in sorted(folders.items()) for file in _images_of(folder)]
    images, sizes = _decoded(path, [file for file, _ in files], resize=True)
    labels = np.array([label for _, label in files], dtype=np.int64)
    missing = [name for label, name in enumerate(CIFAR10_CLASSES) if label not in folders]
    facts = f"{len(labels):,} images, {len(folders)} of 10 classes"
    facts += f"; missing: {', '.join(missing)}" if missing else ""
    resized = sorted({tuple(size) for size in sizes.tolist()} - {(SIZE, SIZE)})
    if resized:
        facts += f"; {int((sizes != SIZE).any(1).sum()):,} resized to {SIZE}x{SIZE} from " + (
            f"{resized[0][1]}x{resized[0][0]}" if len(resized) == 1 else f"{len(resized)} other sizes")
    facts += _skipped(list(folders.values()))
    resolved = path.resolve()
    name = "/".join(resolved.parts[-2:]) if resolved.name in {"test", "train", "val", "valid"} else resolved.name
    return Domain(f"folder:{path}", f"folder {name} ({facts})", CIFAR10_CLASSES, images, labels)


def _folders_of_classes(path: Path, classes: tuple[str, ...], synonyms: Mapping[str, str]) -> dict[int, Path]:
    """Return the folders below `path` by label; all must be named after a class."""
    if not path.is_dir():
        raise InputError(f"{path} is not a folder; folder:PATH needs a folder with one folder of images per class")
    known = f"the classes are {', '.join(classes if len(classes) <= 10 else (*classes[:3], '...', classes[-1]))}"
    found: dict[int, Path] = {}
    strangers = []
    for folder in sorted(entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith(".")):
        name = folder.name.lower()
        name = synonyms.get(name, name)
        if name not in classes:
            strangers.append(folder.name)
        elif (label := classes.index(name)) in found:
            raise InputError(f"{path} has both '{found[label].name}' and '{folder.name}' for the class {name}; "
                           "merge the two folders")
        else:
            found[label] = folder
    if strangers:
        more = f" and {len(strangers) - 5} more" if len(strangers) > 5 else ""
        raise InputError(f"{path} has folders that are not named after a class ({', '.join(strangers[:5])}{more}); "
                         f"remove or rename them; {known}")
    if not found:
        raise InputError(f"{path} contains no folder named after a class; {known}")
    return found


def read_class_folders(root: Path, classes: tuple[str, ...], keep: Callable[[str], bool] | None = None, *,
                       some: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Read ``root/<class>/*`` into arrays, in the order of `classes` and then of file names.

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
    folders = _folders_of_classes(root, classes, {}) if some else dict(enumerate(root / name for name in classes))
    files = [(path, label) for label, folder in sorted(folders.items()) for path in _images_of(folder)
             if keep is None or keep(path.name)]
    images, _ = _decoded(root, [path for path, _ in files], resize=False)
    return images, np.array([label for _, label in files], dtype=np.int64)


def _images_of(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise InputError(f"{folder.parent} has no folder '{folder.name}'; each class needs one")
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not found:
        raise InputError(f"the class folder {folder} holds no images ({', '.join(sorted(SUFFIXES))})")
    return found


def _skipped(folders: Sequence[Path]) -> str:
    """Return, for the title, how many entries of the class folders are not images; hidden ones do not count."""
    entries = [entry for folder in folders for entry in folder.iterdir()
               if entry.suffix.lower() not in SUFFIXES and not entry.name.startswith(".")]
    if not entries:
        return ""
    kinds = sorted({"folders" if entry.is_dir() else entry.suffix or "no suffix" for entry in entries})
    return f"; {len(entries):,} skipped as no image ({', '.join(kinds[:5])}{', ...' if len(kinds) > 5 else ''})"


def _decoded(root: Path, files: Sequence[Path], resize: bool) -> tuple[np.ndarray, np.ndarray]:
    """Decode `files` below `root`, or read the arrays from the cache.

    The key in the cache folder depends on the decoder and on the path, size and modification time of each file.

    Returns:
        images uint8 [n, 32, 32, 3] and their original sizes, int32 [n, 2] (height, width).
    """
    stamps = [f"{path.relative_to(root)}|{s.st_size}|{s.st_mtime_ns}" for path in files for s in [path.stat()]]
    parts = [f"decoder {DECODER}", str(root.resolve()), str(SIZE), str(resize), *stamps]
    key = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]
    kept = [cache_folder() / "decoded" / f"{key}{suffix}.npy" for suffix in ("", "-sizes")]
    try:
        images, sizes = (np.load(path, mmap_mode="r", allow_pickle=False) for path in kept)
        if images.shape == (len(files), SIZE, SIZE, 3) and images.dtype == np.uint8 and sizes.shape == (len(files), 2):
            return images, sizes
    except (OSError, ValueError, EOFError):
        pass  # absent or damaged: decoded below
    images = np.empty((len(files), SIZE, SIZE, 3), dtype=np.uint8)
    sizes = np.empty((len(files), 2), dtype=np.int32)
    with counted(len(files), desc=f"decoding {root.parent.name}/{root.name}", unit="image", least=2000) as done:
        for i, path in enumerate(files):
            images[i], sizes[i] = _decode(path, resize)
            done(1)
    try:
        for path, array in zip(kept, (images, sizes), strict=True):
            with atomic(path) as temporary, open(temporary, "wb") as out:
                np.save(out, array, allow_pickle=False)
    except OSError:
        pass  # without a cache, the next run decodes them again
    return images, sizes


def _decode(path: Path, resize: bool) -> tuple[np.ndarray, tuple[int, int]]:
    try:
        with Image.open(path) as image:
            picture = _eight_bits(_upright(image), image.format).convert("RGB")
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"can't decode the image {path} ({error}); replace or remove it") from None
    width, height = picture.size
    if (width, height) != (SIZE, SIZE):
        if not resize:
            raise InputError(f"the image {path} is {width}x{height}, not {SIZE}x{SIZE}")
        picture = shrink(picture)
    return np.asarray(picture), (height, width)


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except (SyntaxError, struct.error):  # the EXIF data are damaged; damaged pixels are noticed later
        return image


def _eight_bits(picture: Image.Image, kind: str | None) -> Image.Image:
    """Scale a 16-bit grey image to 8 bits; Pillow's own conversion sets all values above 255 to 255.

    Raises:
        ValueError: for 32-bit values, because it is not known which value is white.
    """
    if picture.mode.startswith("I;16") or (picture.mode == "I" and kind in {"PNG", "PPM"}):  # "I" has 16 bits there
        return Image.fromarray(((np.asarray(picture).astype(np.uint32) + 128) // 257).astype(np.uint8))
    if picture.mode in {"I", "F"}:
        raise ValueError("it is not known which of its 32-bit values is white; convert it to 8 bits per channel")
    return picture


def shrink(picture: Image.Image) -> Image.Image:
    """Crop to the central square and resize it to 32x32.

    To reduce an image, each new pixel is the average of the pixels that it covers (PIL's BOX), as in CINIC-10. To
    enlarge an image, interpolation is bilinear, because BOX would repeat pixels.
    """
    width, height = picture.size
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    method = Image.Resampling.BOX if side >= SIZE else Image.Resampling.BILINEAR
    return picture.crop((left, top, left + side, top + side)).resize((SIZE, SIZE), method)
