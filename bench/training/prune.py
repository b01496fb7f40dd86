"""A pruned copy of a checkpoint, measured and with a card that says what was removed."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from bench.running.provenance import provenance
from bench.training.accuracy import batches, measure
from framebench.domains import Domain
from framebench.errors import InputError
from framebench.files import writable_folder
from framebench.models.checkpoint import HELD_OUT, Card, check_name, read_card, save
from framebench.models.prune import prune_
from framebench.models.registry import load
from framebench.models.train import split


@dataclass(frozen=True)
class Request:
    """How to prune.

    Attributes:
        share: Share of all filters or weights of the convolutions, in (0, 1).
        criterion: One of `framebench.models.prune.CRITERIA`.
        units: One of `framebench.models.prune.UNITS`.
        images: Training images for the criterion "taylor"; None for another.
    """

    share: float
    criterion: str
    units: str
    images: int | None


def load_source(name: str) -> tuple[nn.Module, Card]:
    """Load the checkpoint that is to be pruned (see `framebench.models.registry.load`), and its card.

    Raises:
        InputError: for an unknown name, and for models that are no checkpoint.
    """
    loaded = load(name)
    if loaded.card is None:
        raise InputError(f"{name} is no checkpoint, and a pruned copy without a card could not be loaded again; name a "
                         "shipped model or a .safetensors file")
    return loaded.module, loaded.card


def prune_checkpoint(model: nn.Module, source: Card, request: Request, name: str, training: Domain | None,
                     tests: list[Domain], out: Path, device: torch.device) -> tuple[Path, Card]:
    """Prune, measure and write ``OUT/NAME.safetensors`` with its card.

    Where `training` is what the source was trained on, its held-out part scores no filter and is measured at the end.

    Args:
        model: The checkpoint's model, pruned in place.
        source: The checkpoint's card.
        request: How to prune.
        name: Name of the pruned checkpoint.
        training: The training set; None where it is not at hand, which "taylor" does not allow.
        tests: Sets to measure the pruned model on.
        out: Where to write.
        device: Where to compute.

    Returns:
        The path of the weights, and the card.

    Raises:
        InputError: if the classes are not those of the data, OUT has another checkpoint of that name, or the model
            can't be pruned so (`framebench.models.prune.prune_`).
    """
    check_name(name)
    for domain in [*tests, *([] if training is None else [training])]:
        if domain.classes != source.classes:
            raise InputError(f"{source.name} has other classes than {domain.title}; name its own set with --dataset")
    started = time.perf_counter()
    recipe: dict[str, Any] = {
        "method": "pruning", **dataclasses.asdict(request),
        "source": {"name": source.name, "sha256": source.sha256, "recipe": source.recipe}}
    held_out, scored = _held_out(source, training), None
    if training is not None and request.images is not None:
        scored = batches(training, _scoring_ids(training, held_out, request.images), device, 100, "scoring")
        recipe["scored_on"] = {"title": training.title, "sha256": training.digest}
    _check_target(writable_folder(out) / f"{name}.safetensors", recipe)
    model.to(device)
    removed = prune_(model, request.share, criterion=request.criterion, units=request.units, batches=scored)
    recipe["removed"] = {layer: {"removed": part, "of": all_} for layer, (part, all_) in removed.items()}
    accuracy = [measure(model, domain, device) for domain in tests]
    if training is not None and len(held_out):
        accuracy.append(measure(model, training, device, ids=held_out, title=HELD_OUT))
    made = {"device": str(device), **provenance(device), "seconds": round(time.perf_counter() - started),
            "threads": torch.get_num_threads()}
    card = dataclasses.replace(source, name=name, recipe=recipe, accuracy=accuracy, provenance=made)
    return save(model, card, out), card


def _check_target(weights: Path, recipe: dict[str, Any]) -> None:
    """Refuse to write over anything but an earlier result of the same request."""
    if not weights.exists():
        return
    found = read_card(weights).recipe
    if {key: value for key, value in found.items() if key != "removed"} != recipe:
        raise InputError(f"{weights} is there already and is another checkpoint; choose another --name or --out")


def _held_out(card: Card, training: Domain | None) -> np.ndarray:
    """Return the training images (ids) that were held out when the checkpoint was trained; none where not known."""
    n = card.data.get("n_validation", 0)
    if training is None or not n or training.digest != card.data.get("sha256"):
        return np.empty(0, dtype=np.int64)
    return split(training.labels, n)[1]


def _scoring_ids(training: Domain, held_out: np.ndarray, n: int) -> np.ndarray:
    ids = training.order[~np.isin(training.order, held_out)]
    if n > len(ids):
        raise InputError(f"--images {n} is not possible: {training.title} has {len(ids)} images to score filters with; "
                         f"choose 1 to {len(ids)}")
    return ids[:n]
