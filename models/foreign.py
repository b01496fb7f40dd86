"""Shared by all sources of pretrained models: complete downloads, and reading weights without running code."""

from __future__ import annotations

import difflib
import os
import pickle
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlparse

import torch
from torch import fx, nn
from torch.nn import functional as F  # noqa: N812

from framebench.classes import imagenet
from framebench.errors import InputError
from framebench.files import atomic
from framebench.models.layers import Normalize
from framebench.user_code import reason


class Preprocessed(nn.Module):
    """A model with its preprocessing, so that it takes images in [0, 1] of any size.

    Images of another size are resized to the model's input size, differentiably. The usual pipelines of ImageNet models
    resize to a larger size and crop; here nothing is cropped, since an attack may change any pixel.

    Args:
        model: Maps normalised images to logits.
        mean: Per-channel mean that the model expects to be subtracted, for images in [0, 1]; by default none.
        std: Per-channel deviation to divide by; by default none.
        size: Height and width that the model expects; None if it takes any.
        interpolation: "bilinear", "bicubic" (clamped to [0, 1], as on 8-bit images) or "nearest".
    """

    def __init__(self, model: nn.Module, mean: Iterable[float] = (0.0, 0.0, 0.0),
                 std: Iterable[float] = (1.0, 1.0, 1.0), size: tuple[int, int] | None = None,
                 interpolation: str = "bilinear") -> None:
        super().__init__()
        self.size, self.interpolation = size, interpolation
        self.normalize = Normalize(tuple(mean), tuple(std))
        self.model = model

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map images [n, 3, H, W] in [0, 1] to logits."""
        if self.size is not None:
            x = resized(x, self.size, self.interpolation)
        return self.model(self.normalize(x))  # type: ignore[no-any-return]


@fx.wrap  # a trace keeps it as one call, since it depends on the size of the images
def resized(x: torch.Tensor, size: tuple[int, int], interpolation: str) -> torch.Tensor:
    """Resize images [n, c, H, W] in [0, 1] to a height and width; averaging over what a smaller pixel covers."""
    if tuple(x.shape[-2:]) == tuple(size):
        return x
    smooth = {"antialias": True, "align_corners": False} if interpolation != "nearest" else {}
    return F.interpolate(x, size, mode=interpolation, **smooth).clamp(0, 1)


def resizing(module: nn.Module, height: int, width: int) -> str:
    """Describe how a model resizes images of this size; empty if it does not."""
    layer = next((part for part in module.modules() if isinstance(part, Preprocessed)), None)  # it may be wrapped
    if layer is None or layer.size in (None, (height, width)):
        return ""
    return f"{height}x{width} to {'x'.join(map(str, layer.size or ()))} ({layer.interpolation})"


def names_of(count: int) -> tuple[str, ...] | None:
    """Return the class names of a public classifier by its number of logits: ImageNet's for 1,000, else None."""
    return imagenet().names if count == 1000 else None


@contextmanager
def random_weights() -> Iterator[None]:
    """Seed the initialisation of modules that are built inside, and restore the generator afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@contextmanager
def weights_only() -> Iterator[None]:
    """Make every `torch.load` inside refuse pickles that run code: timm and RobustBench don't always ask for that."""
    force, never = "TORCH_FORCE_WEIGHTS_ONLY_LOAD", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"
    before = {name: os.environ.pop(name, None) for name in (force, never)}
    os.environ[force] = "1"
    try:
        yield
    finally:
        os.environ.pop(force)
        os.environ.update({name: value for name, value in before.items() if value is not None})


def fetch(path: Path, url: str, download: Callable[[str], object]) -> None:
    """Download a file of weights completely, unless it exists.

    Args:
        path: The file.
        url: Its address, for messages.
        download: Downloads it to the path that it is called with.

    Raises:
        InputError: if that fails.
    """
    if path.is_file():
        return
    try:
        with atomic(path) as temporary:
            download(str(temporary))
            with open(temporary, "rb") as file:
                head = file.read(256).lstrip()
            if not head or head.startswith(b"<"):  # Google Drive answers with a page when too many ask for a file
                raise OSError("the answer is a web page, not a file" if head else "the answer is empty")
    except Exception as error:  # urllib, requests and gdown have errors of their own
        raise InputError(f"can't get {url} ({reason(error)}); get it in another way, and save it as {path}") from None


def fetch_url(path: Path, url: str) -> None:
    """`fetch` from a URL; a hash in its file name, as in torch's, is checked."""
    prefix = re.search(r"-([a-f0-9]{8,})\.", Path(urlparse(url).path).name)
    fetch(path, url, lambda to: torch.hub.download_url_to_file(url, to, prefix and prefix[1]))


def torch_cache(url: str) -> Path:
    """Return where torch and timm cache the file of a URL (below ``$TORCH_HOME`` if set)."""
    return Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(url).path).name


def not_read(where: object, error: Exception) -> InputError:
    """Build the error for weights that can't be read, or don't fit their architecture."""
    if isinstance(error, pickle.UnpicklingError) and (code := re.search(r"GLOBAL ([\w.]+)", str(error))):
        return InputError(f"{where} is a pickle that runs code ({code[1]}) when it is read, so it is not loaded; "
                          "if you trust it, load it yourself and save its state dict alone with torch.save")
    if isinstance(error, pickle.UnpicklingError | EOFError) or "PytorchStreamReader" in str(error):
        return InputError(f"{where} is not a whole file of torch.save ({reason(error)}); remove it, and get it again")
    return InputError(f"{where} does not fit its architecture ({reason(error)}); get the right file, or build "
                      "the model in a function of yours: python:FILE.py:FUNCTION")


def unknown_in(zoo: str, name: str, choices: Iterable[str]) -> InputError:
    """Build the error for an unknown name in a zoo, with similar names as suggestions."""
    near = difflib.get_close_matches(name, sorted(choices), n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"see: bench list {zoo}"
    return InputError(f"{zoo} has no model '{name}'; {hint}")
