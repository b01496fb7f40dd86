"""Auto-PGD (Croce & Hein, ICML 2020, arXiv 2003.01690), batched, exact and streaming.

Projected gradient ascent with momentum. Where progress stalls, the step size is halved and the attack returns to its
best point; nothing needs tuning. From the same start, the iterates are those of the authors' code (`pyautoattack`).
Differences:

* Every image has its own start, drawn by (seed, example id), and its own step size. It leaves at its first success or
  after its last run, and the next one takes its place in the batch. Results do not depend on the batch.
* Every forward pass is charged, including that of the clean image. An iteration is a forward pass with its gradient.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import numpy as np

from framebench.attacks.ascent import Ascent, Run
from framebench.attacks.base import Attack, Finished, Load, Predict, Traits, guarded, label
from framebench.attacks.losses import LOSSES
from framebench.attacks.options import EPSILONS
from framebench.attacks.signatures import changed, check_options, plain
from framebench.attacks.state import run
from framebench.errors import InputError, unknown


@dataclass(frozen=True)
class APGDOptions:
    """Options of the attack.

    Attributes:
        norm: "Linf" or "L2".
        loss: The loss to maximise: "ce" (cross-entropy), "dlr" (difference of logits ratio), or "dlr-targeted".
        restarts: Number of runs, each from its own start (for the targeted loss, per target).
        targets: For the targeted loss, the number of targets: the classes with the largest logits of the clean image.
        rho: Share of the steps between two checkpoints that must raise the loss; otherwise the step size is halved.
        eot: Forward passes per step, whose gradients are averaged (expectation over transformations): above 1 for
            randomised models. Success is judged on the last one.
    """

    norm: str = "Linf"
    loss: str = "ce"
    restarts: int = 1
    targets: int = 9
    rho: float = 0.75
    eot: int = 1

    def __post_init__(self) -> None:
        if self.norm not in ("Linf", "L2"):
            raise unknown("norm", self.norm, ("Linf", "L2"))
        if self.loss not in LOSSES:
            raise unknown("loss", self.loss, LOSSES)
        for name in ("restarts", "targets", "eot"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} of apgd must be at least 1, not {getattr(self, name)}")

    def runs(self, length: int) -> list[Run]:
        """Return the runs, each of `length` points, including the start."""
        ranks = range(1, self.targets + 1) if self.loss == "dlr-targeted" else [0]
        return [Run(self.loss, rank, length) for rank in ranks for _ in range(self.restarts)]


class APGD(Attack):
    """The attack.

    The budget is divided evenly among the runs, and a run depends on its length. So rows of a longer run are not valid
    for a shorter one.

    Args:
        budget: Forward passes after that of the clean image.
        epsilon: The bound; None for the usual one of the norm.
        max_queries: Hard limit of forward passes per image, or None.
        options: Further options.
    """

    def __init__(self, budget: int, epsilon: float | None, max_queries: int | None, options: APGDOptions) -> None:
        usual = EPSILONS[options.norm]
        epsilon = usual if epsilon is None else epsilon
        count = len(options.runs(1))
        self._runs = options.runs(max(budget // (count * options.eot), 1))
        self._options, self._limit = options, min(budget + 1, max_queries or budget + 1)
        self.settings = plain({**vars(options), "budget": budget, "epsilon": epsilon, "max_queries": max_queries})
        self.traits = Traits(
            label("apgd", [options.norm, "white-box"], max_queries=max_queries, schedule=budget,
                  options=changed(options, "norm"), epsilon=epsilon, usual=usual),
            needs="gradients", budget=budget, epsilon=epsilon, norm=options.norm.lower(), bound=epsilon, prefix=False)

    def stream(self, predict: Predict, load: Load, ids: np.ndarray, *, seed: int,
               batch_size: int) -> Iterator[Finished]:
        """See `Attack.stream`."""
        return ascend(predict, load, ids, self._runs, self._options, self.traits.epsilon or 0.0, self._limit,
                      seed=seed, batch_size=batch_size, watched=self.watched)


def ascend(predict: Predict, load: Load, ids: np.ndarray, runs: Sequence[Run], options: APGDOptions, epsilon: float,
           limit: int, *, seed: int, batch_size: int, watched: Set[int] = frozenset()) -> Iterator[Finished]:
    """Attack the examples with several runs in turn, and yield images as they finish.

    Args:
        predict: The model; differentiable.
        load: The images.
        ids: Examples to attack, int64 [n].
        runs: The runs on each of them, until one breaks it.
        options: Norm, rho and eot.
        epsilon: The bound.
        limit: Hard limit of forward passes per image.
        seed: Seed of the starts, which depend on the id of an example too.
        batch_size: Images under attack at once. On a CPU, large images are forwarded in smaller batches (`PASS`).
        watched: Ids of the examples whose margin's path is kept.

    Raises:
        InputError: see `Attack.stream`; also for a model that gives no gradients, or has too few classes for the loss.
    """
    ascent = Ascent(runs, options.norm, epsilon, options.rho, options.eot, seed, watched)
    return run(ascent, guarded(predict), load, ((int(example), limit) for example in ids), batch_size)


def make(name: str, *, budget: int, epsilon: float | None, max_queries: int | None,
         options: Mapping[str, Any]) -> Attack:
    """Make the attack; see `framebench.attacks.registry.make`."""
    check_options(name, APGDOptions, options)
    return APGD(budget, epsilon, max_queries, APGDOptions(**options))
