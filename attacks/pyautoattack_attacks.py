"""Square and APGD in L1, from the package pyautoattack (AutoAttack; Croce & Hein 2020, arXiv 2003.01690).

Their schedules depend on the length of the run, so rows of a longer run are not valid for a shorter one, and the length
is part of the label.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from framebench.attacks.base import Traits, label
from framebench.attacks.options import EPSILONS
from framebench.attacks.queries import CountedModel
from framebench.attacks.signatures import check_options, plain
from framebench.attacks.single import SingleImageAttack
from framebench.errors import unknown
from framebench.extras import require

#: Name -> module and class in the package, losses, and the parameter for the length of a run.
_KINDS = {"square": ("square", "SquareAttack", ("margin", "ce"), "n_queries"),
          "apgd": ("autopgd_base", "APGDAttack", ("ce", "dlr"), "n_iter")}

#: Parameters of the classes that the benchmark sets.
_RESERVED = ("predict", "eps", "seed", "verbose", "device", "n_restarts", "n_queries", "n_iter", "targeted",
             "is_tf_model", "logger")


class PyAutoAttack(SingleImageAttack):
    """One of them.

    Square (Andriushchenko et al. 2020, arXiv 1912.00049) is score-based, one query per iteration. Auto-PGD is
    white-box; an iteration is a forward and a backward pass.

    Args:
        name: "square" or "apgd".
        budget: Queries of a run, without that of the clean image.
        epsilon: The bound; None for the usual one of its norm.
        max_queries: Hard limit of forward passes per image, or None.
        options: `norm`, which is "L1", and options of the package.

    Raises:
        InputError: for an invalid option or value, or if the package is missing.
    """

    def __init__(self, name: str, budget: int, epsilon: float | None, max_queries: int | None,
                 options: Mapping[str, Any]) -> None:
        _, _, losses, length = _KINDS[name]
        self._kind = _load(name)
        check_options(name, self._kind, options, _RESERVED)
        self.name, self.max_queries, self._options = name, max_queries, dict(options)
        if options.get("loss", losses[0]) not in losses:
            raise unknown("loss", str(options["loss"]), losses)
        epsilon = EPSILONS["L1"] if epsilon is None else epsilon
        white = name == "apgd"
        self._length = {length: budget - 1}  # both begin with a query that they don't count
        self.settings = plain({**self._options, "budget": budget, "epsilon": epsilon, "max_queries": max_queries})
        self.traits = Traits(
            label(name, ["L1", *(["white-box"] if white else [])], max_queries=max_queries, schedule=budget,
                  options={key: value for key, value in options.items() if key != "norm"}, epsilon=epsilon,
                  usual=EPSILONS["L1"]),
            needs="gradients" if white else "scores", budget=budget, epsilon=epsilon, norm="l1", bound=epsilon,
            prefix=False)

    def run(self, model: CountedModel, x: torch.Tensor, y: torch.Tensor, seed: int, example: int) -> None:
        """See `SingleImageAttack.run`. The draws come from torch's global generator."""
        attack = self._kind(model, eps=self.traits.bound, seed=torch.initial_seed(), device="cpu", **self._length,
                            **self._options)
        attack.perturb(x.contiguous(), y)


def make(name: str, *, budget: int, epsilon: float | None, max_queries: int | None,
         options: Mapping[str, Any]) -> PyAutoAttack:
    """Make the attack; see `framebench.attacks.registry.make`."""
    return PyAutoAttack(name, budget, epsilon, max_queries, options)


def _load(name: str) -> Any:
    module, kind, *_ = _KINDS[name]
    return getattr(require(f"pyautoattack.{module}", "zoo"), kind)
