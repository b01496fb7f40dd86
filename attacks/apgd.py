"""Auto-PGD (Croce & Hein, ICML 2020, arXiv 2003.01690), batched, exact and streaming.

Projected gradient ascent with momentum, whose step is halved, and which goes back to its best point, where progress
stalls; there is nothing to tune. The iterates are those of the authors' code (`pyautoattack`) from the same start.
What differs:

* Every image has its own start, drawn by (seed, example id), its own step size and its own end: it leaves at its first
  success or when its runs are over, and the next one takes its place. Results do not depend on the batch.
* Every forward pass is charged, the clean image's included. An iteration is one of them, with its gradient.
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
        loss: What is raised: "ce" (cross-entropy), "dlr" (difference of logits ratio), or "dlr-targeted".
        restarts: Runs from starts of their own (of the targeted loss, for every target).
        targets: Of the targeted loss, how many classes are targeted one after the other, those that the clean image is
            nearest to.
        rho: Share of steps between two checkpoints that must raise the loss, or else the step is halved.
        eot: Forward passes whose mean gradient makes a step (expectation over transformations): above 1 for models that
            draw at random. The last of them is judged.
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
        """Return the runs, of so many steps each, the start included."""
        ranks = range(1, self.targets + 1) if self.loss == "dlr-targeted" else [0]
        return [Run(self.loss, rank, length) for rank in ranks for _ in range(self.restarts)]


class APGD(Attack):
    """The attack.

    The budget is shared out evenly among the runs, and what a run does depends on its length. So rows of a longer run
    don't answer for a shorter one.

    Args:
        budget: Forward passes after the clean image's.
        epsilon: The bound; None for the usual one of the norm.
        max_queries: Hard limit of forward passes per image, or None.
        options: What it does.
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
    """Attack the examples with some runs one after the other, giving finished images out as they finish.

    Args:
        predict: The model; differentiable.
        load: The images.
        ids: Examples to attack, int64 [n].
        runs: What is done to each of them, until a run breaks it.
        options: Norm, rho and eot.
        epsilon: The bound.
        limit: Hard limit of forward passes per image.
        seed: Keys the starts, together with each example's id.
        batch_size: Images under attack at once. On a CPU, a forward pass is of fewer where images are large (`PASS`).
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
