"""Random noise: SimBA without feedback from the model, a control that shows what the queries contribute."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from framebench.attacks.base import Traits, label
from framebench.attacks.bases import BASES, check_directions
from framebench.attacks.options import SimBAOptions
from framebench.attacks.queries import CountedModel
from framebench.attacks.signatures import check_options
from framebench.attacks.single import SingleImageAttack
from framebench.seeding import generator


class Noise(SingleImageAttack):
    """At iteration k the image shows k random steps, +epsilon or -epsilon along its own first k SimBA directions.

    The order of directions is SimBA's; the signs are drawn by (seed, example id). Every step is kept. So the
    perturbation is at least as long as SimBA's after as many iterations: epsilon sqrt(k) before clipping.

    Args:
        budget: Steps; see `framebench.attacks.options.SimBAOptions` for these and the others.
        epsilon: Their length.
        basis: "pixel" or "dct".
        max_queries: Hard limit of forward passes per image, or None.

    Raises:
        InputError: for invalid values.
    """

    name = "noise"

    def __init__(self, budget: int, epsilon: float = SimBAOptions.epsilon, basis: str = "pixel",
                 max_queries: int | None = None) -> None:
        SimBAOptions(budget, epsilon, basis, max_queries=max_queries)  # checks them
        self.epsilon, self.basis, self.max_queries = epsilon, basis, max_queries
        self.settings = {"epsilon": epsilon, "basis": basis, "max_queries": max_queries}
        self.traits = Traits(label("noise", [basis], max_queries=max_queries, epsilon=epsilon,
                                   usual=SimBAOptions.epsilon), needs="labels", budget=budget, epsilon=epsilon)

    def check(self, shape: tuple[int, int, int]) -> None:
        """See `framebench.attacks.base.Attack.check`: no direction repeats."""
        check_directions(self.traits.budget, shape)

    def run(self, model: CountedModel, x: torch.Tensor, y: torch.Tensor, seed: int, example: int) -> None:
        """See `SingleImageAttack.run`."""
        shape = (x.shape[1], x.shape[2], x.shape[3])
        directions = check_directions(self.traits.budget, shape)
        basis = BASES[self.basis](1, shape, x.dtype, x.device, None)
        row = np.zeros(1, dtype=np.int64)
        basis.admit(row, x)
        order = generator(seed, "simba-order", example).permutation(directions)[: self.traits.budget]
        amounts = self.epsilon * generator(seed, "noise-sign", example).choice([-1.0, 1.0], len(order))
        for direction, amount in zip(order, amounts, strict=True):
            basis.show(row, np.array([direction]), np.array([amount]))
            basis.keep(row, np.array([direction]), np.array([amount]))
            model(basis.images)


def make(name: str, *, budget: int, epsilon: float | None, max_queries: int | None,
         options: Mapping[str, Any]) -> Noise:
    """Make the attack; see `framebench.attacks.registry.make`."""
    check_options(name, Noise, options)
    return Noise(budget, SimBAOptions.epsilon if epsilon is None else epsilon, max_queries=max_queries, **options)
