"""Pruning without retraining: set the least important filters or weights of a network's convolutions to zero.

Filters: by the Taylor criterion of Molchanov et al. 2017 (arXiv 1611.06440), |mean over the feature map of
activation * gradient|, averaged over images, or by the filter's L2 norm; both divided by the L2 norm of the layer's
scores, then ranked over all layers. Differences to the paper: all at once instead of little by little with fine-tuning
in between, the L2 norm instead of the mean square (within a layer the same ranking), and the feature map is taken
after the convolution's batch norm, where pruning zeroes it; y dL/dy is the same before and after a ReLU.

Weights: by |w| or |w dL/dw|, L the mean loss over the images, ranked over all layers without normalisation.

A pruned filter becomes a channel of zeros, so the network keeps its architecture: it computes the function of the
smaller network, but not as fast. Where a shortcut adds channels, only the convolution's own summand is zero.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from torch import fx, nn
from torch.nn import functional as F  # noqa: N812

from framebench.errors import InputError, unknown

CRITERIA = ("taylor", "magnitude")
UNITS = ("filters", "weights")

#: Images [n, c, H, W] in [0, 1] and their labels [n].
Batches = Iterable[tuple[torch.Tensor, torch.Tensor]]

# Operations that act on each channel separately and map zeros to zeros: a batch norm after them belongs to the
# convolution before them.
_CHANNELWISE_MODULES = (nn.MaxPool2d, nn.AvgPool2d, nn.ReLU, nn.Identity, nn.Dropout, nn.Dropout2d)
_CHANNELWISE_FUNCTIONS = {F.max_pool2d, F.avg_pool2d, F.relu, torch.relu, "relu", "relu_"}


@dataclass(frozen=True)
class Prunable:
    """A convolution whose filters can be zeroed.

    Attributes:
        name: Its dotted name.
        conv: The convolution.
        norm: The batch norm that is the only user of its output, directly or after pooling; None if there is none.
    """

    name: str
    conv: nn.Conv2d
    norm: nn.BatchNorm2d | None

    @property
    def output(self) -> nn.Module:
        """The module whose output channels are zero if their filters are pruned."""
        return self.norm or self.conv


def find_prunable(model: nn.Module) -> list[Prunable]:
    """List the 2-d convolutions of a model, each with its own batch norm, in the order of execution.

    Raises:
        InputError: if the model can't be traced by torch.fx, has no convolution, uses one twice, or has a batch norm
            without scale and shift after one.
    """
    try:
        graph = fx.symbolic_trace(model).graph
    except Exception as error:  # tracing runs the model's code, which can raise anything
        raise InputError(f"the model can't be traced to find its batch norms ({type(error).__name__}: "
                         f"{str(error).splitlines()[0] if str(error) else 'no message'}); prune one whose forward has "
                         "no branches on values") from None
    modules = dict(model.named_modules())
    found = []
    for node in graph.nodes:
        conv = modules.get(str(node.target)) if node.op == "call_module" else None
        if isinstance(conv, nn.Conv2d):
            found.append(Prunable(str(node.target), conv, _own_norm(node, modules)))
    if not found:
        raise InputError("the model has no nn.Conv2d, and nothing else is pruned")
    if shared := [p.name for p in found if sum(p.conv is q.conv or p.output is q.output for q in found) > 1]:
        raise InputError(f"the convolution {shared[0]} or its batch norm is used more than once; prune a model that "
                         "uses each once")
    if fixed := [p.name for p in found if p.norm is not None and not p.norm.affine]:
        raise InputError(f"the batch norm behind {fixed[0]} has no scale and shift to set to zero; prune a model with "
                         "affine batch norms")
    return found


def _own_norm(node: fx.Node, modules: dict[str, nn.Module]) -> nn.BatchNorm2d | None:
    """Return the batch norm that is the only user of a convolution's output, through channelwise operations."""
    while len(node.users) == 1:
        node = next(iter(node.users))
        module = modules.get(str(node.target)) if node.op == "call_module" else None
        if isinstance(module, nn.BatchNorm2d):
            return module
        if not (isinstance(module, _CHANNELWISE_MODULES) or node.target in _CHANNELWISE_FUNCTIONS):
            return None
    return None


def prune_(model: nn.Module, share: float, *, criterion: str = "taylor", units: str = "filters",
           batches: Batches | None = None) -> dict[str, tuple[int, int]]:
    """Zero a share of the filters or weights of all convolutions, in place; every layer keeps at least one.

    Zeros rank first, so repeating it with the same share changes little, and a larger share continues.

    Args:
        model: The model in eval mode, from images in [0, 1] to logits.
        share: Share of all filters (or convolution weights) to be zero afterwards, in (0, 1); their number is rounded.
        criterion: One of `CRITERIA`.
        units: One of `UNITS`.
        batches: Images and labels for "taylor", on the model's device.

    Returns:
        layer -> (number removed, number of all), in the order of execution.

    Raises:
        InputError: for other options, a share that is too small or too large, scores that are not finite, and as
            `find_prunable`.
    """
    if not 0 < share < 1:  # refuses nan too
        raise InputError(f"the share must lie between 0 and 1, both excluded, not {share:g}")
    if criterion not in CRITERIA:
        raise unknown("criterion", criterion, CRITERIA)
    if units not in UNITS:
        raise unknown("kind of unit to prune", units, UNITS)
    if criterion == "taylor" and batches is None:
        raise InputError("the criterion taylor needs labelled images; give some, or use magnitude")
    layers = find_prunable(model)
    score, zero = (filter_scores, _zero_filters) if units == "filters" else (weight_scores, _zero_weights)
    removed = choose(score(model, layers, batches if criterion == "taylor" else None), share)
    with torch.no_grad():
        for layer, mask in zip(layers, removed, strict=True):
            zero(layer, mask)
    return {layer.name: (int(mask.sum()), mask.numel()) for layer, mask in zip(layers, removed, strict=True)}


