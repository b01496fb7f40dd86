"""Train a checkpoint, with a regularizer or without.

Trains on a data set under --data-root and writes OUT/NAME.safetensors with its card OUT/NAME.json. In OUT/NAME/ stay
the state after every epoch, log.csv, layers.csv (frame bounds of every layer) and the kept epochs, which
`bench shift --models OUT/NAME@EPOCH` names. Killed and started again, it goes on from the last epoch. Part of the
training set is held out for choosing options; the test set is measured once, at the end.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

from bench.cli.options import add_compute, add_data_root, device, positive_int, seed_int, threads
from framebench.keyvalue import parse_pairs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's options."""
    add = parser.add_argument
    add("--dataset", choices=["cifar10", "cifar100", "svhn"], default="cifar10", help="(default: cifar10)")
    add("--arch", default="resnet18", help="resnet18, resnet20, resnet34, resnet50 or speednet (default: resnet18)")
    add("--width", type=positive_int, default=None, help="channels of the first stage (default: the usual width)")
    add("--epochs", type=int, default=30, help="passes over the training part (default: 30)")
    add("--batch", type=int, default=256, dest="batch_size", help="images a step (default: 256)")
    add("--lr", type=float, default=0.4, help="peak learning rate of the one-cycle schedule (default: 0.4)")
    add("--weight-decay", type=float, default=None,
        help="decay of all weight matrices (default: 5e-4; 0 for the layers that an absolute frame takes, whose upper "
        "bound takes over)")
    add("--label-smoothing", type=float, default=0.1, help="(default: 0.1)")
    add("--pad", type=int, default=4, help="random crops shift by up to this many pixels (default: 4)")
    add("--cutout", type=int, default=0, help="side of the blanked square, 0 for none (default: 0)")
    add("--validation", type=int, default=2500, help="training images held out (default: 2500)")
    group = parser.add_argument_group("regularizer")
    group.add_argument("--regularizer", default="none", metavar="R", help="none (default), frame, frame-spectral, "
                       "ocnn, srip, so, dso, mc, mhe; `bench list` shows all")
    group.add_argument("--gamma", type=float, default=None, help="coefficient of the penalty (default: the "
                       "regularizer's own)")
    group.add_argument("--every", type=positive_int, default=None, help="apply the penalty every K steps, times K "
                       "(default: the regularizer's own)")
    group.add_argument("--option", nargs="+", default=[], metavar="KEY=VALUE", dest="options",
                       help="options of the regularizer, such as lower=0.5 upper=1.5 relative=true; all are in "
                       "docs/regularizers.md")
    group.add_argument("--init", default="default", help="default, or delta-orthogonal")
    add("--precision", choices=["auto", "fp32", "bf16"], default="auto",
        help="auto (default): bf16 where the processor has it")
    add("--compile", action="store_true", help="compile the model (pays on a GPU)")
    add("--seeds", type=seed_int, nargs="+", default=[0], metavar="S", help="one run each (default: 0)")
    add("--name", default=None, help="name of the checkpoint (default: ARCH-wWIDTH-REGULARIZER); with several seeds, "
        "-sSEED is added")
    add("--out", type=Path, default=Path("runs/train"), help="where to write (default: runs/train)")
    add("--log-every", type=positive_int, default=1, metavar="N",
        help="log the layers' frame bounds every N epochs, first and last always (default: 1)")
    add("--keep-every", type=positive_int, default=1, metavar="N",
        help="keep every Nth epoch and the last one; above 1 no half-epochs (default: 1, with half-epochs in the last "
        "third)")
    add("--half", action="store_true", help="store the weights as float16")
    add_data_root(parser)
    add_compute(parser)


def run(arguments: argparse.Namespace) -> None:
    """Train, measure, write."""
    import torch

    from bench.training.train import train_checkpoint
    from framebench.domains import data_root, load_domain, load_training

    torch.set_num_threads(threads(arguments.threads))
    chosen = device(arguments.device)
    recipes = [_recipe(arguments, chosen, seed) for seed in arguments.seeds]
    root = data_root(arguments.data_root)
    training = load_training(arguments.dataset, root)
    tests = [*([load_domain("samples")] if arguments.dataset == "cifar10" else []),
             load_domain(arguments.dataset, root)]
    first = recipes[0]
    base = arguments.name or "-".join([first.arch, f"w{first.width or 'default'}", first.regularizer])
    for recipe in recipes:
        name = base if len(recipes) == 1 else f"{base}-s{recipe.seed}"
        print(f"training {name} on {training.title}, {chosen}, {recipe.precision}", flush=True)
        path, card = train_checkpoint(name, recipe, training, tests, arguments.out, chosen, half=arguments.half,
                                      compile=arguments.compile, log_every=arguments.log_every,
                                      keep_every=arguments.keep_every)
        for entry in card.accuracy:
            print(f"{entry['accuracy']:.2%} ({entry['correct']} of {entry['n']}) on {entry['data']}")
        print(f"wrote {path} and {path.with_suffix('.json').name}; logs, kept epochs and state in "
              f"{arguments.out / name}", flush=True)


def _recipe(arguments: argparse.Namespace, chosen: Any, seed: int) -> Any:
    """Return the recipe that the options mean for one seed; what they leave open it fills in itself."""
    from framebench.models.recipe import Recipe, best_precision

    given = vars(arguments)
    options = {f.name: given[f.name] for f in dataclasses.fields(Recipe) if given.get(f.name) is not None}
    options["precision"] = best_precision(chosen) if arguments.precision == "auto" else arguments.precision
    options["flip"] = arguments.dataset != "svhn"  # a mirrored digit is another or none
    return Recipe(**options, regularizer_options=parse_pairs(arguments.options, "--option"), seed=seed)
