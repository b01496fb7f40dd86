"""List the models, domains and attacks that there are."""

from __future__ import annotations

import argparse

from bench.commands.options import add_data_root


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's options."""
    add_data_root(parser)


def run(arguments: argparse.Namespace) -> None:
    """Print them."""
    from attacks.simba import CHOICES
    from domains import data_root, default_domain, describe
    from models.architectures import ARCHITECTURES
    from models.registry import shipped
    from models.regularizers import REGULARIZERS

    print("models (shipped; also a path to NAME.safetensors, RUN@EPOCH, or python:FILE.py:FUNCTION):")
    for name, card in shipped().items():
        measured = "; ".join(f"{entry['accuracy']:.2%} of {entry['n']} on {entry['data']}" for entry in card.accuracy)
        print(f"  {name}: {card.arch} of width {card.width}, {measured}")
    root = data_root(arguments.data_root)
    print(f"domains (default here: {default_domain(root)}):")
    for name, what in describe().items():
        print(f"  {name}: {what}")
    print("attacks:\n  simba: " + "; ".join(f"--{name} {' | '.join(values)}" for name, values in CHOICES.items()))
    print(f"architectures to train: {', '.join(ARCHITECTURES)}; regularizers: {', '.join(REGULARIZERS)}")
