"""Reconstruction of a layer's input by its dual frame."""

from __future__ import annotations

import copy

import torch
from torch import nn

from framebench.models.spectrum import layer_view, with_adjoint


@torch.no_grad()
def reconstruct(layer: nn.Module, output: torch.Tensor, input_size: tuple[int, int], *,
                steps: int = 50) -> torch.Tensor:
    """Reconstruct a layer's input from its output by the dual frame: z = (T^T T)^-1 T^T (F(z) - bias).

    The layer keeps its padding and precision. The inverse is applied by conjugate gradients on the normal equations
    (Hestenes & Stiefel 1952), whose error falls by at least the factor (sqrt(B) - sqrt(A)) / (sqrt(B) + sqrt(A)) per
    step: a tight frame needs one step. If T has more columns than rows, the result is the projection of z on the row
    space of T.

    Args:
        layer: An `nn.Conv2d` or `nn.Linear`.
        output: float [n, c_out, H', W'], or [n, c_out] of a linear layer.
        input_size: Height and width of the layer's input; any for a linear layer.
        steps: Largest number of products with T and with T^T.

    Returns:
        float [n, c_in, H, W], or [n, c_in].

    Raises:
        InputError: if the layer is of another kind or not finite.
    """
    module = layer_view(layer).module
    shape = (module.in_features,) if isinstance(module, nn.Linear) else (module.in_channels, *input_size)
    x = output.new_zeros((len(output), *shape))
    linear = copy.deepcopy(module)
    linear.bias = None  # subtracting it from outputs would lose small directions in rounding errors
    _, adjoint = with_adjoint(linear, x)
    residual = output - module(x[:1])
    gradient = direction = adjoint(residual)
    square = _squares(gradient)
    precision = torch.finfo(x.dtype)
    enough = precision.eps**2 * square
    for _ in range(steps):
        moving = square > enough  # unsolved examples; for the others, steps would only add rounding errors
        if not moving.any():
            break
        image = linear(direction)
        length = torch.where(moving, square / _squares(image), 0)
        x = x + length * direction
        residual = residual - length * image
        gradient = adjoint(residual)
        last, square = square, _squares(gradient)
        direction = gradient + square / last.clamp_min(precision.tiny) * direction
    return x


def _squares(x: torch.Tensor) -> torch.Tensor:
    """Return each example's squared norm, [n, 1, ...]."""
    return x.square().sum(tuple(range(1, x.ndim)), keepdim=True)
