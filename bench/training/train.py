"""Trains checkpoints: from a recipe to the weights with their card, kept epochs and logs."""

from __future__ import annotations

import dataclasses
import logging
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from bench.options.train import TrainOptions
from bench.running.checks import reading
from bench.running.cluster import pool
from bench.running.computing import device as device_of
from bench.running.computing import threads
from bench.running.provenance import provenance
from bench.running.watch import WATCH
from bench.training.accuracy import measure
from framebench.domains import Domain, data_root, load_domain, load_test, load_training
from framebench.domains.bars import counted
from framebench.domains.imagefiles import ImageFiles
from framebench.errors import InputError
from framebench.files import lock, sweep, writable_folder
from framebench.models.architectures import ARCHITECTURES
from framebench.models.checkpoint import HELD_OUT, Card, check_name, save, stored
from framebench.models.recipe import Recipe
from framebench.models.train import Trainer
from framebench.models.watch import LayerLog
from framebench.progress import progress

_log = logging.getLogger(__name__)


def run(options: TrainOptions) -> list[tuple[Path, Card]]:
    """Train a checkpoint for every seed, and write it with its card, its kept epochs and its logs.

    Returns:
        The path of the weights and the card of each.

    Raises:
        InputError: for missing data or a device that is not available; and see `train_checkpoint`.
    """
    root, device = data_root(options.data_root), device_of(options.device)
    if not options.spread:
        return _train_seeds(options, options.seeds, root, device)
    written: list[tuple[Path, Card]] = []
    with pool(options) as workers, progress(len(options.seeds), unit="training", desc="train") as bar:
        def done(task: Training, checkpoint: tuple[Path, Card]) -> None:
            written.append(checkpoint)
            bar.update()

        lost = workers.compute(_train_seed, [Training(options, seed, root) for seed in options.seeds], done,
                               silent=True)
    if lost:
        seeds = ", ".join(str(task.seed) for task in lost)
        raise InputError(f"the trainings with the seeds {seeds} were given up, since several workers died of each or "
                         "hung; give the workers more memory, or look into their logs; the same command goes on with "
                         "them")
    return sorted(written, key=lambda entry: options.seeds.index(entry[1].recipe["seed"]))


@dataclass(frozen=True)
class Training:
    """A training, as a worker gets it.

    Attributes:
        options: The command's options.
        seed: One of their seeds.
        root: Folder of the data sets.
    """

    options: TrainOptions
    seed: int
    root: Path | None

    def __str__(self) -> str:
        return f"the training with the seed {self.seed}"


def _train_seed(task: Training) -> tuple[Path, Card]:
    hook = register_optimizer_step_post_hook(lambda *_: WATCH.alive())
    try:
        (written,) = _train_seeds(task.options, [task.seed], task.root, device_of(task.options.device))
    finally:
        hook.remove()
    return written


def _train_seeds(options: TrainOptions, seeds: Sequence[int], root: Path | None,
                 device: torch.device) -> list[tuple[Path, Card]]:
    """Train a checkpoint for each seed in this process; see `run`."""
    torch.set_num_threads(threads(options.threads))
    training = load_training(options.dataset, root, reading(options))
    _check_memory(training)
    test = load_test(options.dataset, root, reading(options, (training.classes,)))
    if test.classes != training.classes:
        raise InputError(f"{training.title} and {test.title} have different classes; name their folders alike")
    tests = [*([load_domain("samples")] if options.dataset == "cifar10" else []), test]
    written = []
    for seed in seeds:
        recipe = options.recipe(seed, device)
        name = options.name_of(recipe)
        _log.info("training %s on %s, %s, %s", name, training.title, device, recipe.precision)
        written.append(train_checkpoint(name, recipe, training, tests, options.out, device, half=options.half,
                                        compile=options.compile, log_every=options.log_every,
                                        keep_every=options.keep_every))
        _log.info("%s is trained; logs, kept epochs and state are in %s", name, options.out / name)
    return written