def filter_scores(model: nn.Module, layers: Sequence[Prunable], batches: Batches | None) -> list[torch.Tensor]:
    """Score every filter: by the Taylor criterion over `batches`, by its L2 norm without.

    Returns:
        A layer's scores, float64 [c_out], of L2 norm 1 over the layer (0 where all are 0).
    """
    if batches is None:
        scores = [layer.conv.weight.detach().cpu().double().flatten(1).norm(dim=1) for layer in layers]
    else:
        maps: dict[nn.Module, torch.Tensor] = {}

        def contribution(loss: torch.Tensor) -> list[torch.Tensor]:
            outputs = [maps[layer.output] for layer in layers]
            gradients = torch.autograd.grad(loss, outputs)
            return [(y.detach() * g).mean((2, 3)).abs().sum(0) for y, g in zip(outputs, gradients, strict=True)]

        def keep(module: nn.Module, _inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            maps[module] = output

        with ExitStack() as hooks:
            for layer in layers:
                hooks.callback(layer.output.register_forward_hook(keep).remove)
            scores = _mean_over_images(model, batches, contribution)
    return [s / s.norm().clamp(min=torch.finfo(s.dtype).tiny) for s in scores]


def weight_scores(model: nn.Module, layers: Sequence[Prunable], batches: Batches | None) -> list[torch.Tensor]:
    """Score every weight: by |w dL/dw| with the mean loss L over `batches`, by |w| without.

    Returns:
        A layer's scores, float64 of the weight's shape.
    """
    weights = [layer.conv.weight for layer in layers]
    sizes = [w.detach().cpu().double().abs() for w in weights]
    if batches is None:
        return sizes
    gradients = _mean_over_images(model, batches, lambda loss: list(torch.autograd.grad(loss, weights)))
    return [size * g.abs() for size, g in zip(sizes, gradients, strict=True)]


def _mean_over_images(model: nn.Module, batches: Batches,
                      contribution: Callable[[torch.Tensor], list[torch.Tensor]]) -> list[torch.Tensor]:
    """Average, in float64, a function of the summed cross-entropy of a batch that is itself a sum over images."""
    totals: list[torch.Tensor] = []
    n = 0
    with torch.enable_grad():
        for x, y in batches:
            loss = F.cross_entropy(model(x), y, reduction="sum")
            parts = [part.cpu().double() for part in contribution(loss)]
            totals = [a + b for a, b in zip(totals, parts, strict=True)] if totals else parts
            n += len(y)
    if not n:
        raise InputError("the criterion taylor needs at least one image")
    return [total / n for total in totals]


def choose(scores: Sequence[torch.Tensor], share: float) -> list[torch.Tensor]:
    """Choose the lowest scores over all layers, but never a layer's highest; among equal scores the first.

    Args:
        scores: The scores of each layer, of any shape.
        share: Share of all scores, in (0, 1); their number is rounded.

    Returns:
        For each layer, bool of the shape of its scores: whether to remove.

    Raises:
        InputError: if the share means none, or more than can be removed, or a score is not finite.
    """
    ranking = torch.cat([s.flatten() for s in scores])
    if not torch.isfinite(ranking).all():
        raise InputError("scores of filters or weights are not finite (NaN or infinite); the model's weights are wrong")
    total, most = len(ranking), len(ranking) - len(scores)
    count = round(share * total)
    if not 1 <= count <= most:
        raise InputError(f"a share of {share:g} is {count} of {total}; from 1 to {most} can be removed, for each of "
                         f"{len(scores)} layers keeps one: choose a share from {1 / total:.2g} to {most / total:.2g}")
    for layer in torch.split(ranking, [s.numel() for s in scores]):  # views
        layer[layer.argmax()] = torch.inf
    removed = torch.zeros(total, dtype=torch.bool)
    removed[ranking.argsort(stable=True)[:count]] = True
    return [mask.view(s.shape) for mask, s in zip(torch.split(removed, [s.numel() for s in scores]), scores,
                                                  strict=True)]


def _zero_filters(layer: Prunable, removed: torch.Tensor) -> None:
    # With filter, scale and shift 0, the channel is exactly 0 for any running statistics of the batch norm.
    for module in (layer.conv, layer.norm):
        for tensor in (module.weight, module.bias) if module is not None else ():
            if tensor is not None:
                tensor[removed.to(tensor.device)] = 0


def _zero_weights(layer: Prunable, removed: torch.Tensor) -> None:
    layer.conv.weight[removed.to(layer.conv.weight.device)] = 0
