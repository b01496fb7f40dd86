"""AutoAttack (Croce & Hein, ICML 2020, arXiv 2003.01690): several attacks, each on images that are not broken yet.

The attacks and their settings are those of the authors' package, `pyautoattack`. APGD is our own, in batches; FAB
(Croce & Hein 2020, arXiv 1907.02044) and Square are the package's, in lanes that an image enters when APGD has not
broken it. What differs from the package's own run is the random starts, that an image is done at its first success and
does not depend on its batch, and the order of version "plus", whose gradient-based attacks come first here.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

from framebench.attacks.apgd import APGDOptions, ascend
from framebench.attacks.base import Attack, Finished, Load, Part, Predict, Traits, guarded, label
from framebench.attacks.interleave import Task, interleave
from framebench.attacks.options import EPSILONS, AutoAttackOptions
from framebench.attacks.queries import CountedModel
from framebench.attacks.signatures import check_options, plain
from framebench.attacks.single import LANES, SingleImageAttack, lane_seed
from framebench.extras import require

#: Attack -> gradients per iteration. A step of FAB is a forward pass with its gradient and one without; untargeted, the
#: gradient is of all classes.
_GRADIENTS = {"apgd-ce": 1.0, "apgd-dlr": 1.0, "apgd-t": 1.0, "fab": 0.5, "fab-t": 0.5, "square": 0.0}
_LOSSES = {"apgd-ce": "ce", "apgd-dlr": "dlr", "apgd-t": "dlr-targeted"}


class AutoAttack(Attack):
    """The attack.

    Its length is its own; a smaller budget ends it earlier. Iterations are counted by a fixed schedule, so that they
    tell which attack has broken an image: what FAB leaves out of its own is skipped.

    Args:
        budget: The largest iteration.
        epsilon: The bound; None for the usual one of the norm.
        max_queries: Hard limit of forward passes per image, or None.
        options: What it does.

    Raises:
        InputError: if the package is missing.
    """

    def __init__(self, budget: int, epsilon: float | None, max_queries: int | None,
                 options: AutoAttackOptions) -> None:
        usual = EPSILONS[options.norm]
        epsilon = usual if epsilon is None else epsilon
        words = [options.norm, *([] if options.version == "standard" else [options.version]), "white-box"]
        own = {key: value for key in ("iterations", "queries", "targets")
               if (value := getattr(options, key)) != getattr(AutoAttackOptions, key)}
        parts = tuple(Part(name, end, _GRADIENTS[name])
                      for name, end in zip(options.attacks, options.ends, strict=True))
        self._options, self._epsilon = options, epsilon
        self._max_queries = max_queries or 2 * parts[-1].end  # which is no limit
        self._first = [part for part in parts if part.name in _LOSSES]
        self._runs = [run for part in self._first for run in APGDOptions(
            loss=_LOSSES[part.name], targets=options.targets,
            restarts=1 if part.name == "apgd-t" else options.restarts).runs(options.iterations + 1)]
        self.settings = plain({**dataclasses.asdict(options), "epsilon": epsilon, "max_queries": max_queries})
        self.traits = Traits(
            label("autoattack", words, max_queries=max_queries, options=own, epsilon=epsilon, usual=usual),
            needs="gradients", budget=min(budget, parts[-1].end), epsilon=epsilon, norm=options.norm.lower(),
            bound=epsilon, parts=parts)
        self._rest = _Rest(options, self.traits, parts[len(self._first):])

    def stream(self, predict: Predict, load: Load, ids: np.ndarray, *, seed: int,
               batch_size: int) -> Iterator[Finished]:
        """See `Attack.stream`."""
        first = ascend(predict, load, ids, self._runs, APGDOptions(self._options.norm, eot=self._options.eot),
                       self._epsilon, min(self.traits.budget + 1, self._max_queries), seed=seed, batch_size=batch_size)
        yield from interleave(self._tasks(first, load, seed), guarded(predict), lanes=min(batch_size, LANES),
                              batch_size=batch_size)

    def _tasks(self, first: Iterator[Finished], load: Load, seed: int) -> Iterator[tuple[int, Task[Finished]]]:
        """Give a task for every image that APGD is done with; it is over at once where nothing is left to do."""
        for several in first:
            for done in several.each():
                yield lane_seed(seed, int(done.ids[0])), functools.partial(self._go_on, done, load, seed)

    def _go_on(self, done: Finished, load: Load, seed: int, ask: Predict) -> Finished:
        start = self._first[-1].end
        left = min(self.traits.budget - start + 1, self._max_queries - int(done.queries[0]))
        if done.success_iteration[0] >= 0 or left < 2:
            return done
        rest = self._rest.single(load, seed, int(done.ids[0]), ask, limit=left)
        best = rest if rest.success_iteration[0] > 0 or rest.margin[0] < done.margin[0] else done
        success = np.where(rest.success_iteration > 0, rest.success_iteration + start, -1)
        return dataclasses.replace(best, success_iteration=success, queries=done.queries + rest.queries)


class _Rest(SingleImageAttack):
    """What comes after APGD. The clean image is asked about again, which is one query more."""

    name = "autoattack"

    def __init__(self, options: AutoAttackOptions, traits: Traits, parts: tuple[Part, ...]) -> None:
        self._options, self.traits, self.parts, self.settings = options, traits, parts, {}
        self._start = 0 if not parts else traits.parts[-len(parts) - 1].end
        self._fab, self._square = (getattr(require(f"pyautoattack.{module}", "zoo"), kind) for module, kind in (
            ("fab_pt", "FABAttack_PT"), ("square", "SquareAttack")))

    def run(self, model: CountedModel, x: torch.Tensor, y: torch.Tensor, seed: int, example: int) -> None:
        """See `SingleImageAttack.run`. The draws come from torch's global generator."""
        more: dict[str, Any] = {"norm": self._options.norm, "eps": self.traits.bound, "seed": torch.initial_seed(),
                                "device": "cpu"}
        x = x.contiguous()  # the package takes views
        for part in self.parts:
            if part.name == "square":
                self._square(model, n_queries=self._options.queries, resc_schedule=False, **more).perturb(x, y)
                continue
            fab = self._fab(model, n_iter=self._options.iterations, **more)
            torch.manual_seed(more["seed"])
            if part.name == "fab":
                for restart in range(self._options.restarts):
                    fab.attack_single_run(x, y, use_rand_start=restart > 0)
            else:
                for rank in range(1, min(self._options.targets, model.classes - 1) + 1):
                    fab.target_class = rank + 1  # from the top, the label's own place included
                    fab.attack_single_run(x, y, is_targeted=True)
            model.skip_to(part.end - self._start)


def make(name: str, *, budget: int, epsilon: float | None, max_queries: int | None,
         options: Mapping[str, Any]) -> AutoAttack:
    """Make the attack; see `framebench.attacks.registry.make`."""
    check_options(name, AutoAttackOptions, options)
    return AutoAttack(budget, epsilon, max_queries, AutoAttackOptions(**options))
