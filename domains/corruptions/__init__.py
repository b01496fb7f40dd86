"""The corruptions of CIFAR-10-C (Hendrycks & Dietterich, ICLR 2019, arXiv 1903.12261), made from clean images.

>>> from framebench.domains.corruptions import corrupt
>>> foggy = corrupt(images, "fog", severity=3)  # uint8 [n, 32, 32, 3] to the same

Parameters, precision and truncation are those of the script that made the official files (make_cifar_c.py in
github.com/hendrycks/robustness). Given the same draws, its steps in scikit-image 0.26, OpenCV 4.10 and ImageMagick 6
give the same pixels. Differences:
- each image draws from its own generator, keyed by (seed, corruption, severity, id), so that a subset, a shard or
  another batch gets the same pixels; the official draws are not known;
- shot and impulse noise need one uniform a value, from which they draw the same distribution;
- defocus blur sums directly where OpenCV takes a DFT, and elastic transform's affine map reads at 1/32 of a pixel,
  which newer OpenCV (5.0) does not;
- frost uses the reference's pictures only where a wheel that ships them is installed (`frost_source`).
Images made here are to be called generated; the official files are the benchmark where they are at hand.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.metadata import version

import numpy as np
from PIL import features

from framebench.domains.corruptions import blur, digital, frost, noise, weather
from framebench.domains.corruptions.pixels import Generators
from framebench.errors import InputError, unknown
from framebench.seeding import generator

__all__ = ["BENCHMARK", "EXTRAS", "NAMES", "SEVERITIES", "VERSION", "corrupt", "frost_source", "generator_facts"]

#: The generator's version; raised whenever pixels change.
VERSION = 1
#: In the order of the paper's table; the first 15 are the benchmark.
NAMES = ("gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "glass_blur", "motion_blur", "zoom_blur",
         "snow", "frost", "fog", "brightness", "contrast", "elastic_transform", "pixelate", "jpeg_compression",
         "speckle_noise", "gaussian_blur", "spatter", "saturate")
BENCHMARK, EXTRAS = NAMES[:15], NAMES[15:]
SEVERITIES = (1, 2, 3, 4, 5)

_FIXED: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
    function.__name__: function for function in (
        blur.defocus_blur, blur.gaussian_blur, blur.zoom_blur, digital.contrast, digital.jpeg_compression,
        digital.pixelate, digital.saturate, weather.brightness)}
_DRAWN: dict[str, Callable[[np.ndarray, int, Generators], np.ndarray]] = {
    function.__name__: function for function in (
        blur.glass_blur, blur.motion_blur, digital.elastic_transform, noise.gaussian_noise, noise.impulse_noise,
        noise.shot_noise, noise.speckle_noise, weather.fog, weather.frost, weather.snow, weather.spatter)}

#: Pixels at a time: arrays of more than some sixteen 32 x 32 images leave the processor's cache, and the allocator may
#: hand them back to the system at every step: page faults double the time. Spatter's many small steps want more.
_CHUNK_PIXELS = {name: (64 if name == "spatter" else 16) * 32 * 32 for name in NAMES}


def corrupt(images: np.ndarray, name: str, severity: int, seed: int = 0,
            ids: Sequence[int] | np.ndarray | None = None) -> np.ndarray:
    """Corrupt images.

    Args:
        images: uint8 [n, H, W, 3]. The parameters are those for 32 x 32; other sizes from 16 up get the same ones, in
            pixels.
        name: One of `NAMES`.
        severity: 1 to 5.
        seed: Keys the random draws.
        ids: The example ids, which key them too, whole numbers [n]; None means 0 .. n - 1.

    Returns:
        uint8 [n, H, W, 3].

    Raises:
        InputError: for another name, severity, type or shape, ids that don't fit, or images too large for frost.
    """
    if name not in NAMES:
        raise unknown("corruption", name, NAMES)
    if severity not in SEVERITIES:
        raise InputError(f"severity {severity} does not exist; choose 1 to 5")
    _check_images(images, name)
    keys = _check_ids(ids, len(images))
    out = np.empty_like(images)
    step = max(1, _CHUNK_PIXELS[name] // (images.shape[1] * images.shape[2]))
    for start in range(0, len(images), step):
        part = slice(start, start + step)
        if name in _FIXED:
            out[part] = _FIXED[name](images[part], severity)
        else:
            rngs = [generator(seed, f"corruption-{name}", severity, key) for key in keys[part]]
            out[part] = _DRAWN[name](images[part], severity, rngs)
    return out


def frost_source() -> str:
    """Return what frost is made from, as results must name it: a wheel and its version, or "procedural texture"."""
    return frost.source()


def generator_facts() -> dict[str, str | int | None]:
    """Return what pixels depend on besides the arguments: the generator's version, frost's digest, libraries."""
    return {"version": VERSION, "frost": frost.source(), "frost_digest": frost.textures_digest(),
            **{name: version(name) for name in ("numpy", "scipy", "pillow")},
            # "jpg" is the level of the interface, 6.2, whichever library it is.
            "libjpeg": features.version("libjpeg_turbo") or features.version("jpg")}


def _check_images(images: np.ndarray, name: str) -> None:
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
        found = f"{images.dtype} {list(images.shape)}" if isinstance(images, np.ndarray) else type(images).__name__
        raise InputError(f"images to corrupt must be a uint8 array [n, H, W, 3], not {found}; convert them first")
    height, width = images.shape[1:3]
    if min(height, width) < 16:
        raise InputError(f"images of {height} x {width} are too small to corrupt; give at least 16 x 16")
    if name == "frost":
        room = min(min(texture.shape[:2]) for texture in frost.textures()) - 1  # a crop's position is drawn below this
        if max(height, width) > room:
            raise InputError(f"images of {height} x {width} are too large for frost, whose textures allow up to "
                             f"{room} x {room}; leave frost out or shrink the images")


def _check_ids(ids: Sequence[int] | np.ndarray | None, n: int) -> list[int]:
    keys = np.arange(n) if ids is None else np.asarray(ids)
    if keys.shape != (n,) or (n and keys.dtype.kind not in "iu"):
        raise InputError(f"ids must be {n} whole numbers, one an image, not {keys.dtype} {list(keys.shape)}; "
                         "leave them out for 0, 1, 2, ...")
    return [int(key) for key in keys]
