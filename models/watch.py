"""A log of every layer's frame bounds during training, and a check for collapsing weights."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from framebench.derived import check_derived, write_entries
from framebench.errors import DivergedError, InputError
from framebench.models.regularizers import Regularizer, gershgorin
from framebench.models.regularizers.gram import mean_diagonal
from framebench.models.regularizers.layers import find_layers
from framebench.models.spectrum import input_sizes, spectrum

#: Steps between two checks of the scale of the weights: a collapse takes tens of steps, an epoch may take hours.
WATCH_EVERY = 50
#: The weights have collapsed if v of the median layer is below this share of its initial value (`ScaleWatch`). The
#: penalty alone reduces it to 0.03 (three convolutions of 64 channels from Kaiming's initialisation), training resnet20
#: with gamma 0.1 to 0.14; in the training of `baseline`, without a penalty, it stays above 1.1.
COLLAPSE = 0.2

#: Column -> quantile of a layer's eigenvalues. The extremes alone say little about a layer, and a smallest eigenvalue
#: below about 1e-7 changes when the weights are rounded to half precision, as in kept epochs.
QUANTILES = {"lower": 0.0, "q01": 0.01, "q05": 0.05, "q50": 0.5, "q95": 0.95, "q99": 0.99, "upper": 1.0}
COLUMNS = ["epoch", "layer", *QUANTILES, *(f"folded_{name}" for name in QUANTILES), "v", "s_over_v"]


class ScaleWatch:
    """Checks v, the mean of the Gram matrix's diagonal, of the layers whose scale a regularizer bounds.

    If the off-diagonal sums S exceed v, the study's penalty always decreases with the weights, and before a batch norm
    the cross-entropy does not depend on their scale. Initial values above the upper bound are clamped to it, since the
    penalty is meant to reduce them. The median is compared, since one small layer is no collapse.

    Other trainings are not checked: other regularizers don't shrink weights to 0, and weight decay, alone or with a
    scale-free penalty, may end at a small scale.

    Args:
        model: The model at the start of the training; later checks look at the same object.
        regularizer: The regularizer, or None.
    """

    def __init__(self, model: nn.Module, regularizer: Regularizer | None) -> None:
        self.layers = regularizer.held_layers(model) if regularizer else []
        self.upper = float(getattr(regularizer, "upper", float("inf")))
        self.first = self._scales() if self.layers else torch.empty(0)

    def check(self, epoch: float) -> None:
        """Check the weights during an epoch.

        Raises:
            DivergedError: if they have collapsed.
        """
        if not self.layers:
            return
        now = self._scales()
        share = float((now / self.first.clamp(max=self.upper)).median())
        if share < COLLAPSE:
            raise DivergedError(f"the weights have collapsed in epoch {epoch:g}: the mean squared row norm of the "
                                f"regularized layers fell from {float(self.first.median()):.3g} to "
                                f"{float(now.median()):.3g} (medians); start again under another --name with a lower "
                                "--gamma, --init delta-orthogonal, or --option relative=true")

    @torch.no_grad()
    def _scales(self) -> torch.Tensor:
        """Return v of every layer, as `gershgorin` does, but without its Gram."""
        return torch.stack([mean_diagonal(layer.operator_kernel()) for layer in self.layers])


class LayerLog:
    """Writes ``layers.csv``: epoch, layer, its spectrum by `QUANTILES`, the same with batch norm folded, v and S / v.

    The spectra are exact, for circular padding; their extremes are the frame bounds. Folded, a layer's rows are
    multiplied by the scale of the batch norm after it (`framebench.models.regularizers.folding`); a layer without one
    has the same numbers twice. v and S are the means of the Gram matrix's diagonal and of the absolute sums beside it
    (`framebench.models.regularizers.gershgorin`).

    Args:
        path: The file; entries of epochs after `done` are dropped, since these are trained again.
        model: The model at the start of the run, or where it is resumed.
        size: Height and width of its images.
        done: Number of completed epochs.

    Raises:
        InputError: if the file is not such a log.
    """

    def __init__(self, path: Path, model: nn.Module, size: tuple[int, int], done: float = 0) -> None:
        self.path = path
        self.sizes = input_sizes(model, size)
        self.entries: list[dict[str, float | str]] = []
        if path.is_file() and done:
            try:
                content = path.read_bytes()
                check_derived(path, content)
                stored = pd.read_csv(io.BytesIO(content))[COLUMNS]
                stored = stored[stored["epoch"] <= done]
            except (OSError, KeyError, TypeError, ValueError) as error:
                raise InputError(f"{path} is not a log of the layers' frame bounds ({type(error).__name__}); remove "
                                 f"it, and the log starts again at epoch {done:g}") from None
            self.entries = [{str(key): value for key, value in entry.items()} for entry in stored.to_dict("records")]
        if not self.entries:
            self.add(model, done)

    def add(self, model: nn.Module, epoch: float) -> None:
        """Add one entry per layer, and write."""
        self._note(model, epoch)
        write_entries(self.path, COLUMNS, self.entries)

    @torch.no_grad()
    def _note(self, model: nn.Module, epoch: float) -> None:
        gram, shares = gershgorin(model), np.array(list(QUANTILES.values()))
        for layer in find_layers(model, folded=True):
            size = self.sizes[layer.name]
            plain = spectrum(layer.module, size).quantiles(shares).tolist()
            folded = spectrum(layer.module, size, layer.norm).quantiles(shares).tolist() if layer.norm else plain
            v, s = gram[layer.name]
            values = [epoch, layer.name, *plain, *folded, v, s / v if v else float("inf")]
            self.entries.append(dict(zip(COLUMNS, values, strict=True)))
