"""Train a model, with or without a regularizer.

Trains on a data set under --data-root or on your own class folders, and writes OUT/NAME.safetensors with its card
OUT/NAME.json. OUT/NAME/ holds the training state, log.csv, layers.csv (frame bounds of every layer) and the kept
epochs, which other commands take as OUT/NAME@EPOCH. A killed training resumes from the last epoch. Part of the training
set is held out for choosing options; the test set is evaluated once, at the end.
"""

from __future__ import annotations

from bench.cli.messages import print_accuracies
from bench.options.train import TrainOptions

OPTIONS = TrainOptions


def run(options: TrainOptions) -> None:
    """Train, and print the accuracies."""
    from bench.training.train import run as train

    for path, card in train(options):
        print_accuracies(path, card)
