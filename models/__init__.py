"""Classifiers from images in [0, 1] to logits: architectures, checkpoints, training, fast inference.

>>> from framebench.models import load_model
>>> model = load_model("baseline")  # or a path, or python:FILE.py:FUNCTION
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from framebench.models.registry import load_model

__all__ = ["load_model"]


def __getattr__(name: str) -> Any:
    if name == "load_model":  # imports torch, which `bench --help` must not wait for
        from framebench.models.registry import load_model
        return load_model
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
