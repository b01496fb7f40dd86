"""Prune a checkpoint: zero the filters or weights that matter least.

Writes OUT/NAME.safetensors with its card OUT/NAME.json, which `attack`, `shift` and `frames` take as a model. Filters
are ranked by the Taylor criterion of Molchanov et al. 2017 (arXiv 1611.06440) on training images, or by their norm.
Nothing is retrained. Pruned channels are zeros in the same architecture: this changes what the network computes, not
its speed. Accuracies are measured on the sample and, where --data-root has them, on the test set and on the training
images that the checkpoint was trained without.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from bench.cli.options import add_compute, add_data_root, device, positive_int, threads
from framebench.errors import InputError

if TYPE_CHECKING:
    from framebench.domains import Domain


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's options."""
    add = parser.add_argument
    add("model", metavar="MODEL", help="a shipped name, a .safetensors path or RUN@EPOCH")
    add("--share", type=_share, required=True, metavar="S",
        help="share of the filters (weights) of all convolutions to remove, between 0 and 1; each keeps one at least")
    add("--criterion", choices=["taylor", "magnitude"], default="taylor",
        help="taylor (default): |activation * gradient|, of weights |w * gradient|; magnitude: the norm, needs no data")
    add("--structured", choices=["filters", "weights"], default="filters", dest="units",
        help="filters (default): whole channels, ranked relative to their layer; weights: one by one")
    add("--dataset", choices=["cifar10", "cifar100", "svhn"], default="cifar10",
        help="what the model was trained on (default: cifar10)")
    add("--images", type=positive_int, default=None, metavar="N",
        help="for taylor, the first N training images of the common, class-balanced order (default: 1000)")
    add("--name", default=None, help="name of the pruned checkpoint (default: MODEL-CRITERION-STRUCTURED-SHARE)")
    add("--out", type=Path, default=Path("runs/prune"), help="where to write (default: runs/prune)")
    add_data_root(parser)
    add_compute(parser)


def run(arguments: argparse.Namespace) -> None:
    """Prune, measure, write."""
    import torch

    from bench.training.prune import Request, load_source, prune_checkpoint
    from framebench.domains import data_root, load_domain
    from framebench.models.checkpoint import HELD_OUT

    images = arguments.images
    if arguments.criterion == "taylor":
        images = images or 1000
    elif images:
        raise InputError("--images without --criterion taylor does nothing; leave it away")
    torch.set_num_threads(threads(arguments.threads))
    chosen = device(arguments.device)
    root = data_root(arguments.data_root)
    model, source = load_source(arguments.model)
    training = _training(arguments, root)
    tests = [load_domain("samples")] if arguments.dataset == "cifar10" else []
    try:
        tests.append(load_domain(arguments.dataset, root))
    except InputError as error:
        print(f"no accuracy on the test set: {error}", flush=True)
    name = arguments.name or f"{source.name}-{arguments.criterion}-{arguments.units}-{arguments.share:g}"
    request = Request(arguments.share, arguments.criterion, arguments.units, images)
    path, card = prune_checkpoint(model, source, request, name, training, tests, arguments.out, chosen)
    if training is not None and all(entry["data"] != HELD_OUT for entry in card.accuracy):
        print(f"no accuracy on held-out images: {source.name} was trained without any, or not on these files")
    for layer, count in card.recipe["removed"].items():
        print(f"{layer}: {count['removed']} of {count['of']} {arguments.units} removed")
    for entry in card.accuracy:
        print(f"{entry['accuracy']:.2%} ({entry['correct']} of {entry['n']}) on {entry['data']}")
    print(f"wrote {path} and {path.with_suffix('.json').name}", flush=True)


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0 < value < 1:  # refuses nan too
        raise argparse.ArgumentTypeError(f"must be a number between 0 and 1, both excluded, not {text}")
    return value


def _training(arguments: argparse.Namespace, root: Path | None) -> Domain | None:
    """Return the training set; None where it is not at hand and not needed."""
    from framebench.domains import load_training

    try:
        return load_training(arguments.dataset, root)
    except InputError as error:
        if arguments.criterion == "taylor":
            raise InputError(f"--criterion taylor needs training images, magnitude needs none: {error}") from None
        print(f"no accuracy on held-out images: {error}", flush=True)
        return None
