"""Square and APGD, as the package pyautoattack (AutoAttack; Croce & Hein 2020, arXiv 2003.01690) has them.

Their steps are scheduled over the length of the run, so that what they do by query k depends on the length: rows of a
longer run don't answer for a shorter one, and the length, `schedule`, is part of the attack's name.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import torch

from framebench.attacks.options import check, one_of
from framebench.attacks.queries import Bound
from framebench.errors import InputError

#: Norm of the bound -> its usual size on CIFAR-10.
EPSILONS = {"Linf": 8 / 255, "L2": 0.5, "L1": 12.0}

#: Options that are the benchmark's, and parameters of the library's that it sets.
_PLANNED = ("schedule", "epsilon", "white_box", "max_queries")
_OURS = ("predict", "eps", "seed", "verbose", "device", "n_restarts", "n_queries", "n_iter", "targeted", "is_tf_model",
         "logger")


class AutoAttack:
    """One of them on one image.

    Square (Andriushchenko et al. 2020, arXiv 1912.00049) is score-based, one query an iteration. Auto-PGD is
    white-box; an iteration is a forward and a backward pass.

    Args:
        name: "square" or "apgd".
        options: schedule (queries of a run, the clean image's not among them), epsilon, norm, and the library's own.
    """

    def __init__(self, name: str, options: dict[str, Any]) -> None:
        self.white_box = name == "apgd"
        self.bound = Bound(options["norm"].lower(), options["epsilon"])
        # Both begin with a query that they don't count.
        self._length = {"n_iter" if self.white_box else "n_queries": options["schedule"] - 1}
        self._kind = _kind(name)
        self._options = {key: value for key, value in options.items() if key not in _PLANNED}

    def run(self, model: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor, y: torch.Tensor, seed: int,
            example: int) -> None:
        """Attack one image; see `framebench.attacks.registry.Attack`. The draws come from torch's global generator."""
        attack = self._kind(model, eps=self.bound.epsilon, seed=torch.initial_seed(), device="cpu", **self._length,
                            **self._options)
        attack.perturb(x.contiguous(), y)


def plan(name: str, budget: int, epsilon: float | None, given: dict[str, Any]) -> dict[str, Any]:
    """Return the options of a run of `budget` queries; see `framebench.attacks.registry.plan`.

    Raises:
        InputError: for an option or a value that the attack does not have.
    """
    check(name, _kind(name), given, _OURS)
    options = {"norm": "Linf", **given}
    one_of("norm", options["norm"], tuple(EPSILONS))
    if "loss" in options:
        one_of("loss", options["loss"], ("ce", "dlr") if name == "apgd" else ("margin", "ce"))
    options |= {"schedule": budget, "epsilon": EPSILONS[options["norm"]] if epsilon is None else epsilon}
    return {**options, "white_box": True} if name == "apgd" else options


def _kind(name: str) -> Any:
    module, kind = {"square": ("square", "SquareAttack"), "apgd": ("autopgd_base", "APGDAttack")}[name]
    try:
        return getattr(importlib.import_module(f"pyautoattack.{module}"), kind)
    except ImportError as error:
        raise InputError(f"the attack {name} needs the package pyautoattack ({error}); install it with "
                         "pip install pyautoattack") from None
