"""Selection of the regularized layers, each converted to one form.

A convolution of any stride, dilation and number of groups equals, up to the order of its inputs, a convolution of
stride 1 without dilation (`operator_kernel`); a linear layer equals one with a kernel of 1x1.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from framebench.errors import InputError, unknown
from framebench.models.regularizers.folding import Norm, channel_scale, norms_after

#: Every layer is of exactly one kind (`find_layers`).
KINDS = ("stem", "body", "1x1", "shortcut", "classifier")
#: What a policy may name: the kinds, and the 'body' and '1x1' convolutions that come first in their block.
CHOICES = (*KINDS, "block-first")
#: The layers that the reference code of OCNN regularizes.
OCNN_LAYERS = ("shortcut", "block-first")


@dataclass(frozen=True)
class Layer:
    """A layer of a model.

    Attributes:
        name: Its dotted name; its class in lower case where it is the whole model.
        kind: One of `KINDS`.
        block_first: Whether it is a 'body' or '1x1' convolution that is the first of its parent module.
        module: The layer.
        norm: A batch norm after it whose scale is part of the operator; None for the layer alone.
    """

    name: str
    kind: str
    block_first: bool
    module: nn.Conv2d | nn.Linear
    norm: Norm | None = None

    @property
    def weight(self) -> torch.Tensor:
        """The weight, times the scale of `norm`, as a kernel [c_out, c_in / groups, k_h, k_w], in float32 at least."""
        weight = self.module.weight
        if weight.dtype in (torch.float16, torch.bfloat16):
            weight = weight.float()
        if weight.ndim == 2:
            weight = weight[..., None, None]
        return weight if self.norm is None else weight * channel_scale(self.norm)[:, None, None, None]

    @property
    def groups(self) -> int:
        """Number of groups of channels, each an operator of its own; 1 for a linear layer."""
        return self.module.groups if isinstance(self.module, nn.Conv2d) else 1

    @property
    def step(self) -> tuple[int, int]:
        """Stride of the equivalent undilated convolution without unused input positions.

        If stride and dilation have a common divisor, or the stride exceeds the kernel, no output depends on some input
        positions, which are left out.
        """
        if isinstance(self.module, nn.Linear):
            return 1, 1
        conv = self.module
        s_h, s_w = (min(s // math.gcd(s, d), k)
                    for s, d, k in zip(conv.stride, conv.dilation, conv.kernel_size, strict=True))
        return s_h, s_w

    def matrix(self) -> torch.Tensor:
        """Return the flattened filters of each group, [groups, c_out / groups, c_in / groups * k_h * k_w]."""
        return torch.unflatten(self.weight.flatten(1), 0, (self.groups, -1))

    def tall_matrix(self) -> torch.Tensor:
        """Return `matrix` or its transposes: [groups, m, n] with m >= n, so that X^T X is the smaller Gram."""
        matrix = self.matrix()
        return matrix if matrix.shape[1] >= matrix.shape[2] else matrix.mT

    def operator_kernel(self) -> torch.Tensor:
        """Return the layer as a convolution K of stride 1, [groups, m, n, k_h, k_w] with m >= n.

        Stride s: tap a = s b + r of channel c becomes tap b of channel (c, r), of which there are s*s*c_in (the
        polyphase components); the kernel shrinks to ceil(k/s). Side rule: where the outputs are fewer than these
        inputs, c_out < s*s*c_in, the axes are swapped. So the Gram over the n channels is T^T T or, swapped, T T^T
        of the layer's block-Toeplitz matrix T: the one of the two that can have full rank.
        """
        kernel = torch.unflatten(self.weight, 0, (self.groups, -1))
        s_h, s_w = self.step
        if (s_h, s_w) != (1, 1):
            kernel = F.pad(kernel, (0, -kernel.shape[4] % s_w, 0, -kernel.shape[3] % s_h))
            kernel = torch.unflatten(torch.unflatten(kernel, 4, (-1, s_w)), 3, (-1, s_h))
            kernel = kernel.permute(0, 1, 2, 4, 6, 3, 5).flatten(2, 4)  # from [g, o, c, b_h, r_h, b_w, r_w]
        return kernel if kernel.shape[1] >= kernel.shape[2] else kernel.transpose(1, 2)


def find_layers(module: nn.Module, policy: tuple[str, ...] = KINDS, *, first: int = 0,
                folded: bool = False) -> list[Layer]:
    """List the selected 2-d convolutions and linear layers of a model, in the order of registration.

    Kinds: 'stem' is the first convolution, 'classifier' the last linear layer; 'shortcut' is a 1x1 convolution with a
    stride, or any with 'shortcut' or 'downsample' in its name; '1x1' is another 1x1 convolution, 'body' everything
    else. Other layers with weights (transposed, 1-d and 3-d convolutions, embeddings) are not regularized.

    Args:
        module: The model.
        policy: Kinds to select, of `CHOICES`.
        first: Number of selected layers, from the front; 0 for all.
        folded: Whether a layer includes the scale of the batch norm after it (`folding.norms_after`).

    Raises:
        InputError: if no layer is selected, or the model can't be traced to find its batch norms.
    """
    norms = norms_after(module) if folded else {}
    modules = [(name, m) for name, m in module.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    convs = [m for _, m in modules if isinstance(m, nn.Conv2d)]
    linears = [m for _, m in modules if isinstance(m, nn.Linear)]
    parents: set[str] = set()
    layers = []
    for name, m in modules:
        if convs and m is convs[0]:
            kind = "stem"
        elif linears and m is linears[-1]:
            kind = "classifier"
        else:
            kind = _inner_kind(name, m)
        parent = name.rpartition(".")[0]
        block_first = isinstance(m, nn.Conv2d) and kind in ("body", "1x1") and bool(parent) and parent not in parents
        if isinstance(m, nn.Conv2d):
            parents.add(parent)
        layers.append(Layer(name or type(m).__name__.lower(), kind, block_first, m, norms.get(name)))
    taken = [x for x in layers if x.kind in policy or (x.block_first and "block-first" in policy)]
    if not taken:
        raise InputError(f"the model has no layer of the kinds {', '.join(policy)}; it has "
                         f"{', '.join(sorted({x.kind for x in layers})) or 'no convolution or linear layer at all'}")
    return taken[:first] if first else taken


def _inner_kind(name: str, module: nn.Module) -> str:
    if not isinstance(module, nn.Conv2d):
        return "body"
    pointwise = module.kernel_size == (1, 1)
    named = any(word in name for word in ("shortcut", "downsample"))
    if named or (pointwise and max(module.stride) > 1):
        return "shortcut"
    return "1x1" if pointwise else "body"


def checked_policy(policy: str | Iterable[str]) -> tuple[str, ...]:
    """Return a layer policy as a tuple of `CHOICES`.

    Raises:
        InputError: for an unknown kind of layer, or none at all.
    """
    if not isinstance(policy, str | tuple | list):  # numbers and truth values come from command lines and cards
        raise InputError(f"the option layers must name kinds of layers ({', '.join(CHOICES)}), not {policy!r}")
    kinds = (policy,) if isinstance(policy, str) else tuple(policy)
    for kind in kinds:
        if kind not in CHOICES:
            raise unknown("kind of layer", str(kind), CHOICES)
    if not kinds:
        raise InputError(f"a regularizer needs at least one kind of layer; known: {', '.join(CHOICES)}")
    return kinds
