"""State dicts without a card, whose architecture is part of the name: ``state:ARCH[,OPTION=VALUE...]:PATH``."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from framebench.classes import CIFAR10, CIFAR100, imagenet
from framebench.errors import InputError, unknown
from framebench.extras import require
from framebench.models.architectures import ARCHITECTURES, RGB, build
from framebench.models.checkpoint import check_tensors
from framebench.models.foreign import Preprocessed, not_read, unknown_in
from framebench.models.source import Found, Source
from framebench.models.zoo import torchvision_names
from framebench.user_code import reason

#: Mean and deviation of CIFAR-10's 50,000 training images, channel by channel over all pixels.
CIFAR10_MEAN: RGB = (0.4914, 0.4822, 0.4465)
CIFAR10_STD: RGB = (0.2470, 0.2435, 0.2616)
#: Mean and deviation of ImageNet, with which its models, and most that are fine-tuned from them, are normalised.
IMAGENET_MEAN: RGB = (0.485, 0.456, 0.406)
IMAGENET_STD: RGB = (0.229, 0.224, 0.225)

#: Options of architectures of torchvision and timm only; ours take images of any size.
_OF_OTHERS = ("size", "interpolation")
#: A number of classes that is the width of no layer: in a network built for it, it identifies the classifier.
_PROBE = 1009

#: Keys under which training scripts store the state dict.
_WRAPPERS = ("state_dict", "model_state_dict", "model", "net")
#: Prefixes of tensor names by DistributedDataParallel, torch.compile and wrapper modules.
_PREFIXES = ("module.", "_orig_mod.", "model.")
_FORM = "state:ARCH[,OPTION=VALUE...]:PATH"


def load(name: str) -> Found:
    """Load ``ARCH[,OPTION=VALUE...]:PATH``.

    ARCH is one of ours (`framebench.models.architectures.ARCHITECTURES`), ``torchvision/NAME`` or ``timm/NAME``; PATH a
    ``.safetensors`` or a file of torch.save, which is read with ``weights_only``. Options: ``width`` (of our
    architectures), ``classes`` (cifar10, cifar100 or imagenet: the names of the logits), ``mean`` and ``std`` as R/G/B
    (CIFAR-10's for our architectures, ImageNet's for others', unless the file holds them as
    ``normalize.mean`` and ``normalize.std``), ``size`` that images are resized to (as they are) and ``interpolation``
    (bilinear). The number of classes is the file's.

    Raises:
        InputError: for a name of another form, a file without all tensors of ARCH, another number of classes than the
            file's, and a normalisation that is not finite or has a deviation of 0 or less.
    """
    arch, options, path = _parse(name)
    tensors = _tensors(path)
    normalisation = [key for key in ("normalize.mean", "normalize.std") if key in tensors]
    own = {key.removeprefix("normalize."): tensors.pop(key) for key in normalisation}
    given: dict[str, RGB] = {key: options.pop(key) for key in ("mean", "std") if key in options}
    if own and given:
        raise InputError(f"{path} holds its own normalisation; leave mean and std out of state:{name}")
    if len(own) == 1 or len(given) == 1:
        raise InputError(f"mean and std go together, but for state:{name} there is only one of them")
    if own:
        given = {key: _rgb(tensor, path) for key, tensor in own.items()}
    usual, mean, std = ("ImageNet", IMAGENET_MEAN, IMAGENET_STD) if "/" in arch else \
        ("CIFAR-10", CIFAR10_MEAN, CIFAR10_STD)
    mean, std = given.get("mean", mean), given.get("std", std)
    if not all(map(math.isfinite, (*mean, *std))) or min(std) <= 0:
        raise InputError(f"{path if own else f'state:{name}'} has mean {_text(mean)} and std {_text(std)}; both must "
                         "be finite, and std above 0")
    note = f"{path.name} holds no normalisation: {usual}'s mean {_text(mean)} and std {_text(std)} are taken; " \
        f"others are given as state:{arch},mean=R/G/B,std=R/G/B:PATH"
    classes = options.pop("classes", None)
    module, source, count = _build(arch, options, mean, std, tensors, path)
    if classes and len(classes) != count:
        raise InputError(f"{path} is for {count} classes, not for the {len(classes)} that state:{name} names")
    return Found(path.stem, module.eval().to(memory_format=torch.channels_last), source, () if given else (note,),
                 classes)


def _parse(name: str) -> tuple[str, dict[str, Any], Path]:
    head, colon, path = name.partition(":")
    arch, *pairs = head.split(",")
    if not colon or not arch or not path:
        raise InputError(f"'state:{name}' must read {_FORM}, such as state:resnet18,width=32:mine.pt")
    readers: dict[str, Callable[[str], Any]] = {
        "width": _count, "classes": _names, "size": _count, "interpolation": _interpolation, "mean": _triple,
        "std": _triple}
    options = {}
    for pair in pairs:
        option, _, value = pair.partition("=")
        if option not in readers:
            raise unknown(f"option of {_FORM}", option, readers)
        try:
            options[option] = readers[option](value)
        except ValueError as error:
            raise InputError(f"state:{name}: {option} must be {error}, not '{value}'") from None
    return arch, options, Path(os.path.expanduser(path))


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ValueError("an integer of at least 1")
    return int(text)


def _names(text: str) -> tuple[str, ...]:
    if text not in (lists := {"cifar10": CIFAR10, "cifar100": CIFAR100, "imagenet": imagenet().names}):
        raise ValueError(f"one of {', '.join(lists)} (their number is the file's)")
    return lists[text]


def _interpolation(text: str) -> str:
    if text not in ("bilinear", "bicubic", "nearest"):
        raise ValueError("bilinear, bicubic or nearest")
    return text


def _triple(text: str) -> RGB:
    try:
        red, green, blue = map(float, text.split("/"))
    except ValueError:
        red = green = blue = math.nan
    if not all(map(math.isfinite, (red, green, blue))):
        raise ValueError("three numbers, as 0.49/0.48/0.45")
    return red, green, blue


def _rgb(tensor: torch.Tensor, path: Path) -> RGB:
    if tensor.numel() != 3:
        raise InputError(f"{path}: its normalisation has the shape {list(tensor.shape)}, not a value each of R, G, B")
    red, green, blue = tensor.flatten().tolist()
    return red, green, blue


def _text(values: RGB) -> str:
    return "/".join(f"{value:g}" for value in values)


def _tensors(path: Path) -> dict[str, torch.Tensor]:
    """Read a state dict, and remove wrappers and prefixes that training scripts add."""
    if not path.is_file():
        raise InputError(f"there is no file of weights {path}")
    content: Any
    try:
        if path.suffix == ".safetensors":
            content = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except SafetensorError as error:
        raise InputError(f"{path} is not a whole safetensors file ({reason(error)})") from None
    except Exception as error:  # of any type: it may not be a file of torch.save
        raise not_read(path, error) from None
    while isinstance(content, Mapping) and (inner := next((key for key in _WRAPPERS if isinstance(
            content.get(key), Mapping)), None)):
        content = content[inner]
    if not isinstance(content, Mapping) or not content or \
            not all(isinstance(value, torch.Tensor) for value in content.values()):
        holds = ", ".join(map(str, list(content)[:5])) if isinstance(content, Mapping) else type(content).__name__
        raise InputError(f"{path} holds no state dict, bare or under {', '.join(_WRAPPERS)}, but: {holds or 'nothing'}")
    tensors = {str(key): value for key, value in content.items()}
    while prefix := next((prefix for prefix in _PREFIXES if all(
            key.startswith((prefix, "normalize.")) for key in tensors)), None):
        tensors = {key.removeprefix(prefix): value for key, value in tensors.items()}
    return tensors


def _build(arch: str, options: dict[str, Any], mean: RGB, std: RGB, tensors: dict[str, torch.Tensor],
           path: Path) -> tuple[nn.Module, bytes, int]:
    """Return the model, all that its outputs depend on besides its tensors, and the number of its classes."""
    owner, _, inner = arch.rpartition("/")
    for option in options:
        if bool(owner) != (option in _OF_OTHERS):
            raise InputError(f"width is an option of our architectures, {' and '.join(_OF_OTHERS)} of others'; leave "
                             f"it out of state:{arch},{option}=...")
    if not owner and arch not in ARCHITECTURES:
        raise unknown("architecture", arch, [*ARCHITECTURES, "torchvision/NAME", "timm/NAME"])
    width = options.get("width") or (0 if owner else ARCHITECTURES[arch][1])

    def make(classes: int) -> nn.Module:
        if owner:
            return _theirs(owner, inner, classes)
        return build(arch, width=width, num_classes=classes, mean=mean, std=std)

    with torch.device("cpu" if owner == "timm" else "meta"):  # some of timm's constructors compute with values
        count = _count_of_classes(make(_PROBE), tensors)
    model = make(count)
    if not owner:  # `mean` and `std`; the ones of the file have been taken out of `tensors`
        tensors |= {key: value for key, value in model.state_dict().items() if key.startswith("normalize.")}
    check_tensors(model, tensors, path, "name")
    model.load_state_dict(tensors)
    if owner:
        size, how = options.get("size"), options.get("interpolation", "bilinear")
        module = Preprocessed(model, mean, std, (size, size) if size else None, how)
        return module, f"{owner} {version(owner)} {inner} {size} {how}".encode(), count
    return model, f"{arch} {width}".encode(), count  # as of a checkpoint with a card: the same digest


def _count_of_classes(probe: nn.Module, tensors: dict[str, torch.Tensor]) -> int:
    """Return the number of classes of a file, from the layers that have `_PROBE` rows in `probe`."""
    rows = [len(tensors[name]) for name, tensor in probe.state_dict().items()
            if tensor.ndim and len(tensor) == _PROBE and name in tensors and tensors[name].ndim]
    return max(rows, default=1)


def _theirs(owner: str, name: str, classes: int) -> nn.Module:
    if owner == "torchvision":
        from torchvision import models
        if name not in torchvision_names():
            raise unknown_in("torchvision", name, torchvision_names())
        return models.get_model(name, weights=None, num_classes=classes)  # type: ignore[no-any-return]
    if owner == "timm":
        timm = require("timm", "zoo")
        if not timm.is_model(name):
            raise unknown_in("timm", name, timm.list_models())
        return timm.create_model(name, pretrained=False, num_classes=classes)  # type: ignore[no-any-return]
    raise unknown("source of architectures", owner, ["torchvision", "timm"])


SOURCE = Source(load, "ARCH[,width=W][,size=224][,mean=R/G/B,std=R/G/B][,classes=imagenet]:PATH",
                "a state dict, .safetensors or of torch.save; ARCH is one of ours, torchvision/NAME or timm/NAME")
