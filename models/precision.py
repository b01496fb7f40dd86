"""Models that compute in bfloat16: faster on processors with bfloat16 units and on GPUs, with other last digits.

bfloat16 has the range of float32, but 8 bits of precision instead of 24. This changes decisions near a boundary, and
the small score differences that attacks use. So a model in bfloat16 is another model, with its own name and rows.
"""

from __future__ import annotations

import torch
from torch import nn

#: bfloat16 units -> the function of torch.cpu that returns whether this processor has them.
_UNITS = {"AVX-512": "_is_avx512_bf16_supported", "AMX": "_is_amx_tile_supported"}
#: Prefix of the names of models that compute in bfloat16.
BF16 = "bf16:"


def units() -> list[str]:
    """Return the names of this processor's bfloat16 units that torch detects."""
    return [name for name, detect in _UNITS.items() if getattr(torch.cpu, detect, bool)()]


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
