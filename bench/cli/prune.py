"""Prune a checkpoint: zero the least important filters or weights.

Writes OUT/NAME.safetensors with its card OUT/NAME.json, which `attack`, `shift` and `frames` take as a model. Filters
are ranked by the Taylor criterion of Molchanov et al. 2017 (arXiv 1611.06440) on training images, or by their norm.
Nothing is retrained. Pruned channels are set to zero, so the architecture and its speed do not change. Accuracy is
measured on the sample and, if --data-root has them, on the test set and the held-out training images.
"""

from __future__ import annotations

from bench.cli.messages import print_accuracies
from bench.options.prune import PruneOptions

OPTIONS = PruneOptions


def run(options: PruneOptions) -> None:
    """Prune, and print what was removed and the accuracies."""
    from bench.training.prune import run as prune

    path, card = prune(options)
    for layer, count in card.recipe["removed"].items():
        print(f"{layer}: {count['removed']} of {count['of']} {options.units} removed")
    print_accuracies(path, card)
