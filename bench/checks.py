"""Whether a model fits a domain."""

from __future__ import annotations

import torch

from framebench.errors import InputError


def check_model(logits: torch.Tensor, classes: tuple[str, ...], name: str) -> None:
    """Check a model's logits on a few images.

    Args:
        logits: float [n, classes].
        classes: Class names of the domain.
        name: The model's name, for messages.

    Raises:
        InputError: if the logits have another shape, or are not finite.
    """
    if logits.ndim != 2 or logits.shape[1] != len(classes):
        raise InputError(f"the model {name} returns {list(logits.shape[1:])} values an image, but the data have "
                       f"{len(classes)} classes ({', '.join(classes[:3])}, ...); name a model with these classes, or "
                       "a data set with the model's")
    if not torch.isfinite(logits).all():
        raise InputError(f"the model {name} returns logits that are not finite (NaN or infinite); its weights or its "
                       "normalisation are wrong")
