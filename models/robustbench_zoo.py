"""RobustBench's CIFAR-10 models by name (Croce et al. 2021, arXiv 2010.09670).

Differences to its own `load_model`: weights go to our cache, never to ./models, which is source code here; a download
that fails leaves nothing behind and says what to do; no pickle can run code, whatever the version of torch.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
import warnings
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from framebench.errors import InputError, unknown
from framebench.extras import require
from framebench.files import cache_folder
from framebench.models.foreign import fetch, fetch_url, not_read, unknown_in, weights_only
from framebench.models.source import Found, Source

#: Threat models; where a name is in several, the first is meant.
THREATS = ("Linf", "L2", "corruptions")

#: RobustBench 1.1.1 moves parts of these to a GPU while it builds them.
_NEED_CUDA = ("Bai2023Improving_edm",)


def load(name: str) -> Found:
    """Load ``NAME`` or ``NAME/THREAT``; weights that are not in the cache are downloaded.

    Raises:
        InputError: for an unknown name, and for weights that can't be had or read.
    """
    model, _, asked = name.partition("/")
    entries = _entries()
    if asked and asked not in THREATS:
        raise unknown("threat model", asked, THREATS)
    if model not in {known for threat in THREATS for known in entries[threat]}:
        raise unknown_in("robustbench", model, sorted({known for threat in THREATS for known in entries[threat]}))
    if asked and model not in entries[asked]:
        raise InputError(f"robustbench has {model} for {' and '.join(t for t in THREATS if model in entries[t])}, "
                         f"not for {asked}")
    threat = asked or next(threat for threat in THREATS if model in entries[threat])
    module = _build(model, threat, entries[threat][model]["gdrive_id"])
    return Found(f"{model}/{threat}", module, f"robustbench {version('robustbench')} {model}/{threat}".encode())


def names() -> list[str]:
    """Return all names, as `load` takes them; with the threat where the bare name means another."""
    entries = _entries()
    first = {name: threat for threat in reversed(THREATS) for name in entries[threat]}
    return [name if first[name] == threat else f"{name}/{threat}" for threat in THREATS for name in entries[threat]]


def files(model: str, threat: str, drive: str | list[str] | None) -> list[Path]:
    """Return where the weights of a model belong, under the names that RobustBench looks for.

    Args:
        model: Its name.
        threat: Its threat model.
        drive: Its id on Google Drive; several for an ensemble, None for weights from elsewhere.
    """
    path = _root() / "cifar10" / threat / f"{model}.pt"
    return [Path(f"{path}_m{i}.pt") for i in range(len(drive))] if isinstance(drive, list) else [path]


def _build(model: str, threat: str, drive: str | list[str] | None) -> nn.Module:
    """Fetch the weights where they are not in the cache, build the architecture and load them."""
    if model in _NEED_CUDA and not torch.cuda.is_available():
        raise InputError(f"robustbench builds {model} on an NVIDIA GPU only, and there is none here")
    paths = files(model, threat, drive)
    timm_name = f"{model}_cifar10_{threat}".lower().replace("-", "_")
    if drive is None:
        fetch_url(paths[0], require("timm.models", "zoo").get_pretrained_cfg(timm_name).url)
    else:
        for path, key in zip(paths, drive if isinstance(drive, list) else [drive], strict=True):
            fetch(path, f"https://drive.google.com/uc?id={key}",
                  lambda to, key=key: require("gdown", "zoo").download(id=key, output=to))  # type: ignore[misc]
    try:
        with weights_only(), contextlib.redirect_stdout(sys.stderr):  # some architectures print what they are
            if drive is None:
                built = importlib.import_module("timm").create_model(
                    timm_name, pretrained=True, num_classes=10, pretrained_cfg_overlay={"file": str(paths[0])})
            else:
                built = _import().load_model(model, model_dir=_root(), dataset="cifar10", threat_model=threat)
    except Exception as error:  # of any type: RobustBench takes files apart as it expects them to be
        raise not_read(" or ".join(map(str, paths)), error) from None
    module: nn.Module = built.eval()
    return module


def _root() -> Path:
    return cache_folder() / "robustbench"


def _entries() -> dict[str, dict[str, Any]]:
    """Return RobustBench's own entries by threat model and name."""
    _import()
    zoo = importlib.import_module("robustbench.model_zoo")
    enums = importlib.import_module("robustbench.model_zoo.enums")
    return {threat: zoo.model_dicts[enums.BenchmarkDataset.cifar_10][enums.ThreatModel(threat)] for threat in THREATS}


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


SOURCE = Source(load, "NAME[/Linf|L2|corruptions]", "RobustBench's CIFAR-10 models, downloaded once", names)
