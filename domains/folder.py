"""Class-per-folder trees of images, decoded once."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

from framebench.errors import InputError
from framebench.files import atomic, cache_folder

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp"}


def read_class_folders(root: Path, classes: tuple[str, ...], size: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """Read ``root/<class>/*`` into arrays, in the order of `classes` and then of file names.

    The decoded arrays are kept in the cache folder, keyed by every file's path, size and modification time.

    Args:
        root: The folder that holds one folder a class.
        classes: Class names; the label of an image is the index of its folder's name.
        size: Height and width that every image must have.

    Returns:
        images uint8 [n, size, size, 3] and labels int64 [n].

    Raises:
        InputError: if a class has no folder or no image, or an image can't be decoded or has another size.
    """
    files = [(path, label) for label, name in enumerate(classes) for path in _images_of(root / name)]
    stamps = [f"{path.relative_to(root)}|{s.st_size}|{s.st_mtime_ns}" for path, _ in files for s in [path.stat()]]
    key = hashlib.sha256("\n".join([str(root.resolve()), str(size), *stamps]).encode()).hexdigest()[:32]
    cached = cache_folder() / "decoded" / f"{key}.npy"
    labels = np.array([label for _, label in files], dtype=np.int64)
    if cached.is_file():
        try:
            images = np.load(cached, mmap_mode="r", allow_pickle=False)
            if images.shape == (len(files), size, size, 3) and images.dtype == np.uint8:
                return images, labels
        except (OSError, ValueError, EOFError):
            pass  # a damaged cache file is decoded anew below
    images = np.empty((len(files), size, size, 3), dtype=np.uint8)
    for i, (path, _) in enumerate(tqdm(files, desc=f"decoding {root.parent.name}/{root.name}", unit="image",
                                       disable=len(files) < 2000, leave=False)):
        images[i] = _decode(path, size)
    try:
        with atomic(cached) as temporary, open(temporary, "wb") as out:
            np.save(out, images, allow_pickle=False)
    except OSError:
        pass  # without a cache the next run decodes again; nothing else is lost
    return images, labels


def _images_of(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise InputError(f"{folder.parent} has no folder '{folder.name}'; every class needs one")
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not found:
        raise InputError(f"the class folder {folder} holds no image ({', '.join(sorted(SUFFIXES))})")
    return found


def _decode(path: Path, size: int) -> np.ndarray:
    try:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        raise InputError(f"can't decode the image {path} ({error}); replace or remove it") from None
    if pixels.shape != (size, size, 3):
        raise InputError(f"the image {path} is {pixels.shape[1]}x{pixels.shape[0]}, not {size}x{size}")
    return pixels
