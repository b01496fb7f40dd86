"""Attacks by name, planned from options and run over the examples of a data set."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import numpy as np
import torch

from framebench.attacks import autoattack, options
from framebench.attacks.interleave import interleave
from framebench.attacks.noise import Noise
from framebench.attacks.queries import Ask, AttackOver, Bound, CountedModel
from framebench.attacks.simba import Finished, Load, Options, Predict
from framebench.attacks.simba import stream as stream_simba
from framebench.errors import InputError, unknown
from framebench.seeding import generator

#: Attacks and what they are.
ATTACKS = {
    "simba": "SimBA, score-based",
    "noise": "random steps along SimBA's directions, the control",
    "square": "Square of pyautoattack, score-based",
    "apgd": "Auto-PGD of pyautoattack, white-box",
    "foolbox:NAME": "any attack of foolbox, such as foolbox:HopSkipJumpAttack",
}

#: Images that are attacked at once by attacks that own their loop. More fill the forward passes no better.
_LANES = 64


class Attack(Protocol):
    """An attack on one image.

    Attributes:
        white_box: Whether it takes gradients.
        bound: The distance within which a success counts.
    """

    white_box: bool
    bound: Bound

    def run(self, model: CountedModel, x: torch.Tensor, y: torch.Tensor, seed: int, example: int) -> None:
        """Attack one image until `model` ends it.

        Args:
            model: What to ask. It keeps the outcome.
            x: The image, float [1, C, H, W] in [0, 1].
            y: Its label, int64 [1].
            seed: The attack's seed.
            example: The example's id, which keys the draws. Those of global generators start from it already.
        """


def canonical(name: str) -> str:
    """Return the name under which an attack's rows are kept.

    Raises:
        InputError: for an unknown attack.
    """
    library, colon, attack = name.partition(":")
    if library == "foolbox" and colon:
        from framebench.attacks import foolbox_attacks
        return f"foolbox:{foolbox_attacks.canonical(attack)}"
    if name not in ATTACKS or name == "foolbox:NAME":
        raise unknown("attack", name, ATTACKS)
    return name


def plan(name: str, budget: int, *, epsilon: float | None, given: Iterable[str], basis: str = "pixel",
         max_queries: int | None = None) -> dict[str, Any]:
    """Return an attack's options, checked, as they are kept with its rows; for SimBA see `Options`.

    Of a library's attack those that were not given have the library's defaults; its version is kept with the rows.

    Args:
        name: A name that `canonical` has returned, not "simba".
        budget: The largest budget: queries an image, the clean image's not among them.
        epsilon: The attack's bound (noise: step) in [0, 1] pixel units; None for its default.
        given: Further options of the attack, KEY=VALUE each.
        basis: Directions of noise.
        max_queries: Hard limit of forward passes an image, or None.

    Raises:
        InputError: for what the attack does not take.
    """
    if epsilon is not None and not 0 < epsilon < float("inf"):
        raise InputError(f"epsilon must be above 0 and finite, not {epsilon}")
    if max_queries is not None and max_queries < 1:
        raise InputError(f"the query limit must be at least 1, not {max_queries}")
    parsed = options.parse(given)
    if name == "noise":
        options.check(name, lambda: None, parsed, ())
        planned = {"max_iterations": budget, "epsilon": Options.epsilon if epsilon is None else epsilon, "basis": basis}
    elif name in ("square", "apgd"):
        planned = autoattack.plan(name, budget, epsilon, parsed)
    else:
        from framebench.attacks import foolbox_attacks
        planned = foolbox_attacks.plan(name.removeprefix("foolbox:"), budget, epsilon, parsed)
    return {**planned, "max_queries": max_queries}


def needs_scores(name: str, options: dict[str, Any]) -> bool:
    """Tell whether an attack needs more than the predicted class."""
    return name in ("simba", "square") or bool(options.get("white_box"))


def load_attack(name: str, options: dict[str, Any]) -> Attack:
    """Build an attack on single images (any but SimBA) from its name and planned options."""
    if name == "noise":
        return Noise(options)
    if name in ("square", "apgd"):
        return autoattack.AutoAttack(name, options)
    from framebench.attacks import foolbox_attacks
    return foolbox_attacks.FoolboxAttack(name.removeprefix("foolbox:"), options)


def bound_of(name: str, options: dict[str, Any]) -> Bound:
    """Return the distance from the clean image within which an attack's success counts; most often SimBA has none."""
    if name == "simba":  # in another convention linf is not a distance between images
        return Bound() if options["linf"] is None or "convention" in options else Bound("linf", options["linf"])
    return load_attack(name, options).bound


def stream(name: str, options: dict[str, Any], predict: Predict, load: Load, ids: np.ndarray, *, seed: int = 0,
           batch_size: int = 256) -> Iterator[Finished]:
    """Attack the examples `ids`, giving finished images out as they finish.

    Args:
        name: A name that `canonical` has returned.
        options: Its options, from `plan`, or the fields of `Options`.
        predict: Maps images [m, C, H, W] in [0, 1] to logits [m, classes]; differentiable for a white-box attack.
        load: Maps int64 [r] ids to images float [r, C, H, W] in [0, 1] and labels int64 [r].
        ids: int64 [n].
        seed: Seed of the draws.
        batch_size: Images a forward pass; a white-box attack runs image by image.

    Raises:
        InputError: for logits that can't be, and where a library's attack fails.
    """
    if name == "simba":
        yield from stream_simba(predict, load, ids, Options(**options), seed=seed, batch_size=batch_size)
        return
    attack = load_attack(name, options)
    budget = int(options["max_iterations"] if "max_iterations" in options else options["schedule"])
    limit = min(budget + 1, options["max_queries"] or budget + 1)

    def single(example: int, ask: Ask) -> Finished:
        x, y = load(np.array([example]))
        model = CountedModel(predict if attack.white_box else ask, x, int(y[0]), limit=limit, bound=attack.bound)
        try:
            if not model.over:
                attack.run(model, x, y, seed, example)
        except AttackOver:
            pass
        except InputError:
            raise
        except Exception as error:  # a library's attack can fail in any way
            raise InputError(f"the attack {name} failed on example {example} ({type(error).__name__}: {error}); "
                             "check its options, or leave this example out") from error
        return model.finished(example)

    tasks = ((int(generator(seed, "library-attack", example).integers(2**62)),
              functools.partial(single, int(example))) for example in ids)
    yield from interleave(tasks, predict, lanes=min(batch_size, _LANES), batch_size=batch_size)
