"""Image files as an array of which only the images that are asked for are decoded.

Files are decoded as torchvision's datasets decode them: by Pillow, ``convert("RGB")``, without the orientation that
EXIF data may name. The one difference is that 16-bit greys are scaled to 8 bits, where Pillow sets what is above 255 to
255.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image, UnidentifiedImageError

from framebench.domains.bars import counted
from framebench.errors import InputError, unknown
from framebench.files import cache_folder, file_digest, regular, seal, unseal

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm"}
#: The formats that are decoded, whatever a file's suffix is. Others, such as EPS, start other programs.
FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "TIFF", "PPM")
#: Increased whenever the same files give other pixels.
DECODER = 3
#: What to do about a broken file where the others can do without it.
SKIP = ", or leave out all broken images with --skip-broken"
INTERPOLATIONS = ("bilinear", "bicubic", "nearest", "lanczos", "box")

T = TypeVar("T")


@dataclass(frozen=True)
class Resizing:
    """How images of any size become squares of one size, pixel for pixel as torchvision does it for Pillow's images.

    Attributes:
        resize: The shorter side after ``Resize``, at least `size`.
        size: Height and width after ``CenterCrop``.
        interpolation: One of `INTERPOLATIONS`; Pillow widens the filter where it reduces (antialiasing). "box" averages
            where it reduces, and is bilinear where it enlarges, since it would repeat pixels.
    """

    resize: int
    size: int
    interpolation: str = "bilinear"

    def __post_init__(self) -> None:
        if self.interpolation not in INTERPOLATIONS:
            raise unknown("interpolation", self.interpolation, INTERPOLATIONS)
        if self.size < 1 or self.resize < self.size:
            raise InputError(f"images can't be cut to {self.size}x{self.size} after their shorter side is resized to "
                             f"{self.resize}; --resize must be at least --image-size")

    def __str__(self) -> str:
        return f"shorter side resized to {self.resize} ({self.interpolation}), central {self.size}x{self.size}"

    def __call__(self, picture: Image.Image) -> Image.Image:
        """Return a picture of `size`."""
        width, height = picture.size
        short, long = min(width, height), max(width, height)
        if short != self.resize:
            method = "bilinear" if self.interpolation == "box" and short < self.resize else self.interpolation
            sides = self.resize, int(self.resize * long / short)
            width, height = sides if width <= height else sides[::-1]
            picture = picture.resize((width, height), Image.Resampling[method.upper()])
        left, top = round((width - self.size) / 2), round((height - self.size) / 2)
        return picture.crop((left, top, left + self.size, top + self.size))


class ImageFiles:
    """Files as a read-only array, uint8 [n, H, W, 3].

    Args:
        root: The folder that they are in.
        names: Their paths below it.
        rule: How they are resized; None where all are of one size.
        size: That size (height, width), with which a file must agree; not with a rule.

    Raises:
        InputError: if a file is missing; when an image is decoded, if it can't be.
    """

    dtype = np.dtype(np.uint8)
    ndim = 4

    def __init__(self, root: Path, names: Sequence[str], rule: Resizing | None, size: tuple[int, int] = (0, 0)) -> None:
        self.root, self.names, self.rule = root, tuple(names), rule
        self.shape = (len(self.names), *(size if rule is None else (rule.size, rule.size)), 3)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, ids: Any) -> np.ndarray:
        """Decode one image [H, W, 3], or those of a slice or of an integer array as [n, H, W, 3]."""
        chosen = np.arange(len(self))[ids]
        if chosen.ndim == 0:
            return self._decoded(int(chosen))
        images = np.empty((len(chosen), *self.shape[1:]), dtype=np.uint8)

        def fill(k: int) -> None:
            images[k] = self._decoded(int(chosen[k]))
        together(fill, range(len(chosen)))
        return images

    def _decoded(self, i: int) -> np.ndarray:
        path = self.root / self.names[i]
        pixels = np.asarray(decode(path, self.rule, SKIP))
        if pixels.shape != self.shape[1:]:
            raise InputError(f"the image {shown(path)} is {pixels.shape[1]}x{pixels.shape[0]}, not "
                             f"{self.shape[2]}x{self.shape[1]}; did it change?")
        return pixels

    @cached_property
    def digest(self) -> str:
        """sha256 of the bytes of all files, in order, and of how they are decoded.

        What was read from files is kept in the cache, and is used while their sizes and times of change stay the same.
        """
        def read() -> str:
            with counted(len(self), desc=f"reading {shown(self.root)}", unit="image", least=5000) as done:
                def one(name: str) -> str:
                    try:
                        found = file_digest(regular(self.root / name), "sha256")
                    except OSError as error:
                        raise unreadable(self.root / name, error, SKIP) from None
                    done(1)
                    return found
                return hashlib.sha256("\n".join(together(one, self.names)).encode()).hexdigest()
        content = remembered(self.root, self.names, "sha256", read)
        return hashlib.sha256(f"decoder {DECODER}, {self.rule or 'as they are'}, {content}".encode()).hexdigest()


def decode(path: Path, rule: Resizing | None = None, advice: str = "") -> Image.Image:
    """Decode a file into an RGB picture, resized by a rule.

    Args:
        path: The file.
        rule: How it is resized; None for its own size.
        advice: What the error says besides, of a file that can't be decoded.

    Raises:
        InputError: if it is no regular file, is damaged, claims to be far too large, or has none of `FORMATS`.
    """
    try:
        with _opened(path) as image:
            image.load()
            image.info.pop("transparency", None)  # Pillow warns of some kinds; none changes a pixel
            picture = _eight_bits(image, image.format).convert("RGB")
    except Exception as error:  # a damaged file raises nearly anything
        raise unreadable(path, error, advice) from None
    return picture if rule is None else rule(picture)


def broken_files(root: Path, names: Sequence[str]) -> list[str]:
    """Decode all files below `root`, and return the names of those that can't be."""
    def find() -> list[str]:
        with counted(len(names), desc="looking for broken images", unit="image", least=2000) as done:
            def broken(name: str) -> bool:
                try:
                    decode(root / name)
                except InputError:
                    return True
                finally:
                    done(1)
                return False
            return [os.fsencode(name).hex() for name, bad in zip(names, together(broken, names), strict=True) if bad]
    return [os.fsdecode(bytes.fromhex(name)) for name in remembered(root, names, f"broken-{DECODER}", find)]


