"""The corruptions of CIFAR-10-C, Tiny ImageNet-C and ImageNet-C, made from clean images of any size.

Source: Hendrycks & Dietterich, ICLR 2019, arXiv 1903.12261.

>>> from framebench.domains.corruptions import corrupt
>>> foggy = corrupt(images, "fog", severity=3)  # uint8 [n, H, W, 3] to the same

The reference is the scripts that made the official files (github.com/hendrycks/robustness, ImageNet-C/create_c). Their
parameters, precision and truncation are used here. With the same random draws, their steps in scikit-image 0.26,
OpenCV 4.10 and ImageMagick 6 give the same pixels. The differences are:

- Each image has its own random generator, keyed by (seed, corruption, severity, id), so that its pixels do not depend
  on the batch or subset it is in. The random draws of the official files are not known.
- The official files of ImageNet-C and Tiny ImageNet-C are JPEG of quality 85, saved after the corruption. The pixels
  here are not compressed afterwards.
- Shot and impulse noise use one uniform number per value, from which they draw the same distribution.
- Defocus blur with a small kernel sums directly, where OpenCV uses a DFT. The affine map of elastic transform rounds
  positions to 1/32 of a pixel, which OpenCV 5.0 no longer does.
- Frost uses the pictures of the reference only if a wheel that contains them is installed (`frost_source`). They are
  enlarged for images that do not fit into them.

Results must call images made here "generated". The official files, if they are available, are the benchmark.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.metadata import version

import numpy as np
from PIL import features

from framebench.domains.corruptions import blur, digital, frost, noise, weather
from framebench.domains.corruptions.parameters import PARAMETERS, parameters_of, usual_parameters
from framebench.errors import InputError, unknown
from framebench.seeding import generator

__all__ = ["BENCHMARK", "EXTRAS", "NAMES", "PARAMETERS", "SEVERITIES", "VERSION", "corrupt", "frost_hint",
           "frost_source", "generator_facts", "usual_parameters"]

#: Version of the generator; increased whenever pixels change.
VERSION = 1
#: All corruptions, in the order of the paper's table; the first 15 are the benchmark.
NAMES = ("gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "glass_blur", "motion_blur", "zoom_blur",
         "snow", "frost", "fog", "brightness", "contrast", "elastic_transform", "pixelate", "jpeg_compression",
         "speckle_noise", "gaussian_blur", "spatter", "saturate")
BENCHMARK, EXTRAS = NAMES[:15], NAMES[15:]
SEVERITIES = (1, 2, 3, 4, 5)

_FIXED: dict[str, Callable[..., np.ndarray]] = {
    function.__name__: function for function in (
        blur.defocus_blur, blur.gaussian_blur, blur.zoom_blur, digital.contrast, digital.jpeg_compression,
        digital.pixelate, digital.saturate, weather.brightness)}
_DRAWN: dict[str, Callable[..., np.ndarray]] = {
    function.__name__: function for function in (
        blur.glass_blur, blur.motion_blur, digital.elastic_transform, noise.gaussian_noise, noise.impulse_noise,
        noise.shot_noise, noise.speckle_noise, weather.fog, weather.frost, weather.snow, weather.spatter)}

#: How many pixels are processed at a time. Arrays of more than about sixteen 32 x 32 images do not fit the processor's
#: cache, and the allocator may return their memory to the system at each step; the page faults double the time.
#: Spatter has many small steps, for which larger arrays are faster.
_CHUNK_PIXELS = {name: (256 if name == "spatter" else 16) * 32 * 32 for name in NAMES}


def corrupt(images: np.ndarray, name: str, severity: int, seed: int = 0,
            ids: Sequence[int] | np.ndarray | None = None, parameters: str | None = None) -> np.ndarray:
    """Corrupt images.

    Args:
        images: uint8 [n, H, W, 3], of at least 16 x 16 pixels.
        name: One of `NAMES`.
        severity: 1 to 5.
        seed: Seed of the random draws.
        ids: Example ids, integers [n]; the random draws depend on them too. None means 0 .. n - 1.
        parameters: A name of `PARAMETERS`. None means those for the images' size (`usual_parameters`).

    Returns:
        uint8 [n, H, W, 3].

    Raises:
        InputError: for an unknown name, severity or set of parameters, a wrong type or shape, or wrong ids.
    """
    if name not in NAMES:
        raise unknown("corruption", name, NAMES)
    if severity not in SEVERITIES:
        raise InputError(f"severity {severity} does not exist; choose 1 to 5")
    _check_images(images)
    strength = parameters_of(parameters or usual_parameters(*images.shape[1:3]), name, severity)
    keys = _check_ids(ids, len(images))
    out = np.empty_like(images)
    step = max(1, _CHUNK_PIXELS[name] // (images.shape[1] * images.shape[2]))
    for start in range(0, len(images), step):
        part = slice(start, start + step)
        if name in _FIXED:
            out[part] = _FIXED[name](images[part], *strength)
        else:
            rngs = [generator(seed, f"corruption-{name}", severity, key) for key in keys[part]]
            out[part] = _DRAWN[name](images[part], rngs, *strength)
    return out


def frost_source() -> str:
    """Return the source of frost, for results to name it: a wheel and its version, or "procedural texture"."""
    return frost.source()


def frost_hint() -> str:
    """Return how to get the reference's pictures of frost; empty if they are installed."""
    return frost.HINT if frost.source() == frost.PROCEDURAL else ""


def generator_facts() -> dict[str, str | int | None]:
    """Return what the pixels depend on besides the arguments: versions of generator and libraries, frost's digest."""
    return {"version": VERSION, "frost": frost.source(), "frost_digest": frost.textures_digest(),
            **{name: version(name) for name in ("numpy", "scipy", "pillow")},
            # "jpg" is the version of the interface, 6.2 for all libraries.
            "libjpeg": features.version("libjpeg_turbo") or features.version("jpg")}


def _check_images(images: np.ndarray) -> None:
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
        found = f"{images.dtype} {list(images.shape)}" if isinstance(images, np.ndarray) else type(images).__name__
        raise InputError(f"the images must be a uint8 array [n, H, W, 3], not {found}; convert them first")
    height, width = images.shape[1:3]
    if min(height, width) < 16:
        raise InputError(f"images of {height} x {width} are too small to corrupt; they must be at least 16 x 16")


def _check_ids(ids: Sequence[int] | np.ndarray | None, n: int) -> list[int]:
    keys = np.arange(n) if ids is None else np.asarray(ids)
    if keys.shape != (n,) or (n and keys.dtype.kind not in "iu"):
        raise InputError(f"ids must be {n} integers, one per image, not {keys.dtype} {list(keys.shape)}; "
                         "leave them out to use 0, 1, 2, ...")
    return [int(key) for key in keys]
