"""Prune a checkpoint: zero the filters or weights that matter least.

Writes OUT/NAME.safetensors with its card OUT/NAME.json, which `attack`, `shift` and `frames` take as a model. Filters
are ranked by the Taylor criterion of Molchanov et al. 2017 (arXiv 1611.06440) on training images, or by their norm.
Nothing is retrained. Pruned channels are zeros in the same architecture: this changes what the network computes, not
its speed. Accuracies are measured on the sample and, where --data-root has them, on the test set and on the training
images that the checkpoint was trained without.
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