def sizes_of(root: Path, names: Sequence[str]) -> Counter[tuple[int, int]]:
    """Return how many files have which height and width; nothing but their heads is read.

    Raises:
        InputError: for a file that is no image.
    """
    def measure() -> list[list[int]]:
        def one(name: str) -> tuple[int, int]:
            try:
                with _opened(root / name) as image:
                    return image.height, image.width
            except Exception as error:
                raise unreadable(root / name, error, SKIP) from None
        return [[*size, count] for size, count in sorted(Counter(together(one, names)).items())]
    return Counter({(height, width): count for height, width, count in remembered(root, names, "sizes", measure)})


def remembered(root: Path, names: Sequence[str], what: str, make: Callable[[], T]) -> T:
    """Return something that was found out about files, from the cache if none has changed since.

    Args:
        root: The folder that they are in.
        names: Their paths below it.
        what: What was found out.
        make: Finds it out; it must be JSON.
    """
    key = hashlib.sha256(f"{what}|".encode() + os.fsencode(root.resolve()))
    for name in names:
        key.update(os.fsencode(f"\0{name}|{_stamp(root / name)}"))
    folder, stem = cache_folder() / "files", f"{what}-{key.hexdigest()[:32]}"
    for path in folder.glob(f"{stem}-*.json"):
        try:
            found: T = json.loads(unseal(path))
            return found
        except InputError:  # damaged: found out again
            continue
    found = make()
    try:
        seal(folder, stem, ".json", json.dumps(found).encode())
    except OSError:
        pass  # without a cache, the next run finds it out again
    return found


def together(function: Callable[[Any], T], values: Iterable[Any]) -> list[T]:
    """Map a function that decodes or reads a file, in one thread per core; Pillow lets others run while it decodes."""
    values = list(values)
    return list(map(function, values) if len(values) < 2 or _cores() == 1 else _pool().map(function, values))


def shown(path: Path | str) -> str:
    """Return a path as text that can be printed and stored, whatever its bytes are."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def unreadable(path: Path, error: Exception, advice: str = "") -> InputError:
    """Build the error for a file that can't be decoded."""
    reason = "it is no image of a known format" if isinstance(error, UnidentifiedImageError) else \
        getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
    return InputError(f"can't decode the image {shown(path)} ({reason}); replace or remove it{advice}")


def _stamp(path: Path) -> str:
    try:
        state = os.stat(path)
    except OSError:
        return "missing"
    return f"{state.st_size}|{state.st_mtime_ns}"


def _opened(path: Path) -> Image.Image:
    return Image.open(regular(path), formats=FORMATS)


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


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@functools.cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_cores(), thread_name_prefix="decoding")