def train_checkpoint(name: str, recipe: Recipe, training: Domain, tests: list[Domain], out: Path,
                     device: torch.device, *, half: bool = False, compile: bool = False, log_every: int = 1,
                     keep_every: int = 1) -> tuple[Path, Card]:
    """Train, measure and write ``OUT/NAME.safetensors`` with its card.

    The folder ``OUT/NAME/`` gets the state to resume from, ``log.csv``, ``layers.csv`` (`framebench.models.watch`) and
    ``epochs/NAME@EPOCH.safetensors``: every epoch and the half-epochs of the last third, in half precision. The last
    epoch is always logged and kept. Without a state to resume from, existing kept epochs belong to an earlier run and
    are removed. A card's provenance is that of the last process; other ones are listed under ``resumed``.

    Args:
        name: The checkpoint's name.
        recipe: How to train.
        training: The training set, including the part that the recipe holds out.
        tests: Sets on which the finished model is measured, once.
        out: The output folder.
        device: The device.
        half: Whether to store the final weights as float16, which are then measured on the test sets. Accuracy on
            held-out images is measured in the precision of the training. Kept epochs are always float16.
        compile: Whether to compile the model.
        log_every: Epochs between two entries of ``layers.csv``, whose exact bounds may take longer than an epoch.
        keep_every: Epochs between two kept ones, which take megabytes each. Half-epochs are kept only if it is 1.

    Returns:
        The path of the weights, and the card.

    Raises:
        InputError: if the folder holds another run, a process is training there, the loss is not finite, or the weights
            collapse.
    """
    check_name(name)
    if "@" in name:
        raise InputError(f"--name {name}: the part after @ is the epoch of a kept model; use a name without")
    if device.type == "mps":
        raise InputError("the frame bounds in the log of a training need float64, which mps lacks; use --device cpu")
    folder = writable_folder(out / name)
    card = Card(name=name, arch=recipe.arch, width=recipe.width or ARCHITECTURES[recipe.arch][1],
                classes=training.classes, data={"title": training.title, "sha256": training.digest},
                recipe=dataclasses.asdict(recipe), accuracy=[], provenance={})
    facts = {"device": str(device), **provenance(device), "threads": torch.get_num_threads(), "compile": compile}

    def keep(model: nn.Module, epoch: float, accuracy: float) -> None:
        last = epoch == recipe.epochs
        if last or keep_every == 1 or epoch % keep_every == 0:
            kept = dataclasses.replace(card, name=f"{name}@{epoch:g}", accuracy=_held_out(accuracy, trainer),
                                       provenance=_provenance(trainer))
            save(model, kept, folder / "epochs", dtype=torch.float16)
        if last or epoch % log_every == 0:
            layers.add(model, epoch)

    with lock(folder / ".lock", f"another run is training in {folder}; wait for it, or choose another --name"):
        sweep(folder, below=True)
        trainer = Trainer(_pixels(training), training.labels, training.classes, recipe, folder, device,
                          training.digest, keep=keep, compile=compile, provenance=facts)
        if not trainer.epoch:
            for path in (folder / "epochs").glob(f"{name}@*"):
                if path.suffix in (".safetensors", ".json"):
                    path.unlink()
        layers = LayerLog(folder / "layers.csv", trainer.model, training.images.shape[1:3], done=trainer.epoch)
        card.data.update(n_train=len(trainer.training), n_validation=len(trainer.held_out))
        model = trainer.run()
        if half:
            model.load_state_dict(stored(model, torch.float16))
        accuracy = [*(measure(model, domain, device) for domain in tests),
                    *_held_out(trainer.log[-1]["validation_accuracy"], trainer)]
        seconds = round(sum(entry["seconds"] for entry in trainer.log))
        card = dataclasses.replace(card, accuracy=accuracy, provenance={**_provenance(trainer), "seconds": seconds})
        return save(model, card, out, dtype=torch.float16 if half else torch.float32), card


def _check_memory(training: Domain) -> None:
    """Refuse image files that do not fit into memory, all of which a training keeps decoded.

    Raises:
        InputError: if the machine has too little.
    """
    needed = 3 * math.prod(training.images.shape)  # as decoded, the training part of them, and this part padded
    if hasattr(os, "sysconf") and needed > os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"):
        raise InputError(f"a training on {training.title} needs {needed / 2**30:.0f} GiB of memory, more than this "
                         "machine has; choose a smaller --image-size, or fewer images")


def _pixels(domain: Domain) -> np.ndarray:
    """Return all images of a domain, uint8 [n, H, W, 3]; files are decoded."""
    if not isinstance(domain.images, ImageFiles):
        return domain.images
    pixels = np.empty(domain.images.shape, dtype=np.uint8)
    with counted(len(pixels), desc="decoding", unit="image", least=2000) as done:
        for start in range(0, len(pixels), 500):
            part = pixels[start : start + 500]
            part[:] = domain.images[start : start + 500]
            done(len(part))
    return pixels


def _provenance(trainer: Trainer) -> dict[str, Any]:
    *earlier, last = trainer.provenances
    return {**last, "resumed": earlier} if earlier else last


def _held_out(accuracy: float, trainer: Trainer) -> list[dict[str, Any]]:
    n = len(trainer.held_out)
    return [{"data": HELD_OUT, "n": n, "correct": round(accuracy * n), "accuracy": accuracy}] if n else []
