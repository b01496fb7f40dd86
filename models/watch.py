"""A log of every layer's frame bounds during training, and the alarm for a training that shrinks its weights away."""

from __future__ import annotations

import csv
from pathlib import Path

import pandas as pd
import torch
from torch import nn

from framebench.errors import InputError
from framebench.files import atomic
from models.regularizers import gershgorin
from models.spectrum import frame_bounds, input_sizes

#: A layer whose mean squared row norm v falls below this share of its first value has collapsed.
COLLAPSE = 1e-4

COLUMNS = ["epoch", "layer", "lower", "upper", "v", "s_over_v"]


class LayerLog:
    """Writes ``layers.csv``: epoch, layer, exact frame bounds (circular padding), v and S / v.

    v and S are the means of the Gram matrix's diagonal and of the absolute sums beside it
    (`models.regularizers.gershgorin`).

    Args:
        path: The file; what it has of later epochs than `done` is dropped, since they are trained again.
        model: The model at the start of the run, or of what is left of it.
        size: Height and width of its images.
        done: Epochs that are done.
    """

    def __init__(self, path: Path, model: nn.Module, size: tuple[int, int], done: float = 0) -> None:
        self.path = path
        self.sizes = input_sizes(model, size)
        self.entries: list[dict[str, float | str]] = []
        if path.is_file() and done:
            stored = pd.read_csv(path)
            self.entries = [{str(key): value for key, value in entry.items()}
                            for entry in stored[stored["epoch"] <= done].to_dict("records")]
        if not self.entries:
            self._note(model, done)

    def add(self, model: nn.Module, epoch: float) -> None:
        """Add an entry a layer, and write.

        Raises:
            InputError: if a layer has collapsed.
        """
        self._note(model, epoch)
        with atomic(self.path) as temporary, open(temporary, "w", newline="") as out:
            writer = csv.DictWriter(out, COLUMNS)
            writer.writeheader()
            writer.writerows(self.entries)
        begin = min(float(entry["epoch"]) for entry in self.entries)
        first = {entry["layer"]: float(entry["v"]) for entry in self.entries if entry["epoch"] == begin}
        for entry in self.entries[-len(first):]:
            if float(entry["v"]) < COLLAPSE * first[entry["layer"]]:
                raise InputError(f"the layer {entry['layer']} has collapsed in epoch {epoch:g}: its mean squared row "
                                 f"norm fell from {first[entry['layer']]:.3g} to {float(entry['v']):.3g}; start again "
                                 "with a lower --gamma, --init delta-orthogonal, or --option relative=true")

    @torch.no_grad()
    def _note(self, model: nn.Module, epoch: float) -> None:
        modules = dict(model.named_modules())
        for name, (v, s) in gershgorin(model).items():
            lower, upper = frame_bounds(modules[name], self.sizes[name])
            self.entries.append({"epoch": epoch, "layer": name, "lower": lower, "upper": upper, "v": v,
                                 "s_over_v": s / v if v else float("inf")})
