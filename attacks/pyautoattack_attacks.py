"""Square and APGD in L1, as the package pyautoattack (AutoAttack; Croce & Hein 2020, arXiv 2003.01690) has them.

Their steps are scheduled over the length of the run, so that what they do by query k depends on the length: rows of a
longer run don't answer for a shorter one, and the length is part of the attack's label.
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

#: Name -> its module and class in the package, its losses, and the parameter that takes the length of a run.
_KINDS = {"square": ("square", "SquareAttack", ("margin", "ce"), "n_queries"),
          "apgd": ("autopgd_base", "APGDAttack", ("ce", "dlr"), "n_iter")}

#: Parameters of the classes that the benchmark sets.
_OURS = ("predict", "eps", "seed", "verbose", "device", "n_restarts", "n_queries", "n_iter", "targeted", "is_tf_model",
         "logger")


class PyAutoAttack(SingleImageAttack):
    """One of them.

    Square (Andriushchenko et al. 2020, arXiv 1912.00049) is score-based, one query per iteration. Auto-PGD is
    white-box; an iteration is a forward and a backward pass.

    Args:
        name: "square" or "apgd".
        budget: Queries of a run, the clean image's not among them.
        epsilon: The bound; None for the usual one of its norm.
        max_queries: Hard limit of forward passes per image, or None.
        options: norm, which is "L1", and the library's own.

    Raises:
        InputError: for an option or a value that the attack does not have, or if the package is missing.
    """

    def __init__(self, name: str, budget: int, epsilon: float | None, max_queries: int | None,
                 options: Mapping[str, Any]) -> None:
        _, _, losses, length = _KINDS[name]
        self._kind = _load(name)
        check_options(name, self._kind, options, _OURS)
        self.name, self.max_queries, self._options = name, max_queries, dict(options)
        if options.get("loss", losses[0]) not in losses:
            raise unknown("loss", str(options["loss"]), losses)
        norm, own = "L1", {key: value for key, value in options.items() if key != "norm"}
        epsilon = EPSILONS[norm] if epsilon is None else epsilon
        white = name == "apgd"
        # Both begin with a query that they don't count.
        self._length = {length: budget - 1}
        self.settings = plain({**self._options, "budget": budget, "epsilon": epsilon, "max_queries": max_queries})
        self.traits = Traits(
            label(name, [norm, *(["white-box"] if white else [])], max_queries=max_queries, schedule=budget,
                  options=own, epsilon=epsilon, usual=EPSILONS[norm]),
            needs="gradients" if white else "scores", budget=budget, epsilon=epsilon, norm=norm.lower(), bound=epsilon,
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
