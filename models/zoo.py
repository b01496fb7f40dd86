"""Models of timm and torchvision by name, with their weights and preprocessing."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from torch import nn

from framebench.errors import InputError, unknown
from framebench.extras import require
from framebench.models import foreign
from framebench.models.foreign import Preprocessed, unknown_in, weights_only
from framebench.models.source import Found, Source
from framebench.user_code import reason

#: In place of the name of weights: the untrained architecture.
RANDOM = "random"
_UNTRAINED = "its weights are random, as before a training: its accuracy is that of chance"


def from_torchvision(name: str) -> Found:
    """Load ``NAME`` or ``NAME/WEIGHTS`` of torchvision's classifiers; without WEIGHTS its default ones.

    ``NAME/random`` has random weights, always the same, and is not downloaded.

    Raises:
        InputError: for an unknown name, and for weights that can't be downloaded or read.
    """
    from torchvision import models

    arch, _, tag = name.partition("/")
    if arch not in torchvision_names():
        raise unknown_in("torchvision", arch, torchvision_names())
    choices = models.get_model_weights(arch).__members__
    if tag not in ("", RANDOM, *choices):
        raise unknown(f"weights of torchvision's {arch}", tag, [*choices, RANDOM])
    weights = choices["DEFAULT" if tag in ("", RANDOM) else tag]
    if tag == RANDOM:
        with foreign.random_weights():
            model = models.get_model(arch, weights=None)
    else:
        model = _pretrained(arch, weights)
    given = weights.transforms()
    size, how = (given.crop_size[0], given.crop_size[-1]), given.interpolation.value
    module = Preprocessed(model, given.mean, given.std, size, how).eval()
    return Found(f"torchvision:{arch}/{tag or weights.name}", module,
                 f"torchvision {version('torchvision')} {arch} {size} {how}".encode(),
                 (_UNTRAINED,) if tag == RANDOM else (), foreign.names_of(len(weights.meta["categories"])))


def _pretrained(arch: str, weights: Any) -> nn.Module:
    """Create a model of torchvision with its weights, downloaded if they are not in the cache."""
    from torchvision import models

    path = foreign.torch_cache(weights.url)
    foreign.fetch_url(path, weights.url)
    try:
        with weights_only():
            return models.get_model(arch, weights=weights)  # type: ignore[no-any-return]
    except Exception as error:  # of any type: a file that is not what it should be
        raise foreign.not_read(path, error) from None


def torchvision_names() -> list[str]:
    """Return the names of torchvision's classifiers of images."""
    from torchvision import models
    return list(models.list_models(module=models))


def from_timm(name: str) -> Found:
    """Load a pretrained model of timm: ``NAME``, ``NAME.TAG``, or ``hf-hub:OWNER/REPOSITORY``.

    ``NAME/random``, with any architecture of timm, has random weights, always the same, and is not downloaded.

    Raises:
        InputError: for an unknown name, and for weights that can't be downloaded or read.
    """
    timm = require("timm", "zoo")
    name = name.replace("hf_hub:", "hf-hub:", 1)
    arch, _, tag = name.rpartition("/")
    random = tag == RANDOM and timm.is_model(arch)
    if random:
        with foreign.random_weights():
            model = timm.create_model(arch, pretrained=False)
    else:
        model = _with_weights(timm, name)
    given = timm.data.resolve_model_data_config(model)
    size = (int(given["input_size"][1]), int(given["input_size"][2]))
    how = given["interpolation"] if given["interpolation"] in ("bicubic", "nearest") else "bilinear"
    module = Preprocessed(model, given["mean"], given["std"], size, how).eval()
    labels = model.pretrained_cfg.get("label_names")
    return Found(f"timm:{name}", module, f"timm {version('timm')} {name} {size} {how}".encode(),
                 (_UNTRAINED,) if random else (), tuple(labels) if labels else foreign.names_of(model.num_classes))


def _with_weights(timm: Any, name: str) -> Any:
    """Create a model of timm with the weights of its name."""
    if name.startswith("hf-hub:") and name != "hf-hub:":
        repository = name.removeprefix("hf-hub:")
    elif timm.is_model(name) and timm.models.is_model_pretrained(name):
        origin = timm.models.get_pretrained_cfg(name)
        repository = origin.hf_hub_id
    else:
        raise unknown_in("timm", name, {*timm_names(), *timm.list_models(pretrained=True)})
    if repository:
        return _from_hub(timm, name, repository)
    foreign.fetch_url(place := foreign.torch_cache(origin.url), origin.url)
    return _create(timm, name, place)


def timm_names() -> list[str]:
    """Return the names of timm's pretrained models, with the tag of their weights."""
    return list(require("timm", "zoo").list_pretrained())


def _from_hub(timm: Any, name: str, repository: str) -> nn.Module:
    """Create a model with weights from the Hugging Face hub, if possible from its cache."""
    if not importlib.import_module("timm.models._hub").has_hf_hub():
        # timm 1.0.9, which RobustBench 1.1.1 requires, imports a function that huggingface_hub 2 has dropped.
        raise InputError("this timm can't use this huggingface_hub; pip install 'huggingface_hub>=1,<2'")
    constants = importlib.import_module("huggingface_hub.constants")
    place = Path(constants.HF_HUB_CACHE) / f"models--{repository.partition('@')[0].replace('/', '--')}"
    try:
        with _cached_only(constants):
            return _create(timm, name, place)
    except OSError:  # not in the cache, or not all of it
        pass
    try:
        return _create(timm, name, place)
    except OSError as error:
        raise InputError(f"can't get the weights of timm:{name} ({reason(error)}); load it once where there "
                         f"is a network, and copy {place} to here") from None


def _create(timm: Any, name: str, place: Path) -> nn.Module:
    try:
        with weights_only():
            model: nn.Module = timm.create_model(name, pretrained=True)
    except OSError:  # of the net
        raise
    except Exception as error:  # of any type: a file that is not what it should be
        raise foreign.not_read(f"timm:{name} (in {place})", error) from None
    return model


@contextmanager
def _cached_only(constants: Any) -> Iterator[None]:
    """Keep the hub off the net: it asks there, and for half a minute where there is none, even for what it has."""
    before, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


TORCHVISION = Source(from_torchvision, f"NAME[/WEIGHTS] or torchvision:NAME/{RANDOM}",
                     "pretrained models of torchvision", torchvision_names)
TIMM = Source(from_timm, f"NAME[.TAG], timm:hf-hub:OWNER/REPOSITORY or timm:NAME/{RANDOM}",
              "pretrained models of timm", timm_names)
