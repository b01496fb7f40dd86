"""State dicts without a card: the name says which architecture they are of.

``state:ARCH[,OPTION=VALUE...]:PATH``; everything that makes the model is in the one string, so that several can be
compared in one call.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from framebench.errors import InputError, unknown
from framebench.extras import require
from framebench.models.architectures import ARCHITECTURES, RGB, build
from framebench.models.checkpoint import load_tensors
from framebench.models.foreign import Preprocessed, not_read, unknown_in
from framebench.models.source import Found, Source
from framebench.models.zoo import torchvision_names
from framebench.user_code import reason

#: Mean and deviation of CIFAR-10's 50,000 training images, channel by channel over all pixels.
CIFAR10_MEAN: RGB = (0.4914, 0.4822, 0.4465)
CIFAR10_STD: RGB = (0.2470, 0.2435, 0.2616)

#: Where training scripts put the state dict among other things.
_WRAPPERS = ("state_dict", "model_state_dict", "model", "net")
#: What DistributedDataParallel, torch.compile and a module around the network put before the names of tensors.
_PREFIXES = ("module.", "_orig_mod.", "model.")
_FORM = "state:ARCH[,OPTION=VALUE...]:PATH"


def load(name: str) -> Found:
    """Load ``ARCH[,OPTION=VALUE...]:PATH``.

    ARCH is one of ours (`framebench.models.architectures.ARCHITECTURES`), ``torchvision/NAME`` or ``timm/NAME``; PATH a
    ``.safetensors`` or a file of torch.save, which is read with ``weights_only``. Options: ``width`` (of our
    architectures), ``classes`` (10), ``mean`` and ``std`` as R/G/B (CIFAR-10's, unless the file holds them as
    ``normalize.mean`` and ``normalize.std``), ``size`` that images are resized to (as they are).

    Raises:
        InputError: for a name that does not read so, a file that does not give all tensors of ARCH, and a
            normalisation that is not finite or divides by 0 or less.
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
    mean, std = given.get("mean", CIFAR10_MEAN), given.get("std", CIFAR10_STD)
    if not all(map(math.isfinite, (*mean, *std))) or min(std) <= 0:
        raise InputError(f"{path if own else f'state:{name}'} has mean {_text(mean)} and std {_text(std)}; both must "
                         "be finite, and std above 0")
    note = f"{path.name} holds no normalisation: CIFAR-10's mean {_text(mean)} and std {_text(std)} are taken; " \
        f"others are given as state:{arch},mean=R/G/B,std=R/G/B:PATH"
    module, source = _build(arch, options, mean, std, tensors, path)
    return Found(path.stem, module.eval().to(memory_format=torch.channels_last), source, () if given else (note,))


def _parse(name: str) -> tuple[str, dict[str, Any], Path]:
    head, colon, path = name.partition(":")
    arch, *pairs = head.split(",")
    if not colon or not arch or not path:
        raise InputError(f"'state:{name}' must read {_FORM}, such as state:resnet18,width=32:mine.pt")
    readers: dict[str, Callable[[str], Any]] = {"width": _count, "classes": _count, "size": _count, "mean": _triple,
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
    return arch, options, Path(path)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ValueError("an integer of at least 1")
    return int(text)


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
    """Read a state dict and take off what training scripts wrap it and its names in."""
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
    except Exception as error:  # of any type: it may be no file of torch.save at all
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
           path: Path) -> tuple[nn.Module, bytes]:
    """Build the architecture and load the tensors; also say what its answers depend on besides them."""
    owner, _, inner = arch.rpartition("/")
    width, classes, size = options.get("width"), options.get("classes", 10), options.get("size")
    if classes not in {tensor.shape[0] for tensor in tensors.values() if tensor.ndim}:  # before memory is asked for
        raise InputError(f"{path} has no tensor with {classes} rows; is the name's number of classes right "
                         f"(state:{arch},classes=N:{path})?")
    if width and owner or size and not owner:
        raise InputError("width is an option of our architectures, size of others'; leave it out of "
                         f"state:{arch},{'width' if owner else 'size'}=...")
    if owner:
        model = _theirs(owner, inner, classes)
        load_tensors(model, tensors, path, "name")
        module = Preprocessed(model, mean, std, (size, size) if size else None)
        return module, f"{owner} {version(owner)} {inner} {size}".encode()
    if arch not in ARCHITECTURES:
        raise unknown("architecture", arch, [*ARCHITECTURES, "torchvision/NAME", "timm/NAME"])
    width = width or ARCHITECTURES[arch][1]
    model = build(arch, width=width, num_classes=classes, mean=mean, std=std)
    normalisation = {key: value for key, value in model.state_dict().items() if key.startswith("normalize.")}
    load_tensors(model, {**tensors, **normalisation}, path, "name")
    return model, f"{arch} {width}".encode()  # as of a checkpoint with a card: the same model has the same digest


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


SOURCE = Source(load, "ARCH[,width=W][,classes=10][,mean=R/G/B,std=R/G/B]:PATH",
                "a state dict, .safetensors or of torch.save; ARCH is one of ours, torchvision/NAME or timm/NAME")
