"""Checkpoints: weights as safetensors, which contain no code, and a JSON card that describes them.

``NAME.safetensors`` holds the state dict, including the normalisation; ``NAME.json`` holds the `Card`. Nothing is
unpickled, and an incomplete checkpoint is refused.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from safetensors.torch import save as as_bytes
from torch import nn

from framebench.errors import InputError
from framebench.files import atomic, regular
from framebench.models.architectures import build

#: Valid names of checkpoints; "@" is for kept epochs of a training.
_NAME = r"[A-Za-z0-9][A-Za-z0-9._@-]*"
#: Entries of every accuracy on a card.
_MEASURED = {"data", "n", "correct", "accuracy"}
#: Name on cards of the part of the training set that is used for model selection.
HELD_OUT = "held-out part of the training set"


@dataclass(frozen=True)
class Card:
    """Description of a checkpoint.

    Attributes:
        name: Its name.
        arch: Architecture, a name of `framebench.models.architectures.ARCHITECTURES`.
        width: Channels of the first stage.
        classes: Names of the classes, in the order of the logits.
        data: The training data: ``title``, ``sha256`` of images and labels, ``n_train``, ``n_validation``.
        recipe: All options of the training (`framebench.models.recipe.Recipe`), including the seed.
        accuracy: Measured clean accuracies: ``data``, ``n``, ``correct``, ``accuracy``.
        provenance: Versions, commit, hardware and seconds of the training; ``resumed`` has those of earlier processes
            of the run if they differ.
        sha256: Digest of the weights file.
    """

    name: str
    arch: str
    width: int
    classes: tuple[str, ...]
    data: dict[str, Any]
    recipe: dict[str, Any]
    accuracy: list[dict[str, Any]]
    provenance: dict[str, Any]
    sha256: str = ""


def check_name(name: str) -> None:
    """Check that a name is valid for a checkpoint: in file names, terminals and pages.

    Raises:
        InputError: if not.
    """
    if not re.fullmatch(_NAME, name):
        raise InputError(f"a checkpoint can't be called {name!r}: use letters, digits, dots, dashes and underscores, a "
                         "letter or digit first; its folder is named apart")


def save(model: nn.Module, card: Card, folder: Path, *, dtype: torch.dtype = torch.float32) -> Path:
    """Write ``NAME.safetensors`` and ``NAME.json`` into `folder` and return the path of the weights.

    Args:
        model: The model, whose `stored` tensors are written.
        card: Its card; `sha256` is filled in here.
        folder: Where to write.
        dtype: torch.float32, or torch.float16 for half the size.
    """
    tensors = {name: t.cpu().contiguous() for name, t in stored(model, dtype).items()}
    weights, content = folder / f"{card.name}.safetensors", as_bytes(tensors)
    digest = hashlib.sha256(content).hexdigest()
    with atomic(weights.with_suffix(".json")) as temporary:  # first: weights without a card are of unknown origin
        filled = dataclasses.asdict(dataclasses.replace(card, sha256=digest))
        temporary.write_text(json.dumps(filled, indent=1) + "\n")
    with atomic(weights) as temporary:
        temporary.write_bytes(content)
    return weights


def stored(model: nn.Module, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Return a model's state dict with floating-point tensors converted to `dtype`, as it is stored.

    A tensor that would not stay finite keeps its type: variances may exceed 65,504, the largest float16.
    """
    tensors = {}
    for name, tensor in model.state_dict().items():
        converted = tensor.to(dtype) if tensor.is_floating_point() else tensor
        tensors[name] = (converted if torch.isfinite(converted).all() else tensor).detach()
    return tensors


