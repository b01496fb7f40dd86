"""SimBA, the simple black-box attack (Guo et al., ICML 2019, arXiv 1905.07121), batched, exact and streaming.

Draw a direction q of an orthonormal basis, without replacement; try +epsilon q, then -epsilon q; keep the first that
makes the true class less likely. One direction is one iteration and costs one or two queries.

Differences to the authors' code, each with its reason (docs/definitions.md has the comparison in full):

* Every image has its own order of directions, drawn by (seed, example id): the same for every model, batch and shard.
* Every forward pass of an image is charged, the first one included, and nothing else is forwarded.
* The objective is z_y - logsumexp of the other logits: the order of p(y|x), without its saturation in float32.
* The image shown is clip(x + perturbation, 0, 1); the perturbation itself is not clipped, unless that is asked for.
* The attack ends after the last direction; asking for more iterations is an error.
* An image that is finished leaves its slot to the next one, so that forward passes stay full.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Set
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import nn

from framebench.attacks.base import Attack, Finished, Load, Predict, Traits, guarded, label
from framebench.attacks.bases import check_directions
from framebench.attacks.convention import NormalisedClip
from framebench.attacks.options import CHOICES, SimBAOptions
from framebench.attacks.signatures import check_options, plain
from framebench.attacks.slots import Slots
from framebench.errors import InputError


class SimBAAttack(Attack):
    """SimBA as the benchmark runs it.

    Args:
        options: Its options.
        space: The space in which images are clipped, if not pixel space.
    """

    def __init__(self, options: SimBAOptions, space: NormalisedClip | None = None) -> None:
        self.options, self._space = options, space
        self.settings = plain({key: value for key, value in dataclasses.asdict(options).items() if key != "budget"})
        if options.order != "random":
            self.settings["draws"] = "band by band"  # the orders of earlier rows were others
        words = [getattr(options, name) for name in ("basis", "order", "step", "objective", "convention", "clip")
                 if name == "basis" or getattr(options, name) != CHOICES[name][0]]
        pixels = options.convention == "pixel-clip"  # else linf is no distance between images
        bound = options.linf if pixels else None
        self.traits = Traits(
            label("simba", [*words, *(["targeted"] if options.targeted else [])], linf=options.linf,
                  max_queries=options.max_queries, epsilon=options.epsilon, usual=SimBAOptions.epsilon),
            needs="scores", budget=options.budget, epsilon=options.epsilon, norm=None if bound is None else "linf",
            bound=bound, targeted=options.targeted,
            cost="one-or-two" if options.step == "first-improving" else "two")

    def on(self, module: nn.Module) -> SimBAAttack:
        """See `Attack.on`: the normalised-clip convention takes the model's normalisation."""
        if self.options.convention == "pixel-clip":
            return self
        return SimBAAttack(self.options, NormalisedClip(module))

    def check(self, shape: tuple[int, int, int]) -> None:
        """See `Attack.check`: no direction repeats."""
        check_directions(self.options.budget, shape)

    def stream(self, predict: Predict, load: Load, ids: np.ndarray, *, seed: int,
               batch_size: int) -> Iterator[Finished]:
        """See `Attack.stream`."""
        run = functools.partial(self._run, ids=ids, seed=seed, batch_size=batch_size)
        if self.options.convention == "pixel-clip":
            return run(predict, load)
        assert self._space is not None, "a convention that needs the model's normalisation: call `on` first"
        return self._space.stream(run, predict, load)

    def _run(self, predict: Predict, load: Load, ids: np.ndarray, seed: int, batch_size: int) -> Iterator[Finished]:
        for done, _ in _attack(predict, load, ids, ids, self.options, seed, batch_size, None, self.watched):
            yield done


def make(name: str, *, budget: int, epsilon: float | None, max_queries: int | None,
         options: Mapping[str, Any]) -> SimBAAttack:
    """Make the attack; see `framebench.attacks.registry.make`."""
    check_options(name, SimBAOptions, options)
    return SimBAAttack(SimBAOptions(budget, SimBAOptions.epsilon if epsilon is None else epsilon,
                                    max_queries=max_queries, **options))


