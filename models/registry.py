"""Models by name: shipped checkpoints, checkpoint files, pretrained models, and a user's own code.

To add a source of models, write ``models/NAME.py`` with a `framebench.models.source.Source`, and register it in
`SOURCES`.
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from framebench.errors import InputError, printable, unknown
from framebench.identity import fingerprint
from framebench.models import robustbench_zoo, state_dict, user_models, zoo
from framebench.models.blackbox import BlackBoxModel
from framebench.models.checkpoint import Card, load_checkpoint, read_card
from framebench.models.precision import BF16, InBFloat16
from framebench.models.source import in_eval_mode

#: The folder of the shipped checkpoints.
CHECKPOINTS = Path(__file__).parent / "checkpoints"


@dataclass(frozen=True)
class LoadedModel:
    """A model that is ready to be evaluated.

    Attributes:
        name: Label in tables.
        module: Maps images [n, 3, H, W] in [0, 1] to logits; in eval mode.
        digest: sha256 of all that its outputs depend on: architecture or source, and all tensors.
        card: The card, if it is a checkpoint.
        notes: Remarks for the user, one line each.
        classes: Class names in the order of the logits, if known.
        given: The name that `load` takes; empty for a module object.
    """

    name: str
    module: nn.Module
    digest: str
    card: Card | None
    notes: tuple[str, ...] = ()
    classes: tuple[str, ...] | None = None
    given: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", printable(self.name))


def shipped() -> dict[str, Card]:
    """Return the cards of the shipped checkpoints, which commands use by default, by name; the baseline first."""
    return {name: read_card(path) for name, path in _shipped().items()}


def default_models() -> list[str]:
    """Return the names of the shipped checkpoints, the baseline first; no card is read."""
    return list(_shipped())


def load(name: str | os.PathLike[str]) -> LoadedModel:
    """Load a model by name.

    Args:
        name: A shipped checkpoint (see `shipped`); the path of a ``.safetensors`` file with its card beside it;
            ``RUN@EPOCH``, a kept epoch of the training run in the folder RUN, such as ``runs/train/mine@38.5``; or
            ``SOURCE:NAME`` as in `SOURCES`: pretrained models of RobustBench, timm and torchvision, a state dict of a
            named architecture, or the result of a function without arguments. The function's code is run; no other
            file can run code. ``bf16:NAME`` is any of these, computed in bfloat16.

    Raises:
        InputError: for an unknown name, and for files and functions that don't give a model.
    """
    if not isinstance(name, str | os.PathLike):
        raise InputError(f"a model is loaded by its name or path, not by a {type(name).__name__}")
    name = os.path.expanduser(os.fspath(name))
    if name.startswith(BF16):
        return in_bfloat16(load(name.removeprefix(BF16)))
    source, colon, rest = name.partition(":")
    if colon and source in SOURCES:
        model = SOURCES[source].load(rest)
        return LoadedModel(model.label, model.module, _digest(model.source, model.module), None, model.notes,
                           model.classes, name)
    path = _weights(name)
    module, card = load_checkpoint(path)
    return LoadedModel(card.name, module, _digest(f"{card.arch} {card.width}".encode(), module), card,
                       classes=card.classes, given=name)


def in_bfloat16(model: LoadedModel) -> LoadedModel:
    """Return a model that computes in bfloat16, with its own name and digest.

    Raises:
        InputError: for a black box, whose computation can't be changed.
    """
    if isinstance(model.module, InBFloat16):
        return model
    if isinstance(model.module, BlackBoxModel):
        raise InputError(f"{model.name} is a black box, so its precision can't be changed; name it without {BF16}")
    return dataclasses.replace(model, name=BF16 + model.name, given=model.given and BF16 + model.given,
                               module=InBFloat16(model.module).eval(),
                               digest=hashlib.sha256(f"{BF16}{model.digest}".encode()).hexdigest())


def without_weights(model: LoadedModel) -> LoadedModel:
    """Return a copy of a model on the device "meta", without memory for tensors; as it is if it can't be copied."""
    try:
        tensors = [*model.module.parameters(), *model.module.buffers()]
        empty = {id(t): nn.Parameter(t.detach().to("meta"), t.requires_grad) if isinstance(t, nn.Parameter) else
                 t.detach().to("meta") for t in tensors}
        return dataclasses.replace(model, module=copy.deepcopy(model.module, empty))
    except Exception:  # a stranger's class can raise anything
        return model


