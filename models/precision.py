"""Models that compute in bfloat16: faster on processors with bfloat16 units and on GPUs, with other last digits.

A number keeps 8 bits of a float32's 24, and its range. So decisions near a boundary change, and so do the small
differences of scores that an attack goes by: a model in bfloat16 is another model, with a name and rows of its own, and
can be compared with itself in float32 like any two.
"""

from __future__ import annotations

import torch
from torch import nn

#: Units for it -> the function of torch.cpu that tells whether this processor has them.
_UNITS = {"AVX-512": "_is_avx512_bf16_supported", "AMX": "_is_amx_tile_supported"}
#: What names of models that compute in bfloat16 begin with.
BF16 = "bf16:"


def units() -> list[str]:
    """Return the names of this processor's bfloat16 units, as far as torch knows."""
    return [name for name, known in _UNITS.items() if getattr(torch.cpu, known, bool)()]


class InBFloat16(nn.Module):
    """A model whose convolutions and matrix products run in bfloat16, by torch's autocast.

    Args:
        model: A model in eval mode, from images [n, C, H, W] in [0, 1] to logits.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map images [n, C, H, W] in [0, 1] to logits [n, classes], float32."""
        with torch.autocast(x.device.type, torch.bfloat16):
            logits: torch.Tensor = self.model(x)
        return logits.float()
