"""The pictures of frost: those of the reference if a wheel with them is installed, else procedural ones."""

from __future__ import annotations

from functools import cache, lru_cache
from importlib.metadata import Distribution, PackageNotFoundError, distribution

import numpy as np
from PIL import Image
from scipy import ndimage

from framebench.files import digest
from framebench.seeding import generator

#: Wheels that contain the pictures (Apache-2.0). They are not imported: this would need OpenCV, numba and scikit-image.
WHEELS = ("imagecorruptions", "imagecorruptions-imaug")
#: The wheels have six pictures; the reference chooses from the first five.
PICTURES = ("frost1.png", "frost2.png", "frost3.png", "frost4.jpg", "frost5.jpg")
PROCEDURAL = "procedural texture"
#: The scale that procedural pictures are drawn at, which is that of the pictures for CIFAR.
PROCEDURAL_SCALE = 0.2
#: What users should know if no wheel is installed.
HINT = f"frost is a {PROCEDURAL}; pip install 'framebench[frost]' adds the reference's pictures"
#: Measured mean and standard deviation of red, green and blue in each picture; the procedural ones have them too.
_COLOURS = (((78, 27), (149, 16), (166, 15)), ((201, 21), (205, 22), (214, 23)), ((201, 21), (205, 22), (214, 23)),
            ((138, 29), (153, 29), (166, 30)), ((112, 44), (123, 43), (135, 42)))


def source() -> str:
    """Return the source of the pictures: a wheel and its version, or "procedural texture"."""
    wheel = _wheel()
    return f"{wheel.metadata['Name']} {wheel.version}" if wheel is not None else PROCEDURAL


@lru_cache(maxsize=8)
def textures(scale: float, height: int, width: int) -> tuple[np.ndarray, ...]:
    """Return the five pictures, uint8 [H, W, 3], resized by `scale`.

    A piece of `height` x `width` is cut out of them at a random place. If a picture is too small for this, as some are
    for images of more than about 300 pixels, it is enlarged.
    """
    return tuple(_covering(picture, height + 1, width + 1) for picture in _resized(scale))


@cache
def textures_digest() -> str:
    """Return the sha256 of the pictures in use, as they are for CIFAR."""
    return digest(*_resized(PROCEDURAL_SCALE))


@cache
def _resized(scale: float) -> tuple[np.ndarray, ...]:
    wheel = _wheel()
    if wheel is not None:
        return tuple(_interpolated(np.asarray(Image.open(str(_path(wheel, name))).convert("RGB")), scale)
                     for name in PICTURES)
    return tuple(_enlarged(_draw(i), scale / PROCEDURAL_SCALE) for i in range(len(PICTURES)))


def _covering(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    factor = max(height / picture.shape[0], width / picture.shape[1])
    return picture if factor <= 1 else _enlarged(picture, factor)


def _enlarged(picture: np.ndarray, factor: float) -> np.ndarray:
    height, width = (int(np.ceil(side * factor)) for side in picture.shape[:2])
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BILINEAR))


@cache
def _wheel() -> Distribution | None:
    for name in WHEELS:
        try:
            found = distribution(name)
        except PackageNotFoundError:
            continue
        if all(_path(found, picture) is not None for picture in PICTURES):
            return found
    return None


def _path(wheel: Distribution, picture: str) -> object | None:
    """Return the path of a picture in an installed wheel, or None."""
    for file in wheel.files or ():
        if file.name == picture and file.parent.name == "frost" and file.locate().exists():  # type: ignore[attr-defined]
            return file.locate()
    return None


def _interpolated(picture: np.ndarray, scale: float) -> np.ndarray:
    """Resize as OpenCV's linear resize does, which uses integers and does not smooth before it reduces.

    Reduction to a fifth takes the middle pixel of each 5 x 5 block.
    """
    (top, bottom, down), (left, right, across) = (_taps(side, scale) for side in picture.shape[:2])
    levels = picture.astype(np.int32)
    rows = levels[:, left] * across[0][:, None] + levels[:, right] * across[1][:, None]
    above = (rows[top] >> 4) * down[0][:, None, None] >> 16
    below = (rows[bottom] >> 4) * down[1][:, None, None] >> 16
    resized: np.ndarray = ((above + below + 2) >> 2).astype(np.uint8)
    return resized


def _taps(side: int, scale: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the two pixels of a line that each pixel of the result is between, and their weights in 1/2048."""
    places = ((np.arange(round(side * scale)) + 0.5) / scale - 0.5).astype(np.float32).clip(0, side - 1)
    first = np.floor(places).astype(np.int32)
    second = places - first
    return first, np.minimum(first + 1, side - 1), np.rint(np.stack([1 - second, second]) * 2048).astype(np.int32)


def _draw(number: int) -> np.ndarray:
    """Draw a picture at a fifth of its size, uint8 [120, 180, 3]: needles along a curved field, over clouds."""
    rng, shape = generator(0, "frost-texture", number), (120, 180)

    def smooth(sigma: float) -> np.ndarray:
        return _standard(ndimage.gaussian_filter(rng.standard_normal(shape), sigma, mode="wrap"))

    angle = np.pi * smooth(12)
    across, along, seeds = np.cos(angle), np.sin(angle), smooth(0.5)
    # Seeds become needles: each pixel sums the seeds along the field, in both directions.
    needles = np.zeros(shape)
    for sign in (-1, 1):
        y, x = (axis.astype(np.float64) for axis in np.mgrid[:shape[0], :shape[1]])
        for _ in range(4):
            here = y.astype(np.int64) % shape[0], x.astype(np.int64) % shape[1]
            needles += seeds[here]
            y, x = y + sign * along[here], x + sign * across[here]
    crystals = _standard(np.exp(0.7 * _standard(needles)))  # fewer bright needles than dark ones
    mean, spread = np.array(_COLOURS[number]).T
    drawn: np.ndarray = np.clip(mean + spread * (0.6 * smooth(10) + 0.8 * crystals)[..., None], 0, 255)
    return drawn.astype(np.uint8)


def _standard(x: np.ndarray) -> np.ndarray:
    """Scale to mean 0 and standard deviation 1."""
    standard: np.ndarray = (x - x.mean()) / x.std()
    return standard