def wrap(module: nn.Module, name: str) -> LoadedModel:
    """Wrap a module from images in [0, 1] to logits, and put it into eval mode.

    Its digest covers its tensors, the code of its modules' classes and their attributes (see `framebench.identity` for
    the limits). An attribute `classes` of the module, a list of strings, names its logits.
    """
    in_eval_mode(module, name)
    return LoadedModel(name, module, fingerprint(module), None, classes=user_models.classes_of(module))


def card_of(name: str) -> Card:
    """Return the card of a checkpoint by name (see `load`).

    Raises:
        InputError: for an unknown name, and for models that have no card.
    """
    name = name.removeprefix(BF16)
    if name.partition(":")[0] in SOURCES:
        raise InputError(f"{name} is not a checkpoint, so it has no card with its held-out accuracy")
    return read_card(_weights(name))


def kept_epochs(run: str) -> dict[float, Card]:
    """Return the cards of the epochs that a training run has kept, by epoch.

    Args:
        run: The folder of the run.

    Raises:
        InputError: if it keeps none, or a card is missing or damaged.
    """
    folder = Path(run) / "epochs"
    cards = {}
    for path in folder.glob(f"{Path(run).name}@*.safetensors"):
        try:
            epoch = float(path.stem.rpartition("@")[2])
        except ValueError:  # a file with another kind of name
            continue
        cards[epoch] = read_card(path)
    if not cards:
        raise InputError(f"{run} is not the folder of a training run with kept epochs ({folder} has none)")
    return dict(sorted(cards.items()))


def load_model(name: str | os.PathLike[str]) -> nn.Module:
    """Load a model by name (see `load`): an `nn.Module` in eval mode, from [0, 1] images to logits."""
    return load(name).module


def _shipped() -> dict[str, Path]:
    paths = CHECKPOINTS.glob("*.safetensors")
    return {path.stem: path for path in sorted(paths, key=lambda path: (path.stem != "baseline", path.stem))}


def _weights(name: str) -> Path:
    """Return the weights file of a checkpoint by its name."""
    path = Path(name)
    if (shipped_path := _shipped().get(name)) is not None:
        return shipped_path
    run, _, epoch = name.rpartition("@")
    if run and Path(run).is_dir() and re.fullmatch(r"\d+(\.\d+)?", epoch, re.ASCII):
        kept = Path(run) / "epochs" / f"{Path(run).name}@{float(epoch):g}.safetensors"
        if not kept.is_file():
            raise InputError(f"the run {run} keeps no epoch {epoch}; it keeps "
                             f"{', '.join(f'{number:g}' for number in kept_epochs(run))}")
        return kept
    weights = Path(f"{name}.safetensors")
    if path.is_dir():
        raise InputError(f"{name} is a folder; of a training run name an epoch, as {name}@EPOCH" +
                         (f", or the trained model, {weights}" if weights.is_file() else ""))
    if weights.is_file():
        raise InputError(f"unknown model '{name}'; did you mean {weights}?")
    if path.suffix != ".safetensors":
        if path.exists():
            raise InputError(f"{name} is not a .safetensors file; pickled checkpoints are not read, since they can "
                             f"run code; name its architecture too, as state:ARCH:{name}, or a factory as "
                             "python:FILE.py:FUNCTION")
        if name.partition(":")[0].endswith(".py"):
            raise InputError(f"unknown source of models '{name.partition(':')[0]}'; did you mean python:{name}?")
        if ":" in name:
            raise unknown("source of models", name.partition(":")[0], SOURCES)
        raise unknown("model", name, _shipped())
    if not path.is_file():
        raise InputError(f"there is no checkpoint {path}")
    return path


def _digest(source: bytes, module: nn.Module) -> str:
    sha = hashlib.sha256(source)
    for name, tensor in sorted(module.state_dict().items()):
        if not isinstance(tensor, torch.Tensor) or tensor.is_quantized or tensor.layout != torch.strided:
            sha.update(f"{name}{fingerprint(tensor)}".encode())
            continue
        flat = tensor.detach().cpu().contiguous()
        sha.update(f"{name}{flat.dtype}{tuple(flat.shape)}".encode())
        sha.update(flat.reshape(-1).view(torch.uint8).numpy().tobytes())
    if any(isinstance(part, torch.jit.ScriptModule) for part in module.modules()):
        sha.update(fingerprint(module).encode())  # a frozen one has its weights in its code
    return sha.hexdigest()


#: Prefix before the colon -> source of the models with that prefix.
SOURCES = {
    "robustbench": robustbench_zoo.SOURCE,
    "timm": zoo.TIMM,
    "torchvision": zoo.TORCHVISION,
    "state": state_dict.SOURCE,
    "python": user_models.FACTORY,
    "blackbox": user_models.BLACK_BOX,
}
