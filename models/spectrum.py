"""Frame bounds of layers: the extreme eigenvalues of a layer's Gram matrix, exact, estimated and certified.

A layer is a linear operator T (without its bias). Its rows are a frame with bounds A and B if the eigenvalues of T^T T
lie in [A, B], A > 0: then the layer loses no information, and the dual frame (T^T T)^-1 T^T inverts it. A layer with
fewer outputs than inputs can't be inverted; the eigenvalues of T T^T then measure how far its rows are from orthogonal.
Pixels that a layer skips, such as three of four before a 1x1 convolution of stride 2, do not count as inputs.

- `spectrum` and `frame_bounds` are exact for a convolution on a torus (circular padding): Sedghi 2019,
  arXiv 1805.10408, extended to strides, groups and dilation.
- `lanczos_bounds` supports any padding and reports convergence; `gershgorin_bounds` are cheap, for maps of any size.
- `framebench.models.dual_frame.reconstruct` inverts a layer with its own padding.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from framebench.errors import InputError
from framebench.models.operators import Extremes, fourier_blocks, lanczos
from framebench.models.regularizers.folding import Norm
from framebench.models.regularizers.gram import gershgorin_rows
from framebench.models.regularizers.layers import Layer

#: A torus, or the layer's own padding: zeros, unless its `padding_mode` differs.
Padding = Literal["circular", "own"]
#: The Gram matrix whose eigenvalues count: T^T T over the layer's inputs, or T T^T over its outputs.
Side = Literal["input", "output"]
_Map = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Spectrum:
    """The eigenvalues of a layer's Gram matrix, on the side of `side_of`.

    Attributes:
        eigenvalues: float64 [k], ascending.
        weights: float64 [k], the multiplicity of each; their sum is the size of the Gram matrix.
    """

    eigenvalues: np.ndarray
    weights: np.ndarray

    def quantiles(self, shares: np.ndarray) -> np.ndarray:
        """Return the eigenvalues up to which these shares (in [0, 1]) of all eigenvalues lie: A at 0 and B at 1."""
        cumulative = np.cumsum(self.weights)
        index = np.searchsorted(cumulative, shares * cumulative[-1] * (1 - 1e-12))
        values: np.ndarray = self.eigenvalues[index]
        return values


def side_of(layer: nn.Module) -> Side:
    """Return the side on which a layer can be regular: T^T T if c_out >= s*s*c_in (inputs per position), else T T^T."""
    view = layer_view(layer)
    _, c_in, *_ = view.weight.shape
    return "input" if len(view.weight) // view.groups >= c_in * math.prod(view.step) else "output"


@torch.no_grad()
def spectrum(layer: nn.Module, input_size: tuple[int, int], norm: Norm | None = None) -> Spectrum:
    """Return all eigenvalues of a layer's Gram matrix, exactly, its convolution taken on a torus.

    They are computed on the CPU as squares of singular values, which are as exact as float64 allows relative to the
    largest one; eigenvalues of a computed Gram matrix would be less exact.

    Args:
        layer: An `nn.Conv2d` or `nn.Linear`.
        input_size: Height and width of the layer's input; any for a linear layer.
        norm: A batch norm after the layer whose scale is multiplied into its rows; None for the layer alone.

    Raises:
        InputError: if the layer is of another kind or not finite, or a stride with overlap does not divide the size.
    """
    kernel = layer_view(layer, norm).operator_kernel().cpu().double()  # of stride 1, on the grid of the outputs
    grid, dilation, repeats = [1, 1], [1, 1], 1
    if isinstance(layer, nn.Conv2d):
        for axis, (n, taps, s, d) in enumerate(zip(input_size, layer.kernel_size, layer.stride, layer.dilation,
                                                   strict=True)):
            if kernel.shape[3 + axis] == 1:  # positions don't overlap: every frequency has the same block
                repeats *= n // s if n % s == 0 else 1 + max(n - (taps - 1) * d - 1, 0) // s
            elif n % s:
                raise InputError(f"a circular convolution of stride {s} needs a map that it divides, not "
                                 f"{input_size[0]}x{input_size[1]}; take the next larger size, or padding='own'")
            else:
                grid[axis], dilation[axis] = n // s, d // math.gcd(s, d)
    blocks, weights = fourier_blocks(kernel.flatten(0, 1), (grid[0], grid[1]), dilation=(dilation[0], dilation[1]),
                                     groups=len(kernel))
    eigenvalues = torch.linalg.svdvals(blocks).square()
    flat, order = eigenvalues.flatten().sort()
    weights = (repeats * weights)[:, None].expand_as(eigenvalues).flatten()[order]
    return Spectrum(flat.numpy(), weights.numpy())


def frame_bounds(layer: nn.Module, input_size: tuple[int, int], padding: Padding = "circular") -> tuple[float, float]:
    """Return the frame bounds A and B of a layer alone, on the side of `side_of`.

    Args:
        layer: An `nn.Conv2d` or `nn.Linear`. A batch norm after it rescales its rows and is not part of it.
        input_size: Height and width of the layer's input; any for a linear layer.
        padding: "circular" for the exact bounds on a torus, whatever the layer's own padding; "own" for the layer as
            it pads: exact if `on_torus`, else by `lanczos_bounds`, a bound that has not converged being NaN.

    Raises:
        InputError: as `spectrum`, and as `lanczos_bounds`.
    """
    if padding == "own" and not on_torus(layer, input_size):
        bounds = lanczos_bounds(layer, input_size)
        return (bounds.lower if bounds.lower_converged else math.nan,
                bounds.upper if bounds.upper_converged else math.nan)
    eigenvalues = spectrum(layer, input_size).eigenvalues
    return float(eigenvalues[0]), float(eigenvalues[-1])


def on_torus(layer: nn.Module, input_size: tuple[int, int]) -> bool:
    """Return whether `spectrum` is exact for a layer with its own padding.

    It is for linear layers, for convolutions without padding whose positions don't overlap, and for circular padding
    with as many positions as on the torus.
    """
    kernel = layer_view(layer).operator_kernel()
    if not isinstance(layer, nn.Conv2d):
        return True
    if kernel.shape[3:] == (1, 1) and layer.padding in ((0, 0), "valid", "same"):
        return True
    if layer.padding_mode != "circular":
        return False
    *_, output = _operator(layer, layer_view(layer).weight, input_size, "own")
    return all(positions * s == n for positions, s, n in zip(output.shape[2:], layer.stride, input_size, strict=True))


@torch.no_grad()
def lanczos_bounds(layer: nn.Module, input_size: tuple[int, int], padding: Padding = "own") -> Extremes:
    """Estimate a layer's extreme eigenvalues from products with T and T^T alone (`operators.lanczos`).

    The upper bound converges in tens of steps. The lower bound converges in 60 to 180 steps for B/A below 100, in about
    300 for B/A of 1,000, if at all, and not for B/A of up to 1e9, as in layers trained without a penalty.

    Args:
        layer: An `nn.Conv2d` or `nn.Linear`.
        input_size: Height and width of the layer's input; any for a linear layer.
        padding: "own" for what the layer pads with; "circular" for a torus.

    Raises:
        InputError: if the layer is of another kind or not finite, or its kernel does not fit on the map.
    """
    weight, side = layer_view(layer).weight.double(), side_of(layer)
    forward, adjoint, x, y = _operator(layer, weight, input_size, padding)
    start = torch.randn((x if side == "input" else y).shape, dtype=torch.float64,
                        generator=torch.Generator().manual_seed(0)).to(weight.device)
    if side == "input":
        start *= pixels_read(layer, input_size, padding)
    return lanczos(lambda v: adjoint(forward(v)) if side == "input" else forward(adjoint(v)), start,
                   tolerance=1e-3, steps=300)


@torch.no_grad()
def pixels_read(layer: nn.Module, input_size: tuple[int, int], padding: Padding = "own") -> torch.Tensor:
    """Return which entries of its input a layer uses, bool [1, c_in, H, W]; 1x1 for a linear layer.

    Pixels are skipped by a stride larger than the kernel, and by a stride that does not divide the size.
    """
    _, adjoint, _, output = _operator(layer, torch.ones_like(layer_view(layer).weight), input_size, padding)
    return adjoint(torch.ones_like(output)) > 0


@torch.no_grad()
def gershgorin_bounds(layer: nn.Module) -> tuple[float, float]:
    """Return bounds that hold for the exact ones: min(v - S) <= A and B <= max(v + S), by Gershgorin's circles.

    v is the diagonal of the Gram matrix and S the sum of the other absolute values of a row, from one product of the
    kernel with itself. They hold on a torus of any size (aliasing on a small one only reduces the sums). The upper
    bound also holds with zero padding, which removes rows and columns of an unbounded T, but not with reflection or
    replication, which count pixels twice; the lower bound holds with neither. A lower bound of at most 0 is vacuous.

    Raises:
        InputError: if the layer is of another kind or not finite.
    """
    v, s = gershgorin_rows(layer_view(layer).operator_kernel().double())
    return float((v - s).min()), float((v + s).max())


def layer_inputs(model: nn.Module, x: torch.Tensor) -> dict[str, tuple[nn.Conv2d | nn.Linear, torch.Tensor]]:
    """Run a model once and return the inputs of its convolutions and linear layers.

    Args:
        model: A model in eval mode.
        x: Its input.

    Returns:
        Name in the model -> (layer, the input of its first call), in the order of the calls: [n, c_in, H, W] for a
        convolution, [n, c_in] for a linear layer. Layers that are not called are left out.
    """
    seen: dict[str, tuple[nn.Conv2d | nn.Linear, torch.Tensor]] = {}

    def keep(name: str) -> Callable[[nn.Module, tuple[torch.Tensor, ...]], None]:
        def hook(layer: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            if name not in seen:
                assert isinstance(layer, (nn.Conv2d, nn.Linear))
                z = inputs[0].detach().clone()  # later layers may work in place
                seen[name] = layer, z.flatten(0, -2) if isinstance(layer, nn.Linear) else z
        return hook

    handles = [module.register_forward_pre_hook(keep(name)) for name, module in model.named_modules()
               if isinstance(module, (nn.Conv2d, nn.Linear))]
    try:
        with torch.no_grad():
            model(x)
    finally:
        for handle in handles:
            handle.remove()
    return seen


def input_sizes(model: nn.Module, size: tuple[int, int]) -> dict[str, tuple[int, int]]:
    """Return the input height and width of each layer of a model for images of this size; 1x1 for linear layers.

    The model is run in eval mode, and its mode is restored.
    """
    modes = {module: module.training for module in model.modules()}
    try:
        inputs = layer_inputs(model.eval(), torch.zeros(1, 3, *size, device=next(model.parameters()).device))
    finally:
        for module, training in modes.items():
            module.training = training
    return {name: size_of(z) for name, (_, z) in inputs.items()}


def size_of(z: torch.Tensor) -> tuple[int, int]:
    """Return the height and width of a layer's input; 1x1 for a linear layer."""
    return (z.shape[2], z.shape[3]) if z.ndim == 4 else (1, 1)


