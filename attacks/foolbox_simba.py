"""SimBA as an attack of foolbox (Rauber et al. 2020), for code that speaks foolbox."""

from __future__ import annotations

import os
from typing import Any

import torch

os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")  # else foolbox can't be imported where there is no git binary

import eagerpy as ep  # noqa: E402
from foolbox.attacks.base import MinimizationAttack, get_criterion  # noqa: E402
from foolbox.criteria import Misclassification, TargetedMisclassification  # noqa: E402
from foolbox.distances import l2  # noqa: E402

from framebench.attacks.simba import simba  # noqa: E402


class SimBA(MinimizationAttack):  # type: ignore[misc]  # foolbox has no types
    """SimBA (Guo et al. 2019, arXiv 1905.07121) on foolbox's PyTorch models with bounds (0, 1).

    The images are those that `framebench.attacks.simba.simba` gives for the same options, ids and seed.

    Args:
        max_iterations: Directions to try.
        ids: Example ids that key the random draws, of the batch that the attack is run on; None means 0 to n-1.
        **options: Further options of `framebench.attacks.simba.simba`: epsilon, basis, order, step, objective, linf,
            max_queries, clip, seed, batch_size.
    """

    distance = l2

    def __init__(self, max_iterations: int = 1000, *, ids: list[int] | None = None, **options: Any) -> None:
        self.max_iterations, self.ids, self.options = max_iterations, ids, options

    def run(self, model: Any, inputs: Any, criterion: Any, *, early_stop: float | None = None, **kwargs: Any) -> Any:
        """Attack `inputs`; see foolbox.

        Raises:
            ValueError: for a criterion other than (targeted) misclassification, or bounds other than (0, 1).
            TypeError: for inputs that are not PyTorch tensors.
        """
        if tuple(model.bounds) != (0, 1):
            raise ValueError(f"SimBA attacks images in [0, 1], but the model's bounds are {tuple(model.bounds)}")
        x, restore = ep.astensor_(inputs)
        if not isinstance(x.raw, torch.Tensor):
            raise TypeError(f"SimBA attacks PyTorch models, not {type(x.raw).__name__}")
        aim = get_criterion(criterion)
        if isinstance(aim, Misclassification):
            labels, targets = aim.labels.raw, None
        elif isinstance(aim, TargetedMisclassification):
            labels = targets = aim.target_classes.raw
        else:
            raise ValueError(f"SimBA knows misclassification, targeted or not, but not {aim!r}")
        result = simba(model, x.raw, labels, targets=targets, max_iterations=self.max_iterations, ids=self.ids,
                       **self.options)
        return restore(ep.astensor(result.x_adv))