@dataclass(frozen=True, repr=False)
class SimBAResult:
    """The attack's outcome, in the order of the images given.

    Attributes:
        x_adv: float [n, C, H, W] in [0, 1].
        success_iteration: int64 [n]; 0 if misclassified (or at the target) from the start, -1 if never.
        queries: int64 [n], forward passes spent.
        l2: float64 [n].
        linf: float64 [n].
    """

    x_adv: torch.Tensor
    success_iteration: torch.Tensor
    queries: torch.Tensor
    l2: torch.Tensor
    linf: torch.Tensor

    def __repr__(self) -> str:
        """Return a summary in one line; the tensors would fill screens."""
        attacked, broken = (int((self.success_iteration != 0).sum()), int((self.success_iteration > 0).sum()))
        return (f"SimBAResult({len(self.queries)} images, {broken} of {attacked} attacked ones broken, "
                f"{int(self.queries.sum()):,} queries)")


def simba(predict: Predict, x: ArrayLike, y: ArrayLike, *, max_iterations: int, epsilon: float = 0.2,
          basis: str = "pixel", order: str = "random", step: str = "first-improving", objective: str = "margin",
          targeted: bool = False, targets: ArrayLike | None = None, linf: float | None = None,
          max_queries: int | None = None, clip: str = "anew", ids: ArrayLike | None = None,
          seed: int = 0, batch_size: int = 256) -> SimBAResult:
    """Attack images with SimBA; `SimBAOptions` says more about the options.

    Args:
        predict: Maps images [m, C, H, W] in [0, 1] to logits [m, classes]; sees at most `batch_size` live images. A
            module is attacked in eval mode, and has its own mode back afterwards.
        x: Images, float [n, C, H, W] in [0, 1], a tensor, an array or lists. A module gets them in the type of its
            parameters; a function gets a tensor as it is, and others as float32.
        y: Labels, int [n], likewise.
        max_iterations: Directions to try, at most C H W.
        epsilon: Step along a direction, in pixel units of [0, 1].
        basis: "pixel" or "dct".
        order: "random", "low-frequency" or "strided".
        step: "first-improving" or "best-of-two".
        objective: "margin" or "probability".
        targeted: Attack towards a class instead of away from the label.
        targets: Targets of a targeted attack, int [n]; None draws them by (seed, id), never the label.
        linf: Bound on the perturbation's largest entry, or None.
        max_queries: Limit of forward passes per image, or None.
        clip: "anew" or "cumulative".
        ids: Example ids that key the random draws; None means 0 to n-1.
        seed: Seed of the directions and targets.
        batch_size: Images per forward pass; changes the speed, not the result.

    Raises:
        InputError: for invalid options, types, shapes or values, and for logits that are not finite.
    """
    options = SimBAOptions(max_iterations, epsilon, basis, order, step, objective, targeted or targets is not None,
                           linf, max_queries, clip)
    if not callable(predict):
        raise InputError(f"a model must be a module or a function, not a {type(predict).__name__}; "
                         "framebench.load_model(NAME) gives one by name")
    images, labels = _images(x, predict), _integers(y, "labels")
    aims = None if targets is None else _integers(targets, "targets")
    count = images.shape[:1]
    if labels.shape != count or (aims is not None and aims.shape != count):
        raise InputError(f"there are {len(images)} images; labels and targets must have as many entries")
    if any(len(given) and int(given.min()) < 0 for given in (labels, *([] if aims is None else [aims]))):
        raise InputError("labels and targets must be classes, from 0 up")
    numbers = np.arange(len(images)) if ids is None else _integers(ids, "ids").numpy()
    if numbers.shape != count:
        raise InputError(f"there are {len(images)} images but {numbers.size} ids")
    n = len(images)
    result = SimBAResult(images.clone(), torch.full((n,), -1), torch.zeros(n, dtype=torch.int64),
                         torch.zeros(n, dtype=torch.float64), torch.zeros(n, dtype=torch.float64))
    with _in_eval_mode(predict):
        for done, at in _attack(predict, lambda i: (images[torch.from_numpy(i).to(images.device)], labels[i]), numbers,
                                np.arange(n), options, seed, batch_size, None if aims is None else aims.numpy()):
            index = torch.from_numpy(at)
            result.x_adv[index.to(images.device)] = done.x_adv.to(images)
            for name in ("success_iteration", "queries", "l2", "linf"):
                getattr(result, name)[index] = torch.from_numpy(getattr(done, name))
    return result


