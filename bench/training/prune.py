"""Prunes a checkpoint: a copy, measured, with a card that says what was removed."""

from __future__ import annotations

import dataclasses
import logging
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from bench.options.prune import PruneOptions
from bench.running.checks import reading
from bench.running.computing import device as device_of
from bench.running.computing import threads
from bench.running.provenance import provenance
from bench.training.accuracy import batches, measure
from framebench.domains import Domain, Reading, data_root, load_domain, load_test, load_training
from framebench.errors import InputError
from framebench.files import writable_folder
from framebench.models.checkpoint import HELD_OUT, Card, check_name, read_card, save
from framebench.models.prune import prune_
from framebench.models.registry import load
from framebench.models.train import split

_log = logging.getLogger(__name__)


def run(options: PruneOptions) -> tuple[Path, Card]:
    """Prune a checkpoint, measure the pruned copy and write it with its card.

    Returns:
        The path of the weights, and the card.

    Raises:
        InputError: for a model that is not a checkpoint, a device that is not available, or missing training images;
            if the classes are not those of the data, OUT has another checkpoint of the name, or the model can't be
            pruned (`framebench.models.prune.prune_`).
    """
    torch.set_num_threads(threads(options.threads))
    device = device_of(options.device)
    root = data_root(options.data_root)
    model, source = _load_source(options.model)
    images = reading(options, (source.classes,))
    training = _training(options, root, images)
    tests = [load_domain("samples")] if options.dataset == "cifar10" else []
    try:
        tests.append(load_test(options.dataset, root, images))
    except InputError as error:
        _log.info("no accuracy on the test set: %s", error)
    path, card = _prune(model, source, options, training, tests, device)
    if training is not None and all(entry["data"] != HELD_OUT for entry in card.accuracy):
        _log.info("no accuracy on held-out images: %s was trained without any, or not on these files", source.name)
    return path, card


def _training(options: PruneOptions, root: Path | None, images: Reading) -> Domain | None:
    """Return the training set; None if it is missing and not needed."""
    try:
        return load_training(options.dataset, root, images)
    except InputError as error:
        if options.criterion == "taylor":
            raise InputError(f"--criterion taylor needs training images, magnitude needs none: {error}") from None
        _log.info("no accuracy on held-out images: %s", error)
        return None


def _load_source(name: str) -> tuple[nn.Module, Card]:
    loaded = load(name)
    if loaded.card is None:
        raise InputError(f"{name} is not a checkpoint, and a pruned copy without a card could not be loaded again; "
                         "name a shipped model or a .safetensors file")
    return loaded.module, loaded.card


def _prune(model: nn.Module, source: Card, options: PruneOptions, training: Domain | None, tests: list[Domain],
           device: torch.device) -> tuple[Path, Card]:
    """Prune `model` in place, measure it and write it with its card.

    If `training` is the training set of the source, its held-out part scores no filter and is measured at the end.
    """
    name = options.name_of(source.name)
    check_name(name)
    for domain in [*tests, *([] if training is None else [training])]:
        if domain.classes != source.classes:
            raise InputError(f"{source.name} has other classes than {domain.title}; name its own set with --dataset")
    started = time.perf_counter()
    recipe: dict[str, Any] = {
        "method": "pruning", "share": options.share, "criterion": options.criterion, "units": options.units,
        "images": options.images,
        "source": {"name": source.name, "sha256": source.sha256, "recipe": source.recipe}}
    held_out, scored = _held_out(source, training), None
    if training is not None and options.images is not None:
        scored = batches(training, _scoring_ids(training, held_out, options.images), device, 100, "scoring")
        recipe["scored_on"] = {"title": training.title, "sha256": training.digest}
    _check_target(writable_folder(options.out) / f"{name}.safetensors", recipe)
    model.to(device)
    removed = prune_(model, options.share, criterion=options.criterion, units=options.units, batches=scored)
    recipe["removed"] = {layer: {"removed": part, "of": all_} for layer, (part, all_) in removed.items()}
    accuracy = [measure(model, domain, device) for domain in tests]
    if training is not None and len(held_out):
        accuracy.append(measure(model, training, device, ids=held_out, title=HELD_OUT))
    facts = {"device": str(device), **provenance(device), "seconds": round(time.perf_counter() - started),
             "threads": torch.get_num_threads()}
    card = dataclasses.replace(source, name=name, recipe=recipe, accuracy=accuracy, provenance=facts)
    return save(model, card, options.out), card


def _check_target(weights: Path, recipe: dict[str, Any]) -> None:
    """Refuse to overwrite a checkpoint, except an earlier result of the same command."""
    if not weights.exists():
        return
    earlier = read_card(weights).recipe
    if {key: value for key, value in earlier.items() if key != "removed"} != recipe:
        raise InputError(f"{weights} already exists and is another checkpoint; choose another --name or --out")


def _held_out(card: Card, training: Domain | None) -> np.ndarray:
    """Return the ids of the training images that were held out in the checkpoint's training; empty if not known."""
    n = card.data.get("n_validation", 0)
    if training is None or not n or training.digest != card.data.get("sha256"):
        return np.empty(0, dtype=np.int64)
    return split(training.labels, n, training.classes)[1]


def _scoring_ids(training: Domain, held_out: np.ndarray, n: int) -> np.ndarray:
    ids = training.order[~np.isin(training.order, held_out)]
    if n > len(ids):
        raise InputError(f"--images {n} is not possible: {training.title} has {len(ids)} images to score filters with; "
                         f"choose 1 to {len(ids)}")
    return ids[:n]
