"""The harness: asks models for predictions, keeps a row per image, and turns rows into tables and reports.

From Python, `bench.attack`, `bench.shift` and `bench.frames` are the commands of these names (`bench.api`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.api import attack, frames, shift

__all__ = ["attack", "frames", "shift"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'bench' has no attribute '{name}'")
    from bench import api  # here: it imports torch, which the command line's help must not

    return getattr(api, name)