def read_card(weights: Path) -> Card:
    """Read the card beside a weights file.

    Raises:
        InputError: if there is none, or it is not a card.
    """
    path = weights.with_suffix(".json")
    try:
        entries = json.loads(regular(path).read_text())
    except OSError:
        raise InputError(f"{weights} has no readable card {path.name} beside it; a checkpoint is both files") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"the card {path} is not JSON ({error})") from None
    kinds = {"name": str, "arch": str, "width": int, "classes": list, "data": dict, "recipe": dict,
             "accuracy": list, "provenance": dict, "sha256": str}
    if not isinstance(entries, dict) or set(entries) != set(kinds):
        odd = sorted(set(kinds) ^ set(entries)) if isinstance(entries, dict) else ["not an object"]
        raise InputError(f"the card {path} is wrong: missing or unknown entries {', '.join(odd)}")
    for key, kind in kinds.items():
        if not isinstance(entries[key], kind) or isinstance(entries[key], bool):
            raise InputError(f"the card {path} is wrong: '{key}' must be of type {kind.__name__}")
    check_name(entries["name"])
    counts = {"seed": entries["recipe"].get("seed", 0), "n_validation": entries["data"].get("n_validation", 0)}
    for key, value in counts.items():
        if not _is_count(value):
            raise InputError(f"the card {path} is wrong: '{key}' must be an integer of at least 0")
    if not all(map(_is_measured, entries["accuracy"])):
        raise InputError(f"the card {path} is wrong: an accuracy must have {', '.join(sorted(_MEASURED))}, correct of "
                         "n and their ratio, from 0 to 1")
    return Card(**{**entries, "classes": tuple(map(str, entries["classes"]))})


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_measured(entry: object) -> bool:
    return (isinstance(entry, dict) and set(entry) == _MEASURED and isinstance(entry["data"], str)
            and _is_count(entry["n"]) and _is_count(entry["correct"]) and isinstance(entry["accuracy"], int | float)
            and 0 <= entry["accuracy"] <= 1 and entry["correct"] <= entry["n"]
            and abs(entry["accuracy"] - entry["correct"] / max(1, entry["n"])) < 1e-6)


def load_checkpoint(weights: Path) -> tuple[nn.Module, Card]:
    """Build the model that the card names and load the weights into it.

    Returns:
        The model, float32, in eval mode, channels-last; and its card.

    Raises:
        InputError: if the file is missing, truncated, not safetensors or not the one of the card, or a tensor is
            missing, unknown, of another shape, or has a value that is not finite.
    """
    card = read_card(weights)
    try:
        content = regular(weights).read_bytes()
    except OSError as error:
        raise InputError(f"can't read the checkpoint {weights} ({error.strerror})") from None
    try:
        tensors = load(content)
    except SafetensorError as error:
        raise InputError(f"{weights} is not a whole safetensors file ({error}); other formats, pickles above all, "
                       "are not read") from None
    if card.sha256 and hashlib.sha256(content).hexdigest() != card.sha256:
        raise InputError(f"{weights} is not the file that its card describes (sha256 differs); get both files again, "
                       "or empty the card's sha256 if you changed the weights yourself")
    with torch.device("meta"):  # no memory is allocated before the file is known to match the card
        check_tensors(build(card.arch, width=card.width, num_classes=len(card.classes)), tensors, weights)
    model = build(card.arch, width=card.width, num_classes=len(card.classes))
    model.load_state_dict(tensors)
    return model.eval().to(memory_format=torch.channels_last), card


def check_tensors(model: nn.Module, tensors: dict[str, torch.Tensor], source: Path, teller: str = "card") -> None:
    """Check that a state dict can be loaded into a model.

    Args:
        model: The model; it may lie on the device "meta".
        tensors: The state dict.
        source: The file, for messages.
        teller: What named the architecture, for messages.

    Raises:
        InputError: if a tensor is missing, unknown, of another shape or kind of number, or has a value that is not
            finite.
    """
    expected = model.state_dict()
    if missing := [name for name in expected if name not in tensors]:
        raise InputError(f"{source} lacks the tensor '{missing[0]}' ({len(missing)} are missing); is the {teller}'s "
                         "arch right?")
    if extra := [name for name in tensors if name not in expected]:
        raise InputError(f"{source} has the unknown tensor '{extra[0]}' ({len(extra)} are unknown); is the "
                         f"{teller}'s arch right?")
    for name, tensor in tensors.items():
        if tensor.shape != expected[name].shape:
            raise InputError(f"{source}: tensor '{name}' has the shape {list(tensor.shape)}, not "
                           f"{list(expected[name].shape)}; is the {teller}'s width right, and its number of classes?")
        kind = expected[name].dtype
        if kind.is_floating_point and not tensor.is_floating_point():
            raise InputError(f"{source}: tensor '{name}' is of {tensor.dtype}, not of {kind}; is the {teller}'s arch "
                             "right?")
        if not torch.isfinite(tensor.to(kind)).all():  # 1e300 of float64 is infinite in float32
            raise InputError(f"{source}: tensor '{name}' has values that are not finite (NaN or infinite)")
