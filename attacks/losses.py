"""Losses that white-box attacks maximise: functions of logits [n, classes], labels [n] and targets [n]; results [n].

The differences of logits ratio are those of Croce & Hein (2020, arXiv 2003.01690).
"""

from __future__ import annotations

import torch
from torch.nn import functional as F  # noqa: N812


def cross_entropy(z: torch.Tensor, y: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return the cross-entropy of logits [n, classes] for labels [n], [n]."""
    return F.cross_entropy(z, y, reduction="none")


def dlr(z: torch.Tensor, y: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return the difference of logits ratio [n]: invariant to shifts and scales of the logits."""
    ordered, order = z.sort(dim=1)
    other = torch.where(order[:, -1] == y, ordered[:, -2], ordered[:, -1])
    return -(_of(z, y) - other) / (ordered[:, -1] - ordered[:, -3] + 1e-12)


def dlr_targeted(z: torch.Tensor, y: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return the difference of logits ratio towards targets [n]."""
    ordered, _ = z.sort(dim=1)
    return -(_of(z, y) - _of(z, target)) / (ordered[:, -1] - 0.5 * (ordered[:, -3] + ordered[:, -4]) + 1e-12)


def _of(z: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    return z.gather(1, classes[:, None])[:, 0]


#: Name -> the loss, and the smallest number of classes that it is defined for.
LOSSES = {"ce": (cross_entropy, 2), "dlr": (dlr, 3), "dlr-targeted": (dlr_targeted, 4)}
