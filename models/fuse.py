"""Fusing a network for inference on CPUs: batch norms folded, additions and ReLUs inside the convolutions.

PyTorch's inductor fuses the same way, through the same oneDNN operators; calling them from a traced graph gives its
speed without minutes of compiling and without a C++ compiler on the machine.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import fx, nn
from torch.fx.experimental.optimization import fuse as fold_batch_norms
from torch.fx.passes.shape_prop import ShapeProp
from torch.nn import functional as F  # noqa: N812
from torch.overrides import TorchFunctionMode

_RELU = {torch.relu, F.relu, "relu", "relu_"}
_ADD = {operator.add, operator.iadd, torch.add, "add", "add_"}


class FusedConv(nn.Module):
    """A convolution with its weight laid out for oneDNN, then optionally a sum with another tensor, then a ReLU.

    Args:
        conv: The convolution, zero-padded.
        input_size: Shape [n, c, H, W] of the input that the layout is chosen for; others work too.
        relu: Whether a ReLU follows.
        add: Whether `forward` takes a second tensor, added before the ReLU.
    """

    def __init__(self, conv: nn.Conv2d, input_size: list[int], *, relu: bool, add: bool) -> None:
        super().__init__()
        geometry = (list(conv.padding), list(conv.stride), list(conv.dilation), conv.groups)
        weight = conv.weight.detach().contiguous(memory_format=torch.channels_last)
        self.weight = torch.ops.mkldnn._reorder_convolution_weight(weight, *geometry, input_size)
        self.bias = None if conv.bias is None else conv.bias.detach()
        self.geometry, self.relu, self.add = geometry, "relu" if relu else "none", add

    def forward(self, x: torch.Tensor, other: torch.Tensor | None = None) -> torch.Tensor:
        """Map [n, c_in, H, W] to [n, c_out, H', W']."""
        if self.add:
            return torch.ops.mkldnn._convolution_pointwise(  # type: ignore[no-any-return]  # torch.ops has no types
                x, other, self.weight, self.bias, *self.geometry, "add", 1.0, self.relu, [], "")
        return torch.ops.mkldnn._convolution_pointwise(  # type: ignore[no-any-return]  # torch.ops has no types
            x, self.weight, self.bias, *self.geometry, self.relu, [], "")


class PaddedLinear(nn.Module):
    """A linear layer that pads its input [n, c_in] with zeros to at least `rows` rows.

    For few rows MKL uses other kernels on some processors (AMX), with other rounding: logits would depend on the batch
    size. The padding costs next to nothing. Inputs of another rank are not padded.
    """

    def __init__(self, linear: Callable[..., torch.Tensor], rows: int) -> None:
        super().__init__()
        self.linear, self.rows = linear, rows

    def forward(self, input: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Call the layer, an `nn.Linear` or `F.linear`, and return the rows of the input."""
        if input.ndim != 2 or (n := len(input)) >= self.rows:
            return self.linear(input, *args, **kwargs)
        return self.linear(F.pad(input, (0, 0, 0, self.rows - n)), *args, **kwargs)[:n]


class PaddedLinears(nn.Module):
    """A module that may call linear layers anywhere, each padded as by `PaddedLinear`.

    Every operator is intercepted, which takes 2 to 15% of the forward pass of a small network.
    """

    def __init__(self, module: nn.Module, rows: int) -> None:
        super().__init__()
        self.module, self._mode = module, _Padding(rows)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Call the module."""
        with self._mode:
            return self.module(*args, **kwargs)


class _Padding(TorchFunctionMode):
    def __init__(self, rows: int) -> None:
        super().__init__()
        self._linear = PaddedLinear(F.linear, rows)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return (self._linear if func is F.linear else func)(*args, **(kwargs or {}))


def fuse(model: nn.Module, example: torch.Tensor, rows: int) -> nn.Module:
    """Return a fused copy of a model in eval mode.

    Args:
        model: Any module that torch.fx can trace.
        example: An input, float32 [n, c, H, W] on the CPU, whose sizes the weights are laid out for.
        rows: Rows that linear layers compute at least (`PaddedLinear`).

    Raises:
        Exception: of any type, if the model can't be traced or this torch lacks the operators.
    """
    traced = fold_batch_norms(model)
    assert isinstance(traced, fx.GraphModule)
    ShapeProp(traced).propagate(example)
    modules = dict(traced.named_modules())
    for node in list(traced.graph.nodes):
        module = modules.get(node.target) if node.op == "call_module" else None
        if isinstance(module, nn.Conv2d) and module.padding_mode == "zeros" and not isinstance(module.padding, str):
            _replace(traced, node, module, modules)
        elif isinstance(module, nn.Linear):
            traced.add_submodule(node.target, PaddedLinear(module, rows))
        elif module is not None and [*module.children()]:  # not traced into, such as attention with its linear layer
            traced.add_submodule(node.target, PaddedLinears(module, rows))
        elif node.target is F.linear:
            node.op, node.target = "call_module", f"padded_{node.name}"
            traced.add_submodule(node.target, PaddedLinear(F.linear, rows))
    traced.graph.eliminate_dead_code()
    traced.delete_all_unused_submodules()
    traced.recompile()
    return traced.eval()


def _replace(traced: fx.GraphModule, node: fx.Node, conv: nn.Conv2d, modules: dict[str, nn.Module]) -> None:
    """Replace one convolution and what follows it alone (a sum, a ReLU) by one fused node."""
    source = node.args[0]
    assert isinstance(source, fx.Node)
    input_size = list(source.meta["tensor_meta"].shape)
    last, other, relu = node, None, False
    follower = _only_user(node)
    if follower is not None and _is(follower, _ADD, modules) and len(follower.args) == 2 and not follower.kwargs:
        a, b = follower.args
        summand = b if a is node else a
        same_shape = isinstance(summand, fx.Node) and summand is not node and \
            summand.meta["tensor_meta"].shape == node.meta["tensor_meta"].shape
        if same_shape:
            last, other = follower, summand
            follower = _only_user(last)
    if follower is not None and _is(follower, _RELU, modules, nn.ReLU):
        last, relu = follower, True
    name = f"fused_{node.name}"
    traced.add_module(name, FusedConv(conv, input_size, relu=relu, add=other is not None))
    with traced.graph.inserting_after(last):
        arguments = (source,) if other is None else (source, other)
        fused = traced.graph.call_module(name, arguments)
    fused.meta = dict(last.meta)
    last.replace_all_uses_with(fused)


def _only_user(node: fx.Node) -> fx.Node | None:
    return next(iter(node.users)) if len(node.users) == 1 else None


def _is(node: fx.Node, targets: set[object], modules: dict[str, nn.Module],
        kind: type[nn.Module] | None = None) -> bool:
    if node.op == "call_module":
        return kind is not None and isinstance(modules.get(str(node.target)), kind)
    return node.op in ("call_function", "call_method") and node.target in targets
