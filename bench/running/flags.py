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
from torch import nn

from framebench.domains import Domain
from framebench.models.registry import LoadedModel

Predict = Callable[[torch.Tensor], torch.Tensor]

PAGE = "docs/flags.md"
#: Images on which a model is looked at.
IMAGES = 256
#: Images of which a model is asked REPEATS times, since one that chooses between two ways at random often agrees.
FEW, REPEATS = 16, 8
#: By this much accuracy must rise under another reading of inputs or labels for that reading to be suggested.
GAIN = 0.3
#: Images whose gradients are looked at, and the share of flat ones from which gradients are said to be masked.
GRADIENTS, MASKED = 16, 0.1
#: A gradient is flat if its L1 norm, the most that a step to anywhere in [0, 1] changes the margin by first order, is
#: at most this share of the margin. A piecewise linear model without biases has a norm of at least the whole margin.
FLAT = 1e-3
#: Steps that a white-box attack must have had to be called weak.
WHITE_BOX_STEPS = 20
#: Share of images from which training images among them are worth a flag.
TWICE = 0.001


def flagged(predict: Predict, domain: Domain, model: LoadedModel, say: Callable[[str], object]) -> list[str]:
    """Look at a model on the first images of a domain; say what is found, and return it."""
    x, y = domain.load(domain.order[:IMAGES])
    found = model_flags(predict, x, y) + gradient_flags(model.module, x[:GRADIENTS], y[:GRADIENTS])
    for flag in found:
        say(f"warning: {model.name}: {flag}")
    return found


def model_flags(predict: Predict, x: torch.Tensor, y: torch.Tensor) -> list[str]:
    """Return the flags of a model.

    Args:
        predict: Maps images [n, C, H, W] in [0, 1] to logits [n, classes].
        x: Images [n, C, H, W] in [0, 1], at least 2.
        y: Labels int64 [n].
    """
    logits = predict(x).detach().cpu().double()
    flags = []
    again = [predict(x[:FEW]).detach().cpu().double() for _ in range(REPEATS)]
    if not all(torch.equal(again[0], answer) for answer in again[1:]):
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


def gradient_flags(module: nn.Module, x: torch.Tensor, y: torch.Tensor) -> list[str]:
    """Return the flag of a model whose gradients lead nowhere (Athalye et al. 2018, arXiv 1802.00420).

    The gradient is that of the margin of logits: cross-entropy's is flat for every model that is sure. Nothing is left
    on the model.

    Args:
        module: A model in eval mode, on any device.
        x: Images [n, C, H, W] in [0, 1].
        y: Labels int64 [n].
    """
    where = next((tensor.device for tensor in [*module.parameters(), *module.buffers()]), x.device)
    with torch.inference_mode(False), torch.enable_grad():
        images = x.detach().clone().to(where).requires_grad_()
        try:
            logits = module(images)
            if logits.grad_fn is None:
                return [_flag("gradients", "is not differentiable in its images: white-box attacks can't be run")]
            right = logits.gather(1, y.to(where)[:, None])[:, 0]
            others = logits.scatter(1, y.to(where)[:, None], -torch.inf).amax(1)
            (gradient,) = torch.autograd.grad((right - others).sum(), images, allow_unused=True)
        except Exception as error:  # a stranger's model can raise anything
            if "nference tensor" in str(error):  # it keeps what it made under inference mode: no property of the model
                return []
            return [_flag("gradients", f"fails when gradients are asked for ({type(error).__name__}): white-box "
                          "attacks can't be run")]
    if gradient is None:
        return [_flag("gradients", "is not differentiable in its images: white-box attacks can't be run")]
    slope, margin = gradient.flatten(1).abs().sum(1), (right - others).detach().abs()
    flat = float(((slope <= FLAT * margin) | ~slope.isfinite()).double().mean())
    if flat <= MASKED:
        return []
    return [_flag("gradients", f"has gradients that vanish or are not finite on {flat:.0%} of {len(x)} images: "
                  "white-box attacks fail there, and that is not robustness")]


def result_flags(attack: pd.DataFrame) -> list[str]:
    """Return the flags of an attack's results, those of ``attack.csv``."""
    flags = []
    for (model, domain, name), group in attack.groupby(["model", "domain", "attack"], sort=False):
        control = group[(group["budget"] == 0) & (group["asr"] > 0)]
        if len(control):
            flags.append(f"{model}: " + _flag("control", f"ASR of {name} on {domain} is {control['asr'].max():.1%} at "
                                              "budget 0: something other than the attack breaks images"))
    return list(dict.fromkeys([*flags, *_weaker_than_noise(attack), *_weak_white_boxes(attack)]))


