"""Signs that a number does not mean what it seems to: a flag each, with a page that says what to do.

A flag is a sentence that ends with its anchor in docs/flags.md. Flags of a model are looked for on a few labelled
images before it is evaluated; flags of results are read off the tables.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
from scipy.optimize import linear_sum_assignment

from domains import Domain
from models.registry import LoadedModel

Predict = Callable[[torch.Tensor], torch.Tensor]

PAGE = "docs/flags.md"
#: Images on which a model is looked at.
IMAGES = 256
#: By this much accuracy must rise under another reading of inputs or labels for that reading to be suggested.
GAIN = 0.3


def flagged(predict: Predict, domain: Domain, model: LoadedModel, known: list[str],
            say: Callable[[str], object]) -> list[str]:
    """Look at a model on the first images of a domain; say what is new, and return all that is known of it."""
    found = model_flags(predict, *domain.load(domain.order[:IMAGES]))
    for flag in found:
        if flag not in known:
            say(f"warning: {model.name}: {flag}")
    return list(dict.fromkeys([*known, *found]))


def model_flags(predict: Predict, x: torch.Tensor, y: torch.Tensor) -> list[str]:
    """Return the flags of a model.

    Args:
        predict: Maps images [n, C, H, W] in [0, 1] to logits [n, classes].
        x: Images [n, C, H, W] in [0, 1], at least 2.
        y: Labels int64 [n].
    """
    logits = predict(x).detach().cpu().double()
    flags = []
    if not torch.equal(logits, predict(x).detach().cpu().double()):
        flags.append(_flag("random", "gives different answers to the same images: an attack then exploits the noise, "
                           "and its rows can't be reproduced"))
    elif _depends_on_batch(predict, x, logits):
        flags.append(_flag("batch", "gives an image other logits among other images (batch norms in training mode?): "
                           "rows depend on the batch"))
    if bool((logits >= 0).all()) and bool(((logits.sum(1) - 1).abs() < 1e-3).all()):
        flags.append(_flag("probabilities", "seems to return probabilities, not logits: the attack's objective "
                           "saturates and its ASR is too low"))
    elif float((_margins(logits) > SATURATED).float().mean()) > 0.5:
        flags.append(_flag("saturated", f"is so sure of most images (margins above {SATURATED:g}) that float32 "
                           "probabilities are exactly 1: attacks that compare probabilities see nothing"))
    right = _accuracy(logits, y)
    if name := _better_scaling(predict, x, y, right):
        flags.append(_flag("normalisation", f"gets {right:.0%} of {len(y)} images right, but far more when they are "
                           f"{name}: its normalisation does not fit inputs in [0, 1]"))
    elif _permuted_accuracy(logits, y) > right + GAIN:
        flags.append(_flag("labels", f"gets {right:.0%} of {len(y)} images right, but far more under another order of "
                           "the classes: its labels are shifted"))
    return flags


def result_flags(attack: pd.DataFrame) -> list[str]:
    """Return the flags of an attack's results, those of ``attack.csv``."""
    flags = []
    for (model, domain, name), group in attack.groupby(["model", "domain", "attack"], sort=False):
        control = group[(group["budget"] == 0) & (group["asr"] > 0)]
        if len(control):
            flags.append(f"{model}: " + _flag("control", f"ASR of {name} on {domain} is {control['asr'].max():.1%} at "
                                              "budget 0: something other than the attack breaks images"))
    by_queries = attack[(attack["unit"] == "queries") & (attack["budget"] > 0)]
    for (model, domain, budget), group in by_queries.groupby(["model", "domain", "budget"], sort=False):
        noise = group[group["attack"].str.startswith("noise")]["ci_low"].max()
        for weak in group[~group["attack"].str.startswith("noise") & (group["ci_high"] < noise)].to_dict("records"):
            flags.append(f"{model}: " + _flag("weaker-than-noise", f"{weak['attack']} on {domain} breaks fewer images "
                                              f"than random noise at {budget:,} queries: the attack fails, the model "
                                              "is not robust"))
    return list(dict.fromkeys(flags))


#: From this margin on the softmax probability of a float32 is exactly 1.
SATURATED = 17.0


def _flag(anchor: str, sentence: str) -> str:
    return f"{sentence} ({PAGE}#{anchor})"


def _margins(logits: torch.Tensor) -> torch.Tensor:
    top = logits.topk(2, dim=1).values
    return top[:, 0] - top[:, 1]


def _accuracy(logits: torch.Tensor, y: torch.Tensor) -> float:
    return float((logits.argmax(1) == y.cpu()).double().mean())


def _depends_on_batch(predict: Predict, x: torch.Tensor, logits: torch.Tensor) -> bool:
    few = predict(x[:2]).detach().cpu().double()
    return float((few - logits[:2]).abs().max()) > 1e-3 * (float(logits.abs().max()) + 1e-6)


def _better_scaling(predict: Predict, x: torch.Tensor, y: torch.Tensor, right: float) -> str | None:
    """Return under which other scaling of its inputs the model is far better, if any."""
    mean, std = x.mean((0, 2, 3), keepdim=True), x.std((0, 2, 3), keepdim=True)
    readings = {"scaled to [0, 255]": 255 * x, "normalised to mean 0 and deviation 1": (x - mean) / std,
                "scaled to [-1, 1]": 2 * x - 1}
    gains = {name: _accuracy(predict(reading), y) - right for name, reading in readings.items()}
    best = max(gains, key=lambda name: gains[name])
    return best if gains[best] > GAIN else None


def _permuted_accuracy(logits: torch.Tensor, y: torch.Tensor) -> float:
    """Return the accuracy under the order of the classes that fits best."""
    counts = np.zeros((logits.shape[1], logits.shape[1]))
    np.add.at(counts, (logits.argmax(1).numpy(), y.cpu().numpy()), 1)
    return float(counts[linear_sum_assignment(-counts)].sum() / len(y))