def layer_view(layer: nn.Module, norm: Norm | None = None) -> Layer:
    """Return a `Layer` of the regularizers, with the scale of a batch norm after it if one is given.

    Raises:
        InputError: if the layer is neither an `nn.Conv2d` nor an `nn.Linear`, or its weights are not finite.
    """
    if not isinstance(layer, (nn.Conv2d, nn.Linear)):
        raise InputError(f"frame bounds are those of an nn.Conv2d or nn.Linear, not of {type(layer).__name__}; name "
                         "one of the model's layers")
    view = Layer("", "", False, layer, norm)
    if not torch.isfinite(view.weight).all():
        raise InputError("the weights are not finite (NaN or infinite), so there are no frame bounds; use a checkpoint "
                         "from before the training diverged")
    return view


def _operator(layer: nn.Module, weight: torch.Tensor, input_size: tuple[int, int], padding: Padding,
              ) -> tuple[_Map, _Map, torch.Tensor, torch.Tensor]:
    """Return a layer's linear map with this weight [c_out, c_in, k_h, k_w], its adjoint, and 0 as input and output."""
    conv = layer if isinstance(layer, nn.Conv2d) else nn.Conv2d(weight.shape[1], len(weight), 1, device="meta")
    height, width = input_size if conv is layer else (1, 1)

    def forward(x: torch.Tensor) -> torch.Tensor:
        if padding == "circular":
            for axis, (taps, dilation) in enumerate(zip(conv.kernel_size, conv.dilation, strict=True), start=2):
                n, extent = x.shape[axis], (taps - 1) * dilation  # may wrap around more than once, which F.pad can't
                x = x.index_select(axis, torch.arange(n + extent, device=x.device) % n)
            return F.conv2d(x, weight, None, conv.stride, 0, conv.dilation, conv.groups)
        padded: torch.Tensor = conv._conv_forward(x, weight, None)  # knows all padding modes
        return padded

    zero = weight.new_zeros(1, conv.in_channels, height, width)
    try:
        output, adjoint = with_adjoint(forward, zero)
    except RuntimeError as error:
        raise InputError(f"the kernel does not fit on a {height}x{width} map ({error}); give a larger size") from None
    return forward, adjoint, zero, output


def with_adjoint(forward: _Map, zero: torch.Tensor) -> tuple[torch.Tensor, _Map]:
    """Return a linear map's value at zero, and its adjoint (by one backward pass)."""
    with torch.enable_grad():
        x = zero.clone().requires_grad_()
        output = forward(x)
    return output.detach(), lambda y: torch.autograd.grad(output, x, y, retain_graph=True)[0]