def duplicate_flags(domain: str, right: np.ndarray, twice: np.ndarray) -> list[str]:
    """Return the flag of a model on a set that has training images among its own.

    Args:
        domain: Name of the set.
        right: Which images the model gets right, bool [n].
        twice: Which images are training images, bool [n].
    """
    if twice.mean() < TWICE:
        return []
    without = f"{right[~twice].mean():.1%} without them" if not twice.all() else "no others are left"
    return [_flag("duplicates", f"{int(twice.sum()):,} of {len(twice):,} images of {domain} ({twice.mean():.1%}) are, "
                  f"exactly or nearly, images of CIFAR-10's training set: accuracy is {right.mean():.1%}, {without}")]


def _weaker_than_noise(attack: pd.DataFrame) -> list[str]:
    """Flag SimBA where it breaks fewer images than its control: noise along its own directions, of the same step."""
    flags = []
    kind = attack["attack"].str.extract("^(?P<kind>simba|noise)-(?P<basis>[a-z]+)")
    # Under a bound of its own, in another order, from the clip's images or towards a target: not what noise does.
    other = attack["attack"].str.contains("-linf|-low-frequency|-normalised-clip|-targeted")
    both = attack.join(kind)[kind["kind"].notna() & ~other & (attack["unit"] == "queries") & (attack["budget"] > 0)]
    alike = ["model", "domain", "n", "budget", "basis", "epsilon", "norm", "bound"]
    for (model, domain, _, budget, *_), group in both.groupby(alike, sort=False, dropna=False):
        noise = group.loc[group["kind"] == "noise", "ci_low"].max()
        for name in group.loc[(group["kind"] == "simba") & (group["ci_high"] < noise), "attack"]:
            flags.append(f"{model}: " + _flag("weaker-than-noise", f"{name} on {domain} breaks fewer images than "
                                              f"random noise of the same steps at {budget:,} queries: the attack "
                                              "fails, the model is not robust"))
    return flags


def _weak_white_boxes(attack: pd.DataFrame) -> list[str]:
    """Flag white-box attacks that break fewer images than a black-box attack that may go no farther."""
    flags = []
    last = attack[attack["unit"] == "iterations"].sort_values("budget").drop_duplicates(
        ["model", "domain", "attack", "epsilon"], keep="last")
    for (model, domain, _), group in last.groupby(["model", "domain", "n"], sort=False):
        bounded = [entry for entry in group.to_dict("records")
                   if pd.notna(entry["bound"]) and "-targeted" not in entry["attack"]]  # whose ASR is another quantity
        blind = [entry for entry in bounded if "-white-box" not in entry["attack"]]
        for seeing in bounded:
            name = seeing["attack"]
            # One step, or an attack that counts under a bound which it was not told of, is weak by itself.
            if "-white-box" not in name or seeing["budget"] < WHITE_BOX_STEPS or "FastGradient" in name \
                    or seeing["bound"] != seeing["epsilon"]:
                continue
            stronger = [entry for entry in blind
                        if entry["norm"] == seeing["norm"] and entry["bound"] <= seeing["bound"] * (1 + 1e-9)
                        and entry["ci_low"] > seeing["ci_high"]]
            if stronger:
                best = max(stronger, key=lambda entry: float(entry["ci_low"]))
                sentence = (f"{name} on {domain} breaks {seeing['asr']:.1%} of the images, {best['attack']} "
                            f"{best['asr']:.1%} within the same bound without seeing gradients: these are masked, "
                            "the model is not robust")
                flags.append(f"{model}: " + _flag("weaker-than-black-box", sentence))
    return flags


#: From this margin on the softmax probability of a float32 is exactly 1.
SATURATED = 17.0


def _flag(anchor: str, sentence: str) -> str:
    return f"{sentence} ({PAGE}#{anchor})"


def _margins(logits: torch.Tensor) -> torch.Tensor:
    top = logits.topk(2, dim=1).values
    return top[:, 0] - top[:, 1]


def _accuracy(logits: torch.Tensor, y: torch.Tensor) -> float:
    return float((logits.cpu().argmax(1) == y.cpu()).double().mean())


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