def _images(given: Any, predict: Predict) -> torch.Tensor:
    """Return images as a tensor without a graph, in the type that the model computes in."""
    x = _tensor(given, "images")
    if x.ndim != 4 or not x.is_floating_point():
        raise InputError(f"images must be floating point [n, C, H, W], not {x.dtype} {list(x.shape)}")
    if x.shape[-1] == 3 and min(x.shape[1:3]) > 4:  # no image is three pixels wide and has so many channels
        raise InputError(f"images must be [n, C, H, W]; {list(x.shape)} looks like [n, H, W, C]: permute the axes")
    if len(x) and not (float(x.min()) >= 0 and float(x.max()) <= 1):
        raise InputError("images must lie in [0, 1]; put the normalisation inside the model")
    if isinstance(predict, nn.Module):
        dtypes = (tensor.dtype for tensor in predict.parameters() if tensor.is_floating_point())
        return x.to(next(dtypes, torch.float32))
    return x if isinstance(given, torch.Tensor) else x.float()  # NumPy and Python default to float64


def _integers(given: Any, what: str) -> torch.Tensor:
    """Return classes or ids as int64 on the CPU."""
    values = _tensor(given, what).cpu()
    if values.numel() and (values.is_floating_point() or values.is_complex() or values.dtype == torch.bool):
        raise InputError(f"{what} must be integers, not {values.dtype}")
    return values.long()


def _tensor(given: Any, what: str) -> torch.Tensor:
    if isinstance(given, torch.Tensor):
        return given.detach()
    try:
        return torch.from_numpy(np.array(given, order="C"))
    except (TypeError, ValueError, RuntimeError):  # of objects, and of rows of several lengths
        raise InputError(f"{what} must be a tensor or an array, not a {type(given).__name__} of other things") from None


@contextmanager
def _in_eval_mode(predict: Predict) -> Iterator[None]:
    """Put a module into eval mode, and restore the mode of each submodule afterwards."""
    modes = [(part, part.training) for part in predict.modules()] if isinstance(predict, nn.Module) else []
    try:
        if isinstance(predict, nn.Module):
            predict.eval()
        yield
    finally:
        for part, training in modes:
            part.training = training


def _attack(predict: Predict, load: Load, ids: np.ndarray, keys: np.ndarray, options: SimBAOptions, seed: int,
            batch_size: int, targets: np.ndarray | None,
            watched: Set[int] = frozenset()) -> Iterator[tuple[Finished, np.ndarray]]:
    """Yield finished images and their positions in `ids`; `load` is called with entries of `keys`."""
    if batch_size < 1:
        raise InputError(f"the batch size must be at least 1, not {batch_size}")
    ask, slots, cursor = guarded(predict), None, 0
    while cursor < len(ids) or (slots is not None and slots.live):
        free = (min(batch_size, len(ids)) if slots is None else slots.size) - (slots.live if slots else 0)
        if take := min(free, len(ids) - cursor):
            at = np.arange(cursor, cursor + take)
            x, y = load(keys[at])
            slots = slots or Slots(min(batch_size, len(ids)), x, options, seed, watched)
            slots.admit(at, ids[at], x, y.numpy(), None if targets is None else targets[at])
            cursor += take
        assert slots is not None
        with torch.no_grad():
            logits = ask(slots.images)
        finished = slots.answer(logits)
        if len(finished):
            yield slots.release(finished)


def __getattr__(name: str) -> Any:
    # foolbox takes seconds to import, so it is imported when its form of the attack is first used.
    if name == "SimBA":
        from framebench.attacks.foolbox_simba import SimBA
        return SimBA
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
