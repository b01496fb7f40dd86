"""Train a checkpoint.

Trains on the CIFAR-10 training set under --data-root and writes OUT/NAME.safetensors with its card OUT/NAME.json;
the state after every epoch and the log stay in OUT/NAME/. Killed and started again, it goes on from the last epoch.
Part of the training set is held out for choosing options; the test set is measured once, at the end.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

from bench.commands.options import add_compute, add_data_root, device, positive_int, seed_int, threads


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's options."""
    add = parser.add_argument
    add("--arch", default="resnet18", help="resnet18, resnet20, resnet34, resnet50 or speednet (default: resnet18)")
    add("--width", type=positive_int, default=None, help="channels of the first stage (default: the usual width)")
    add("--regularizer", default="none", choices=["none"], help="only none so far")
    add("--epochs", type=int, default=30, help="passes over the training part (default: 30)")
    add("--batch", type=int, default=256, dest="batch_size", help="images a step (default: 256)")
    add("--lr", type=float, default=0.4, help="peak learning rate of the one-cycle schedule (default: 0.4)")
    add("--weight-decay", type=float, default=5e-4, help="decay of weight matrices (default: 5e-4)")
    add("--label-smoothing", type=float, default=0.1, help="(default: 0.1)")
    add("--pad", type=int, default=4, help="random crops shift by up to this many pixels (default: 4)")
    add("--cutout", type=int, default=0, help="side of the blanked square, 0 for none (default: 0)")
    add("--validation", type=int, default=2500, help="training images held out (default: 2500)")
    add("--precision", choices=["auto", "fp32", "bf16"], default="auto",
        help="auto (default): bf16 where the processor has it")
    add("--seed", type=seed_int, default=0, help="(default: 0)")
    add("--name", default=None, help="name of the checkpoint (default: ARCH-wWIDTH-sSEED)")
    add("--out", type=Path, default=Path("runs/train"), help="where to write (default: runs/train)")
    add("--half", action="store_true", help="store the weights as float16")
    add_data_root(parser)
    add_compute(parser)


def run(arguments: argparse.Namespace) -> None:
    """Train, measure, write."""
    import torch

    from bench.provenance import provenance
    from domains import data_root
    from domains.cifar import load_cifar10
    from framebench.files import writable_folder
    from models.checkpoint import Card, save
    from models.train import Recipe, Trainer, best_precision

    torch.set_num_threads(threads(arguments.threads))
    chosen = device(arguments.device)
    fields = {f.name for f in dataclasses.fields(Recipe)}
    options = {key: value for key, value in vars(arguments).items() if key in fields}
    options["precision"] = best_precision(chosen) if arguments.precision == "auto" else arguments.precision
    recipe = Recipe(**options)
    name = arguments.name or f"{recipe.arch}-w{recipe.width or 'default'}-s{recipe.seed}"
    folder = writable_folder(arguments.out / name)
    root = data_root(arguments.data_root)
    training = load_cifar10(root, "train")
    print(f"training {name} on {training.title}, {chosen}, {recipe.precision}", flush=True)
    trainer = Trainer(training.images, training.labels, len(training.classes), recipe, folder, chosen, training.digest)
    model = trainer.run()
    model = model.cpu()
    if arguments.half:  # what is measured is what is stored
        model = model.half().float()
    accuracy = _measure(model, root, trainer)
    card = Card(name=name, arch=recipe.arch, width=_width(recipe), classes=training.classes,
                data={"title": training.title, "sha256": training.digest, "n_train": len(trainer.training),
                      "n_validation": len(trainer.held_out)},
                recipe={**dataclasses.asdict(recipe), "regularizer": arguments.regularizer}, accuracy=accuracy,
                provenance={**provenance(), "seconds": round(sum(e["seconds"] for e in trainer.log)),
                            "threads": torch.get_num_threads(), "device": str(chosen)})
    path = save(model, card, arguments.out, dtype=torch.float16 if arguments.half else torch.float32)
    for entry in accuracy:
        print(f"{entry['accuracy']:.2%} ({entry['correct']} of {entry['n']}) on {entry['data']}")
    print(f"wrote {path} and {path.with_suffix('.json').name}; log and state in {folder}")


def _width(recipe: Any) -> int:
    from models.architectures import ARCHITECTURES
    return int(recipe.width or ARCHITECTURES[recipe.arch][1])


def _measure(model: Any, root: Path | None, trainer: Any) -> list[dict[str, Any]]:
    import torch

    from domains import load_domain
    from domains.cifar import has_cifar10

    names = ["samples", *(["cifar10"] if root is not None and has_cifar10(root) else [])]
    measured = []
    with torch.inference_mode():
        for domain in map(lambda name: load_domain(name, root), names):
            correct = 0
            for start in range(0, len(domain), 500):
                x, y = domain.load(range(start, min(start + 500, len(domain))))
                correct += int((model(x).argmax(1) == y).sum())
            measured.append({"data": domain.title, "n": len(domain), "correct": correct,
                             "accuracy": correct / len(domain)})
    validation = trainer.log[-1]["validation_accuracy"]
    n = len(trainer.held_out)
    if n:
        measured.append({"data": "held-out part of the training set", "n": n, "correct": round(validation * n),
                         "accuracy": validation})
    return measured
