"""RobustBench's models by name, of CIFAR-10, CIFAR-100 and ImageNet (Croce et al. 2021, arXiv 2010.09670).

Differences to its own `load_model`: weights go to our cache, never to ./models, which is source code here; a download
that fails leaves nothing behind and says what to do; no pickle can run code, whatever the version of torch. Models of
ImageNet resize images to the size at which the leaderboard evaluates them.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import re
import sys
import warnings
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from framebench.classes import CIFAR10, CIFAR100, imagenet
from framebench.errors import InputError, unknown
from framebench.extras import require
from framebench.files import cache_folder
from framebench.models.foreign import Preprocessed, fetch, fetch_url, not_read, torch_cache, unknown_in, weights_only
from framebench.models.source import Found, Source

#: Data sets and threat models; where a name is of several, the first is meant.
DATASETS = ("cifar10", "cifar100", "imagenet")
THREATS = ("Linf", "L2", "corruptions")

#: RobustBench 1.1.1 moves parts of these to a GPU while it builds them.
_NEED_CUDA = ("Bai2023Improving_edm",)


def load(name: str) -> Found:
    """Load ``[DATASET/]NAME[/THREAT]``; weights that are not in the cache are downloaded.

    Raises:
        InputError: for an unknown name, and for weights that can't be had or read.
    """
    dataset, model, threat = meant(name)
    module = _build(dataset, model, threat)
    label = label_of(dataset, model, threat)
    source = f"robustbench {version('robustbench')} {label}"
    if dataset == "imagenet":
        size, how = _evaluated_at(model, threat)
        module, source = Preprocessed(module, size=size, interpolation=how).eval(), f"{source} {size} {how}"
    return Found(label, module, source.encode(), classes=_classes(dataset))


def names() -> list[str]:
    """Return all names, as `load` takes them; with the threat where the name without it means another."""
    listed, taken = [], set()
    for (dataset, threat), models in _entries().items():
        for model in models:
            forms = [f"{dataset}/{model}", f"{dataset}/{model}/{threat}"]
            if dataset == DATASETS[0]:
                forms = [model, f"{model}/{threat}", *forms]
            listed.append(next(form for form in forms if form not in taken))
            taken.update(forms)
    return listed


def files(dataset: str, model: str, threat: str, drive: str | list[str] | None) -> list[Path]:
    """Return where the weights of a model belong, under the names that RobustBench looks for.

    Args:
        dataset: What it classifies.
        model: Its name.
        threat: Its threat model.
        drive: Its id on Google Drive; several for an ensemble, None for weights from elsewhere.
    """
    path = _root() / dataset / threat / f"{model}.pt"
    return [Path(f"{path}_m{i}.pt") for i in range(len(drive))] if isinstance(drive, list) else [path]


def meant(name: str) -> tuple[str, str, str]:
    """Return data set, model and threat model that a name means."""
    head, _, rest = name.partition("/")
    dataset, (model, _, threat) = (head, rest.partition("/")) if head in DATASETS else (None, name.partition("/"))
    if threat and threat not in THREATS:
        raise unknown("threat model", threat, THREATS)
    found = [known for known, models in _entries().items() if model in models]
    if not found:
        raise unknown_in("robustbench", model, sorted({known for models in _entries().values() for known in models}))
    for of, against in found:
        if dataset in (None, of) and threat in ("", against):
            return of, model, against
    raise InputError(f"robustbench has {model} for {' and '.join(map('/'.join, found))}, not for "
                     f"{'/'.join(filter(None, (dataset, threat)))}")


def label_of(dataset: str, model: str, threat: str) -> str:
    """Return what tables call a model."""
    return f"{model}/{threat}" if dataset == DATASETS[0] else f"{dataset}/{model}/{threat}"


def _build(dataset: str, model: str, threat: str) -> nn.Module:
    """Fetch the weights where they are not in the cache, build the architecture and load them."""
    if model in _NEED_CUDA and not torch.cuda.is_available():
        raise InputError(f"robustbench builds {model} on an NVIDIA GPU only, and there is none here")
    drive = _entries()[dataset, threat][model]["gdrive_id"]
    paths = files(dataset, model, threat, drive)
    if drive is None:
        fetch_url(paths[0], _timm_config(dataset, model, threat).url)
    elif not drive:  # Standard_R50, which torchvision builds, with the weights in torch's cache
        from torchvision.models import ResNet50_Weights
        paths = [torch_cache(url := ResNet50_Weights.IMAGENET1K_V1.url)]
        fetch_url(paths[0], url)
    else:
        for path, key in zip(paths, drive if isinstance(drive, list) else [drive], strict=True):
            fetch(path, f"https://drive.google.com/uc?id={key}",
                  lambda to, key=key: require("gdown", "zoo").download(id=key, output=to))  # type: ignore[misc]
    try:
        with weights_only(), contextlib.redirect_stdout(sys.stderr):  # some architectures print what they are
            if drive is None:
                built = importlib.import_module("timm").create_model(
                    _timm_name(dataset, model, threat), pretrained=True, num_classes=len(_classes(dataset)),
                    pretrained_cfg_overlay={"file": str(paths[0])})
            else:
                built = _import().load_model(model, model_dir=_root(), dataset=dataset, threat_model=threat)
    except Exception as error:  # of any type: RobustBench takes files apart as it expects them to be
        raise not_read(" or ".join(map(str, paths)), error) from None
    module: nn.Module = built.eval()
    return module


def _evaluated_at(model: str, threat: str) -> tuple[tuple[int, int], str]:
    """Return the size at which RobustBench evaluates a model of ImageNet, and the interpolation that leads there."""
    entry = _entries()["imagenet", threat][model]
    if entry["gdrive_id"] is None:
        config = _timm_config("imagenet", model, threat)
        return (config.input_size[1], config.input_size[2]), config.interpolation
    size = re.search(r"\d+$", entry["preprocessing"])  # such as BicubicRes256Crop224
    assert size is not None, entry["preprocessing"]
    return (int(size[0]), int(size[0])), "bicubic" if "Bicubic" in entry["preprocessing"] else "bilinear"


def _classes(dataset: str) -> tuple[str, ...]:
    return {"cifar10": CIFAR10, "cifar100": CIFAR100, "imagenet": imagenet().names}[dataset]


def _timm_name(dataset: str, model: str, threat: str) -> str:
    return f"{model}_{dataset}_{threat}".lower().replace("-", "_")


def _timm_config(dataset: str, model: str, threat: str) -> Any:
    return require("timm.models", "zoo").get_pretrained_cfg(_timm_name(dataset, model, threat))


def _root() -> Path:
    return cache_folder() / "robustbench"


def _entries() -> dict[tuple[str, str], dict[str, Any]]:
    """Return RobustBench's own entries: data set and threat model -> name -> entry."""
    _import()
    zoo = importlib.import_module("robustbench.model_zoo")
    enums = importlib.import_module("robustbench.model_zoo.enums")
    found = ((dataset, threat, zoo.model_dicts[enums.BenchmarkDataset(dataset)].get(enums.ThreatModel(threat)))
             for dataset in DATASETS for threat in THREATS)
    return {(dataset, threat): models for dataset, threat, models in found if models is not None}


@cache
def _import() -> Any:
    """Import `robustbench.utils`; that takes seconds, so it is done for those who ask for one of its models.

    RobustBench 1.1.1 imports `autoattack`, but the package that it requires installs the module `pyautoattack`: the
    missing name is given to it here. It also imports `pkg_resources`, which setuptools has dropped in version 81;
    pyproject.toml holds it below. Both can go with the first release of RobustBench that imports as installed.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of deprecated imports, theirs to mend
        if importlib.util.find_spec("robustbench") and importlib.util.find_spec("autoattack") is None:
            for part in ("", ".autoattack", ".state"):
                sys.modules[f"autoattack{part}"] = require(f"pyautoattack{part}", "zoo")
        return require("robustbench.utils", "zoo")


SOURCE = Source(load, "[cifar10|cifar100|imagenet/]NAME[/Linf|L2|corruptions]", "RobustBench's models, downloaded once",
                names)
