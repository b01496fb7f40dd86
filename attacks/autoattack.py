"""AutoAttack (Croce & Hein, ICML 2020, arXiv 2003.01690): an ensemble, each attack on the images not broken yet.

The attacks and their settings are those of the authors' package, `pyautoattack`. Differences to the package: the random
draws; an image is done at its first success, and the next one takes its place in the batch; the outcome of an image
does not depend on its batch; in version "plus", all runs of APGD come first.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from framebench.attacks.apgd import APGDOptions, ascend
from framebench.attacks.base import Attack, Finished, Load, Part, Predict, Traits, guarded, label
from framebench.attacks.fab import Boundary
from framebench.attacks.options import EPSILONS, AutoAttackOptions
from framebench.attacks.signatures import changed, check_options, plain
from framebench.attacks.square import Search, SquareOptions
from framebench.attacks.state import Batch, run
from framebench.extras import require

#: Attack -> gradients per iteration. A step of FAB is a forward pass with its gradient and one without; untargeted, the
#: gradient is of all classes.
_GRADIENTS = {"apgd-ce": 1.0, "apgd-dlr": 1.0, "apgd-t": 1.0, "fab": 0.5, "fab-t": 0.5, "square": 0.0}
#: Batches of images that wait for an attack before it starts. More would waste less of the last batch, which is not
#: full, and take more memory.
_WAITING = 4
_LOSSES = {"apgd-ce": "ce", "apgd-dlr": "dlr", "apgd-t": "dlr-targeted"}


class AutoAttack(Attack):
    """The attack.

    Its length is fixed by the options; a smaller budget ends it earlier. Each part has a fixed range of iterations,
    even if it needs fewer, so the iteration of a success tells which part has broken the image.

    Args:
        budget: The largest iteration.
        epsilon: The bound; None for the usual one of the norm.
        max_queries: Hard limit of forward passes per image, or None.
        options: Further options.

    Raises:
        InputError: if the package is missing.
    """

    def __init__(self, budget: int, epsilon: float | None, max_queries: int | None,
                 options: AutoAttackOptions) -> None:
        usual = EPSILONS[options.norm]
        epsilon = usual if epsilon is None else epsilon
        words = [options.norm, *([] if options.version == "standard" else [options.version]), "white-box"]
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
            label("autoattack", words, max_queries=max_queries, options=changed(options, "norm", "version"),
                  epsilon=epsilon, usual=usual),
            needs="gradients", budget=min(budget, parts[-1].end), epsilon=epsilon, norm=options.norm.lower(),
            bound=epsilon, parts=parts)
        self._rest = parts[len(self._first):]
        if any(part.name.startswith("fab") for part in self._rest):
            require("pyautoattack.fab_projections", "zoo")  # fail now, not when the first image gets there

    def stream(self, predict: Predict, load: Load, ids: np.ndarray, *, seed: int,
               batch_size: int) -> Iterator[Finished]:
        """See `Attack.stream`."""
        finished = ascend(predict, load, ids, self._runs, APGDOptions(self._options.norm, eot=self._options.eot),
                       self._epsilon, min(self.traits.budget + 1, self._max_queries), seed=seed, batch_size=batch_size)
        start = self._first[-1].end
        for part in self._rest:
            finished = self._follow(finished, part, start, guarded(predict), load, seed, batch_size)
            start = part.end
        return finished

    def _follow(self, earlier: Iterator[Finished], part: Part, start: int, predict: Predict, load: Load, seed: int,
                batch_size: int) -> Iterator[Finished]:
        """Yield broken images at once, and attack the others when there are a few batches of them."""
        left = min(self.traits.budget, part.end) - start
        waiting: list[Finished] = []

        def attacked() -> Iterator[Finished]:
            before = {int(done.ids[0]): done for done in waiting}
            waiting.clear()
            arriving = ((id_, min(left + part.extra, self._max_queries - int(done.queries[0])))
                        for id_, done in list(before.items()))
            for several in run(self._batch(part, seed), predict, load, arriving, batch_size):
                for done in several.each():
                    yield self._joined(before.pop(int(done.ids[0])), done, start - part.extra)

        for done in (one for several in earlier for one in several.each()):
            if done.success_iteration[0] >= 0 or left < 1 or done.queries[0] >= self._max_queries:
                yield done
                continue
            waiting.append(done)
            if len(waiting) == _WAITING * batch_size:
                yield from attacked()
        yield from attacked()

    def _joined(self, before: Finished, after: Finished, start: int) -> Finished:
        """Return the outcome of an image after two parts."""
        broken = after.success_iteration[0] >= 0
        best = after if broken or after.margin[0] < before.margin[0] else before
        success = np.where(after.success_iteration >= 0, after.success_iteration + start, -1)
        return dataclasses.replace(best, clean_prediction=before.clean_prediction,
                                   clean_confidence=before.clean_confidence, success_iteration=success,
                                   queries=before.queries + after.queries)

    def _batch(self, part: Part, seed: int) -> Batch[Any]:
        options = self._options
        if part.name == "square":
            return Search(SquareOptions(options.norm, resc_schedule=False), self._epsilon, options.queries, seed,
                          clean=False)
        return Boundary(options.norm, self._epsilon, options.iterations, seed=seed, restarts=options.restarts,
                        targets=options.targets if part.name == "fab-t" else 0)


def queries_after(parts: Sequence[Part], settings: Mapping[str, Any], classes: int,
                  iterations: np.ndarray) -> np.ndarray:
    """Return the queries of an image that is not broken after numbers of iterations, int64 like `iterations`.

    Args:
        parts: The parts.
        settings: See `Attack.settings`.
        classes: Classes of the model. Targeted FAB skips the targets that it lacks.
        iterations: Numbers of iterations of the whole attack, int64.
    """
    queries, start = np.ones_like(iterations), 0  # the first query is that of the clean image
    for part in parts:
        used = part.end - start
        if part.name == "fab-t":
            used = used * min(settings["targets"], classes - 1) // settings["targets"]
        queries += (iterations - start).clip(0, used) + part.extra * (iterations > start)
        start = part.end
    return queries


def make(name: str, *, budget: int, epsilon: float | None, max_queries: int | None,
         options: Mapping[str, Any]) -> AutoAttack:
    """Make the attack; see `framebench.attacks.registry.make`."""
    check_options(name, AutoAttackOptions, options)
    return AutoAttack(budget, epsilon, max_queries, AutoAttackOptions(**options))
