"""Random noise: SimBA without its look at the model, the control that tells what the queries are good for."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from framebench.attacks.bases import BASES
from framebench.attacks.queries import Bound
from framebench.attacks.slots import CHOICES
from framebench.errors import InputError, unknown
from framebench.seeding import generator


class Noise:
    """At iteration k the image shows k random steps, +epsilon or -epsilon along its own first k SimBA directions.

    Order and signs are drawn by (seed, example id), the order being SimBA's; every step is kept, whatever it does.
    So the perturbation is at least as long as SimBA's after as many iterations: epsilon sqrt(k) before clipping.

    Args:
        options: max_iterations, epsilon and basis, see `framebench.attacks.slots.Options`.
    """

    white_box = False
    bound = Bound()

    def __init__(self, options: dict[str, Any]) -> None:
        self.steps, self.epsilon, self.basis = options["max_iterations"], options["epsilon"], options["basis"]
        if self.basis not in CHOICES["basis"]:
            raise unknown("basis", self.basis, CHOICES["basis"])

    def run(self, model: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor, y: torch.Tensor, seed: int,
            example: int) -> None:
        """Attack one image; see `framebench.attacks.registry.Attack`."""
        shape = (x.shape[1], x.shape[2], x.shape[3])
        directions = math.prod(shape)
        if self.steps > directions:
            raise InputError(f"{self.steps} iterations are more than the {directions} directions of an image of "
                             f"{shape[1]}x{shape[2]}; no direction repeats")
        basis = BASES[self.basis](1, shape, x.dtype, x.device, None)
        row = np.zeros(1, dtype=np.int64)
        basis.admit(row, x)
        order = generator(seed, "simba-order", example).permutation(directions)[: self.steps]
        amounts = self.epsilon * generator(seed, "noise-sign", example).choice([-1.0, 1.0], len(order))
        for direction, amount in zip(order, amounts, strict=True):
            basis.show(row, np.array([direction]), np.array([amount]))
            basis.keep(row, np.array([direction]), np.array([amount]))
            model(basis.images)
