"""List the models, domains and attacks that there are, or the names in one zoo of others' models."""

from __future__ import annotations

import argparse

from bench.cli.options import add_data_root

#: Sources of models whose names are too many for the common list; importing them takes seconds.
ZOOS = ("robustbench", "timm", "torchvision")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's options."""
    parser.add_argument("zoo", nargs="?", choices=ZOOS, help="list all names of this zoo instead, one a line")
    add_data_root(parser)


def run(arguments: argparse.Namespace) -> None:
    """Print them."""
    if arguments.zoo:
        _print_zoo(arguments.zoo)
        return

    from bench.options.protocol import NAMES
    from framebench.attacks.registry import ATTACKS
    from framebench.domains import data_root, default_domain, describe
    from framebench.models.architectures import ARCHITECTURES
    from framebench.models.registry import SOURCES, default_models, shipped
    from framebench.models.regularizers import REGULARIZERS

    print("models (shipped, * taken by default; also a path to NAME.safetensors, or RUN@EPOCH):")
    defaults = default_models()
    for name, card in shipped().items():
        measured = "; ".join(f"{entry['accuracy']:.2%} of {entry['n']} on {entry['data']}" for entry in card.accuracy)
        print(f"  {name}{'*' if name in defaults else ''}: {card.arch} of width {card.width}, {measured}")
    print(f"models that others made (all names: bench list {' | '.join(ZOOS)}):")
    for name, source in SOURCES.items():
        print(f"  {name}:{source.form}: {source.summary}")
    root = data_root(arguments.data_root)
    print(f"domains (default here: {default_domain(root)}):")
    for name, what in describe().items():
        print(f"  {name}: {what}")
    print("attacks:")
    for name, what in ATTACKS.items():
        print(f"  {name}: {what}")
    print(f"protocols: {', '.join(NAMES)}, or your own FILE.toml")
    print(f"architectures to train: {', '.join(ARCHITECTURES)}; regularizers: {', '.join(REGULARIZERS)}")


def _print_zoo(zoo: str) -> None:
    from framebench.models import robustbench_zoo
    from framebench.models import zoo as public

    names = {"robustbench": robustbench_zoo.names, "timm": public.timm_names,
             "torchvision": public.torchvision_names}[zoo]
    print("\n".join(f"{zoo}:{name}" for name in names()))
