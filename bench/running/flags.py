"""Flags of models: signs that their numbers will not mean what they seem to; docs/flags.md says what to do.

A model is checked on a few labelled images before it is evaluated. Flags of results are in `bench.analysis.flags`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import nn

from bench.rows.flags import flag
from framebench.domains import Domain
from framebench.models.registry import LoadedModel

_log = logging.getLogger(__name__)

Predict = Callable[[torch.Tensor], torch.Tensor]

#: Images on which a model is checked, and how many of more than 64x64 pixels: each is classified several times.
IMAGES, LARGE_IMAGES = 256, 64
#: Images that a model classifies REPEATS times: two answers of a model that chooses between two ways are often equal.
FEW, REPEATS = 16, 8
#: Another scaling of inputs or order of labels is suggested if it raises accuracy by this much.
GAIN = 0.3
#: Images whose gradients are checked, and the share of flat ones from which gradients count as masked.
GRADIENTS, MASKED = 16, 0.1
#: A gradient is flat if its L1 norm is at most this share of the margin. The norm bounds, to first order, how much any
#: step within [0, 1] changes the margin. For a piecewise linear model without biases, it is at least the margin.
FLAT = 1e-3
#: From this margin on, a float32 softmax probability is exactly 1.
SATURATED = 17.0

_NOT_DIFFERENTIABLE = flag("gradients", "the logits are not differentiable in the images: white-box attacks can't be "
                           "run")


def flagged(predict: Predict, domain: Domain, model: LoadedModel) -> list[str]:
    """Return the flags of a model on the first images of a domain, and log them."""
    x, y = domain.load(domain.order[: IMAGES if max(domain.shape) <= 64 else LARGE_IMAGES])
    flags = model_flags(predict, x, y) + gradient_flags(model.module, x[:GRADIENTS], y[:GRADIENTS])
    for text in flags:
        _log.warning("%s: %s", model.name, text)
    return flags


def model_flags(predict: Predict, x: torch.Tensor, y: torch.Tensor) -> list[str]:
    """Return the flags of a model.

    Args:
        predict: Maps images [n, C, H, W] in [0, 1] to logits [n, classes].
        x: Images [n, C, H, W] in [0, 1], at least 2.
        y: Labels int64 [n].
    """
    logits = predict(x).detach().cpu().double()
    flags = []
    repeats = [predict(x[:FEW]).detach().cpu().double() for _ in range(REPEATS)]
    if not all(torch.equal(repeats[0], answer) for answer in repeats[1:]):
        flags.append(flag("random", "answers to the same images differ: an attack exploits the noise, and its rows "
                          "can't be reproduced"))
    elif _depends_on_batch(predict, x, logits):
        flags.append(flag("batch", "the logits of an image depend on the other images of the batch (batch norms in "
                          "training mode?), and so do the rows"))
    if bool((logits >= 0).all()) and bool(((logits.sum(1) - 1).abs() < 1e-3).all()):
        flags.append(flag("probabilities", "the outputs seem to be probabilities, not logits: the attack's objective "
                          "saturates, and its ASR is too low"))
    elif float((_margins(logits) > SATURATED).float().mean()) > 0.5:
        flags.append(flag("saturated", f"the margins of most images are above {SATURATED:g}, where float32 "
                          "probabilities are exactly 1: attacks that compare probabilities see nothing"))
    accuracy, (name, scaled) = _accuracy(logits, y), _best_scaling(predict, x, y)
    enough = len(y) >= 2 * logits.shape[1]  # with fewer images, some order fits by chance
    permuted = _permuted_accuracy(logits, y) if enough else 0.0
    if max(scaled, permuted) > accuracy + GAIN:
        few = f"only {accuracy:.0%} of {len(y)} images are classified correctly, but far more"
        flags.append(flag("normalisation", f"{few} when they are {name}: the normalisation does not fit inputs in "
                          "[0, 1]") if scaled > permuted else
                     flag("labels", f"{few} under another order of the classes: the labels are shifted"))
    return flags


def gradient_flags(module: nn.Module, x: torch.Tensor, y: torch.Tensor) -> list[str]:
    """Return the flag of a model with useless gradients (Athalye et al. 2018, arXiv 1802.00420).

    Gradients are those of the margin of the logits: those of cross-entropy are flat for every confident model. The
    model is not changed.

    Args:
        module: A model in eval mode, on any device.
        x: Images [n, C, H, W] in [0, 1].
        y: Labels int64 [n].
    """
    device = next((tensor.device for tensor in [*module.parameters(), *module.buffers()]), x.device)
    with torch.inference_mode(False), torch.enable_grad():
        images = x.detach().clone().to(device).requires_grad_()
        try:
            logits = module(images)
            if logits.grad_fn is None:
                return [_NOT_DIFFERENTIABLE]
            correct = logits.gather(1, y.to(device)[:, None])[:, 0]
            others = logits.scatter(1, y.to(device)[:, None], -torch.inf).amax(1)
            (gradient,) = torch.autograd.grad((correct - others).sum(), images, allow_unused=True)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a user's model can raise anything
            if "nference tensor" in str(error):  # it caches tensors of inference mode: no sign of masking
                return []
            return [flag("gradients", f"asking for gradients fails ({type(error).__name__}): white-box attacks can't "
                         "be run")]
    if gradient is None:
        return [_NOT_DIFFERENTIABLE]
    slope, margin = gradient.flatten(1).abs().sum(1), (correct - others).detach().abs()
    flat = float(((slope <= FLAT * margin) | ~slope.isfinite()).double().mean())
    if flat <= MASKED:
        return []
    return [flag("gradients", f"the gradients vanish or are not finite on {flat:.0%} of {len(x)} images: white-box "
                 "attacks fail there, and that is not robustness")]


def _margins(logits: torch.Tensor) -> torch.Tensor:
    top = logits.topk(2, dim=1).values
    return top[:, 0] - top[:, 1]


def _accuracy(logits: torch.Tensor, y: torch.Tensor) -> float:
    return float((logits.cpu().argmax(1) == y.cpu()).double().mean())


def _depends_on_batch(predict: Predict, x: torch.Tensor, logits: torch.Tensor) -> bool:
    few = predict(x[:2]).detach().cpu().double()
    return float((few - logits[:2]).abs().max()) > 1e-3 * (float(logits.abs().max()) + 1e-6)


def _best_scaling(predict: Predict, x: torch.Tensor, y: torch.Tensor) -> tuple[str, float]:
    """Return the best other scaling of the inputs, and the accuracy with it."""
    mean, std = x.mean((0, 2, 3), keepdim=True), x.std((0, 2, 3), keepdim=True)
    scalings = {"scaled to [0, 255]": 255 * x, "normalised to mean 0 and deviation 1": (x - mean) / std,
                "scaled to [-1, 1]": 2 * x - 1}
    return max(((name, _accuracy(predict(scaled), y)) for name, scaled in scalings.items()), key=lambda entry: entry[1])


def _permuted_accuracy(logits: torch.Tensor, y: torch.Tensor) -> float:
    """Return the accuracy under the best order of the classes."""
    counts = np.zeros((logits.shape[1], logits.shape[1]))
    np.add.at(counts, (logits.argmax(1).numpy(), y.cpu().numpy()), 1)
    return float(counts[linear_sum_assignment(-counts)].sum() / len(y))
