"""Labelled images by name.

To add a domain, write ``domains/NAME.py`` with a function ``load_NAME``, and name it in `DOMAINS`.

>>> from framebench.domains import load_domain
>>> samples = load_domain("samples")
>>> x, y = samples.load([0, 1, 2])  # float32 [3, 3, 32, 32] in [0, 1], int64 [3]
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

from framebench.domains import cifar
from framebench.domains.base import Domain
from framebench.domains.folder import load_folder
from framebench.domains.imagefiles import shown
from framebench.domains.layout import find
from framebench.domains.reading import USUAL, Reading
from framebench.errors import InputError, MissingDataError, unknown

_log = logging.getLogger(__name__)

__all__ = ["DOMAINS", "TRAINING", "USUAL", "Domain", "Entry", "Reading", "check_training", "data_root",
           "default_domain", "describe", "load_domain", "load_test", "load_training"]


@dataclass(frozen=True)
class Entry:
    """A domain.

    Attributes:
        summary: What it is, in one line.
        load: Loads its images from the data root (or None).
        trains: Whether it has training images too, which `load` returns if its second argument is "train".
        files: Whether it is read from image files, and `load` takes a `Reading` as its second argument.
    """

    summary: str
    load: Callable[..., Domain]
    trains: bool = False
    files: bool = False


def _in(module: str, function: str = "") -> Callable[..., Domain]:
    """Return a function of a module in this folder, ``load_MODULE`` by default; the first call imports the module."""
    def load(*given: Any) -> Domain:
        domain: Domain = getattr(import_module(f"framebench.domains.{module}"), function or f"load_{module}")(*given)
        return domain
    return load


#: name -> how to load it
DOMAINS = {
    "samples": Entry("20 lossless CIFAR-10 test images, shipped by foolbox", _in("samples")),
    "cifar10": Entry("the CIFAR-10 test set under --data-root", _in("cifar", "load_cifar10"), trains=True),
    "cinic10": Entry("the CINIC-10 test images that come from ImageNet (70,000)", _in("cinic", "load_cinic10")),
    "cinic10-unique": Entry("cinic10 without exact duplicates", _in("cinic", "load_cinic10_unique")),
    "cinic10-all": Entry("the whole CINIC-10 test split (90,000), with CIFAR-10 training images in it",
                         _in("cinic", "load_cinic10_all")),
    "cifar10.1": Entry("CIFAR-10.1 v6, a new test set for CIFAR-10 (2,000)", _in("cifar_retests", "load_cifar10_1")),
    "cifar10.1-v4": Entry("CIFAR-10.1 v4 (2,021)", _in("cifar_retests", "load_cifar10_1_v4")),
    "cifar10.2": Entry("CIFAR-10.2 test, another new test set (2,000)", _in("cifar_retests", "load_cifar10_2")),
    "stl10": Entry("the STL-10 test images of CIFAR-10's classes (9 of them) at 32x32 (7,200)",
                   _in("stl", "load_stl10")),
    "cifar100": Entry("the CIFAR-100 test set (10,000), for models of its 100 classes",
                      _in("cifar", "load_cifar100"), trains=True),
    "svhn": Entry("the SVHN test set (26,032 digits), for models of its 10 digits", _in("svhn"), trains=True),
    "imagenet": Entry("the ImageNet validation set (50,000)", _in("imagenet"), files=True),
    "imagenet-samples": Entry("20 ImageNet images, shipped by foolbox",
                              _in("imagenet", "load_imagenet_samples"), files=True),
    "imagenet-v2": Entry("ImageNet-V2, a new test set for ImageNet (10,000)", _in("imagenet", "load_imagenet_v2"),
                         files=True),
    "imagenet-sketch": Entry("ImageNet-Sketch, drawings of ImageNet's classes (50,889)",
                             _in("imagenet", "load_imagenet_sketch"), files=True),
    "imagenet-a": Entry("ImageNet-A, natural adversarial images of 200 of ImageNet's classes (7,500)",
                        _in("imagenet", "load_imagenet_a"), files=True),
    "imagenet-r": Entry("ImageNet-R, renditions of 200 of ImageNet's classes (30,000)",
                        _in("imagenet", "load_imagenet_r"), files=True),
    "tiny-imagenet": Entry("the Tiny ImageNet validation set at 64x64 (10,000), for models of its 200 classes",
                           _in("imagenet", "load_tiny_imagenet"), files=True),
}
#: NAME@RESIZE-SIZE-INTERPOLATION; see `framebench.domains.imagefiles.Resizing`.
_SIZED = re.compile(r"(.+)@(\d{1,5})-(\d{1,5})-([a-z]+)", re.ASCII)
#: The domains that have training images too.
TRAINING = tuple(name for name, entry in DOMAINS.items() if entry.trains)


def data_root(given: str | Path | None) -> Path | None:
    """Return the folder that holds the data sets: the one given, else ``$BENCH_DATA``, else None.

    Raises:
        InputError: if it is not a folder.
    """
    name = given or os.environ.get("BENCH_DATA")
    if not name:
        return None
    root = Path(os.path.expanduser(name))
    if not root.is_dir():
        raise InputError(f"the data root {root} is not a folder; --data-root (or BENCH_DATA) needs a folder")
    return root


def default_domain(given: str | Path | None) -> str:
    """Return the domain that is used by default: `cifar10` if the data root has it, else `samples`.

    Args:
        given: The data root, as for `data_root`. Whoever gives one wants its images, and not the samples. But
            ``$BENCH_DATA`` may be set for other data sets: without CIFAR-10 in it the samples are taken, with a
            warning.

    Raises:
        InputError: if the data root is not a folder, or one was given that has no CIFAR-10.
    """
    root = data_root(given)
    if root is None:
        return "samples"
    try:
        find(root, "cifar10", cifar.PLACES["cifar10"], split="test")
    except MissingDataError as error:
        if given:
            raise MissingDataError(f"{error}; or name other images (--domain, --domains)") from None
        _log.warning("BENCH_DATA: %s; the 20 samples are used", error)
        return "samples"
    return "cifar10"


def describe() -> dict[str, str]:
    """Return every kind of name that `load_domain` and `load_corrupted` accept, with a description."""
    from framebench.domains.corrupted import CORRUPTED

    fixed = {name: entry.summary for name, entry in DOMAINS.items()}
    return {**fixed, "folder:PATH": "your own images, PATH/<class>/*, of any classes and size (docs/domains.md)",
            **CORRUPTED, "SET-c/CORRUPTION/SEVERITY": "one corruption at one severity, such as cifar10-c/fog/3"}


def load_domain(name: str | os.PathLike[str], root: str | Path | None = None, reading: Reading = USUAL) -> Domain:
    """Load a domain by name.

    Args:
        name: A name of `DOMAINS`, ``folder:PATH``, or a cell of a corrupted set such as ``cifar10-c/fog/3``. Of sets of
            image files, the name may say how they are resized, as in ``imagenet@256-224-bicubic``. A path is that of
            a folder, as ``folder:PATH``.
        root: The folder that holds the data sets; None for ``$BENCH_DATA``, if that is set.
        reading: How image files are read, and the class lists of the models that they are for.

    Raises:
        InputError: for an unknown name, for a root that is not a folder, and for data that are missing, incomplete or
            damaged.
    """
    if not isinstance(name, str | os.PathLike):
        raise InputError(f"a domain is loaded by its name or path, not by a {type(name).__name__}")
    root = data_root(root)
    name = name if isinstance(name, str) else f"folder:{os.fspath(name)}"
    if sized := _SIZED.fullmatch(name):
        name, resize, size, interpolation = sized.groups()
        reading = replace(reading, resize=int(resize), size=int(size), interpolation=interpolation)
    if name.startswith("folder:"):
        return load_folder(Path(os.path.expanduser(name.removeprefix("folder:"))), reading)
    if name not in DOMAINS:
        base, *cell = name.rsplit("/", 2)
        if len(cell) == 2 and base.partition(":")[0].endswith("-c") and cell[1].isdigit():
            from framebench.domains.corrupted import load_corrupted  # here: it builds on this module
            return load_corrupted(base, root, reading=reading).cell(cell[0], int(cell[1]))
        corrupted = name.partition("/")[0]
        if corrupted.removesuffix("-c") in DOMAINS and corrupted.endswith("-c"):
            raise InputError(f"{name} is not one set of images; name a corruption and a severity, as "
                             f"{corrupted}/fog/3")
        raise _unknown("domain", name, DOMAINS)
    if DOMAINS[name].files:
        return DOMAINS[name].load(root, reading)
    reading.refuse(name)
    return DOMAINS[name].load(root)


def load_training(name: str, root: str | Path | None = None, reading: Reading = USUAL) -> Domain:
    """Load the training images of a domain in `TRAINING`, or ``PATH/train/<class>/*`` of ``folder:PATH``.

    Raises:
        InputError: as `load_domain`.
    """
    if folders := _train_and_test(name):
        return load_folder(folders[0], reading)
    check_training(name)
    root = data_root(root)
    reading.refuse(name)
    return DOMAINS[name].load(root, "train")


def check_training(name: str) -> None:
    """Check that a name is one that `load_training` takes; the data are not looked at.

    Raises:
        InputError: if it is not.
    """
    if not (name in DOMAINS and DOMAINS[name].trains) and not name.startswith("folder:"):
        raise _unknown("training set", name, TRAINING)


def load_test(name: str, root: str | Path | None = None, reading: Reading = USUAL) -> Domain:
    """Load the test images of a set that `load_training` knows; of ``folder:PATH``, those of ``test/``, else ``val/``.

    Raises:
        InputError: as `load_domain`.
    """
    if folders := _train_and_test(name):
        return load_folder(folders[1], reading)
    return load_domain(name, root, reading)


def _unknown(what: str, name: str, known: Iterable[str]) -> InputError:
    if os.path.isdir(os.path.expanduser(name)):
        return InputError(f"unknown {what} '{name}'; there is such a folder, which is named folder:{name}")
    return unknown(what, name, [*known, "folder:PATH"])


def _train_and_test(name: str) -> tuple[Path, Path] | None:
    """Return the folders of training and test images of ``folder:PATH``; None for any other name.

    Raises:
        InputError: if it has no folder of training images, or none of test images.
    """
    if not name.startswith("folder:"):
        return None
    folder = Path(os.path.expanduser(name.removeprefix("folder:")))
    train, test = folder / "train", next((folder / part for part in ("test", "val") if (folder / part).is_dir()), None)
    if not train.is_dir() or test is None:
        raise InputError(f"a training set needs {shown(train)}/<class>/* and, for the accuracy at the end, "
                         f"{shown(folder / 'test')}/<class>/* (or val/)")
    return train, test
