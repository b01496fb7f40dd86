"""A robustness benchmark for image classifiers.

>>> import framebench
>>> results = framebench.attack(my_model, "baseline", n=100, budgets=[1, 10, 100])
>>> results.attack  # a data frame; in a notebook, `results` shows the report

Names are imported when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.analysis import stats
    from framebench.api import attack, frames, report, shift, train, transfer
    from framebench.attacks.simba import simba
    from framebench.domains import load_domain
    from framebench.errors import InputError
    from framebench.models.blackbox import black_box
    from framebench.models.registry import load_model

__version__ = "0.1.0"

__all__ = ["InputError", "__version__", "attack", "black_box", "frames", "load_domain", "load_model", "report", "shift",
           "simba", "stats", "train", "transfer"]

#: Name -> the module that has it.
_HOMES = {
    **dict.fromkeys(["attack", "frames", "report", "shift", "train", "transfer"], "framebench.api"),
    "InputError": "framebench.errors", "black_box": "framebench.models.blackbox", "load_domain": "framebench.domains",
    "load_model": "framebench.models.registry", "simba": "framebench.attacks.simba", "stats": "bench.analysis.stats",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'framebench' has no attribute '{name}'")
    module = importlib.import_module(_HOMES[name])
    return module if name == "stats" else getattr(module, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
