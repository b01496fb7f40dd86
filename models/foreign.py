"""What all sources of others' models share: fetching weights whole, and reading them without running code."""

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
    """A model behind its own preprocessing, so that it takes images in [0, 1] of any size.

    Images are resized as a whole to the model's input size, differentiably. The pipelines that come with ImageNet
    models resize to more and cut the border off; here no pixel is cut, since an attack may change any of them. Images
    that have the size already are left as they are.

    Args:
        model: Maps normalised images to logits.
        mean: Per-channel mean that the model expects to be subtracted, for images in [0, 1]; by default none.
        std: Per-channel deviation to divide by; by default none.
        size: Height and width that the model expects; None where it takes any.
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
    """Return what a model does to images of a size before its network sees them; empty where it does not resize."""
    found = next((own for own in module.modules() if isinstance(own, Preprocessed)), None)  # it may be wrapped
    if found is None or found.size in (None, (height, width)):
        return ""
    return f"{height}x{width} to {'x'.join(map(str, found.size or ()))} ({found.interpolation})"


def names_of(count: int) -> tuple[str, ...] | None:
    """Return the classes of a public zoo's classifier with so many logits: of 1,000 they are ImageNet's."""
    return imagenet().names if count == 1000 else None


@contextmanager
def random_weights() -> Iterator[None]:
    """Make every module that is built inside begin with the same weights, whatever was drawn before."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@contextmanager
def weights_only() -> Iterator[None]:
    """Make every `torch.load` inside refuse pickles that would run code, whatever its caller asks for.

    RobustBench leaves it to torch's default, which ran code until 2.6, and timm asks for it in some cases only.
    """
    force, never = "TORCH_FORCE_WEIGHTS_ONLY_LOAD", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"
    before = {name: os.environ.pop(name, None) for name in (force, never)}
    os.environ[force] = "1"
    try:
        yield
    finally:
        os.environ.pop(force)
        os.environ.update({name: value for name, value in before.items() if value is not None})


def fetch(path: Path, url: str, download: Callable[[str], object]) -> None:
    """Put a file of weights at `path`, whole, unless it is there.

    Args:
        path: Where it belongs.
        url: Where it comes from, for the message.
        download: Writes it to the path that it is given.

    Raises:
        InputError: if it can't be had.
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
    """`fetch` a plain address; where its name holds a hash, as torch's do, that is checked."""
    found = re.search(r"-([a-f0-9]{8,})\.", Path(urlparse(url).path).name)
    fetch(path, url, lambda to: torch.hub.download_url_to_file(url, to, found and found[1]))


def torch_cache(url: str) -> Path:
    """Return where torch and timm keep the file of an address (``$TORCH_HOME`` moves it)."""
    return Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(url).path).name


def not_read(where: object, error: Exception) -> InputError:
    """Build the error for weights that could not be read, or that don't fit their architecture."""
    if isinstance(error, pickle.UnpicklingError) and (code := re.search(r"GLOBAL ([\w.]+)", str(error))):
        return InputError(f"{where} is a pickle that runs code ({code[1]}) when it is read, which is not done here; "
                          "where you trust it, load it yourself and save its state dict alone with torch.save")
    if isinstance(error, pickle.UnpicklingError | EOFError) or "PytorchStreamReader" in str(error):
        return InputError(f"{where} is not a whole file of torch.save ({reason(error)}); remove it, and get it again")
    return InputError(f"{where} does not fit its architecture ({reason(error)}); get the right file, or build "
                      "the model in a function of yours: python:FILE.py:FUNCTION")


def unknown_in(zoo: str, name: str, choices: Iterable[str]) -> InputError:
    """Build the error for a name that a zoo does not know; its names are too many to show them all."""
    near = difflib.get_close_matches(name, sorted(choices), n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"see: bench list {zoo}"
    return InputError(f"{zoo} has no model '{name}'; {hint}")
