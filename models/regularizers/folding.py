"""The batch norm after each layer, found by tracing the model.

A batch norm multiplies each output channel of the layer before it by weight / sqrt(running_var + eps), also with
pooling in between: an average commutes with a factor, and a maximum does up to the sign. The sign of an output channel
changes neither the eigenvalues of a Gram matrix nor the absolute values of its entries.
"""

from __future__ import annotations

from weakref import WeakKeyDictionary

import torch
from torch import fx, nn
from torch.nn import functional as F  # noqa: N812

from framebench.errors import InputError
from framebench.user_code import foreign

Norm = nn.BatchNorm1d | nn.BatchNorm2d

_POOLS = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveMaxPool2d, nn.AdaptiveAvgPool2d, nn.Identity)
_POOL_FUNCTIONS = {F.max_pool2d, F.avg_pool2d, F.adaptive_avg_pool2d}
#: Names (layer -> batch norm) for each traced model that is alive.
_TRACED: WeakKeyDictionary[nn.Module, dict[str, str]] = WeakKeyDictionary()


class _Tracer(fx.Tracer):
    """Treats all layers and batch norms as leaves, also those of subclasses."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Return whether a module is one node of the graph."""
        return isinstance(m, nn.Conv2d | nn.Linear | Norm) or super().is_leaf_module(m, module_qualified_name)


def norms_after(module: nn.Module) -> dict[str, Norm]:
    """Find the batch norms that follow a convolution or linear layer, directly or after pooling.

    The model is traced once; later calls reuse the names.

    Returns:
        Name of the layer -> batch norm. Left out are layers whose output has other users, layers and batch norms that
        are called more than once, and batch norms without a running variance.

    Raises:
        InputError: if torch.fx can't trace the model.
    """
    if module not in _TRACED:
        with foreign(lambda error: InputError(f"the model {type(module).__name__} can't be traced to find its batch "
                                              f"norms ({type(error).__name__}); leave them unfolded")):
            graph = _Tracer().trace(module)  # it runs the model's own code
        _TRACED[module] = _pairs(module, graph)
    norms = {layer: module.get_submodule(name) for layer, name in _TRACED[module].items()}
    return {layer: norm for layer, norm in norms.items() if isinstance(norm, Norm)}


def _pairs(module: nn.Module, graph: fx.Graph) -> dict[str, str]:
    """Return the names of the pairs that a traced model has."""
    modules = dict(module.named_modules())
    called = [str(node.target) for node in graph.nodes if node.op == "call_module"]
    pairs = {}
    for node in graph.nodes:
        norm = modules.get(str(node.target)) if node.op == "call_module" else None
        if not isinstance(norm, Norm) or norm.running_var is None:
            continue
        before = _source(node)
        while before is not None and _is_pool(before, modules):
            before = _source(before)
        if before is None or before.op != "call_module":
            continue
        names = str(before.target), str(node.target)
        layer = modules.get(names[0])
        if isinstance(layer, nn.Conv2d | nn.Linear) and len(layer.weight) == norm.num_features \
                and called.count(names[0]) == called.count(names[1]) == 1:
            pairs[names[0]] = names[1]
    return pairs


def _source(node: fx.Node) -> fx.Node | None:
    """Return the input of a node if the node is its only user."""
    source = node.args[0] if node.args else None
    return source if isinstance(source, fx.Node) and len(source.users) == 1 else None


def _is_pool(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    if node.op == "call_module":
        return isinstance(modules.get(str(node.target)), _POOLS)
    return node.op == "call_function" and node.target in _POOL_FUNCTIONS


def channel_scale(norm: Norm) -> torch.Tensor:
    """Return the factor of each channel of a batch norm in eval mode, [channels], in float32 at least.

    It is differentiable with respect to the weight, not the running variance.
    """
    assert norm.running_var is not None
    variance = norm.running_var.detach()
    if variance.dtype in (torch.float16, torch.bfloat16):
        variance = variance.float()
    scale = (variance + norm.eps).rsqrt()
    return scale if norm.weight is None else norm.weight * scale
