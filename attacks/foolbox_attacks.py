"""Any attack of foolbox (Rauber et al. 2020), run on one image at a time."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from framebench.attacks.options import FOOLBOX_EPSILONS, check, one_of
from framebench.attacks.queries import Bound
from framebench.errors import InputError, unknown

os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")  # else foolbox can't be imported where there is no git binary

import foolbox  # noqa: E402
from foolbox import attacks, distances  # noqa: E402

#: Attacks that ask for predictions or scores alone. Every other one is taken to need gradients.
GRADIENT_FREE = (
    attacks.BinarizationRefinementAttack, attacks.BinarySearchContrastReductionAttack, attacks.BoundaryAttack,
    attacks.GaussianBlurAttack, attacks.HopSkipJumpAttack, attacks.InversionAttack,
    attacks.L2ContrastReductionAttack, attacks.LinearSearchBlendedUniformNoiseAttack,
    attacks.LinearSearchContrastReductionAttack, attacks.PointwiseAttack, attacks.SaltAndPepperNoiseAttack,
    attacks.additive_noise.BaseAdditiveNoiseAttack, attacks.additive_noise.BaseRepeatedAdditiveNoiseAttack)

DISTANCES = {"l0": distances.l0, "l1": distances.l1, "l2": distances.l2, "linf": distances.linf}

#: Options that are the benchmark's.
_PLANNED = ("max_iterations", "epsilon", "white_box", "max_queries")


class FoolboxAttack:
    """An attack of foolbox on one image.

    A minimisation attack is stopped once it is within epsilon: what counts is whether it gets there, and when.

    Args:
        name: Name of the class.
        options: epsilon, in the attack's own distance, and what the class takes; a name of another attack, where one
            is taken, stands for that attack with its defaults.
    """

    def __init__(self, name: str, options: dict[str, Any]) -> None:
        self.name = name
        self._attack = _build(_kind(name), {key: value for key, value in options.items() if key not in _PLANNED})
        self.white_box = not isinstance(self._attack, GRADIENT_FREE)
        self.bound = Bound(_norm(name, self._attack), options["epsilon"])

    def run(self, model: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor, y: torch.Tensor, seed: int,
            example: int) -> None:
        """Attack one image; see `framebench.attacks.registry.Attack`. The draws come from the global generators."""
        seen = foolbox.PyTorchModel(_Module(model), bounds=(0, 1), device="cpu")
        try:
            self._attack(seen, x, y, epsilons=self.bound.epsilon)
        except ValueError as error:
            if "init_attack failed" not in str(error):
                raise
            # A decision-based attack that has found no image to start from has failed; that is a result.


def canonical(name: str) -> str:
    """Return the class name that a name or an alias of foolbox's, such as PGD, stands for.

    Raises:
        InputError: for an unknown one.
    """
    return _kind(name).__name__


def plan(name: str, budget: int, epsilon: float | None, given: dict[str, Any]) -> dict[str, Any]:
    """Return the options of a run of `budget` queries; see `framebench.attacks.registry.plan`.

    Raises:
        InputError: for an option or a value that the attack does not have, and for a distance without a usual bound.
    """
    kind = _kind(name)
    options = dict(given)
    if issubclass(kind, attacks.base.FlexibleDistanceMinimizationAttack):
        options.setdefault("distance", "l2")
        one_of("distance", options["distance"], tuple(DISTANCES))
        given = {key: value for key, value in given.items() if key != "distance"}
    check(f"foolbox:{name}", kind.__init__, given, ("self", "tensorboard"))
    attack = _build(kind, options)
    norm = _norm(name, attack)
    if epsilon is None and norm not in FOOLBOX_EPSILONS:
        raise InputError(f"foolbox:{name} minimises {norm}, for which there is no usual bound; give --epsilon")
    options |= {"max_iterations": budget, "epsilon": FOOLBOX_EPSILONS[norm] if epsilon is None else epsilon}
    return options if isinstance(attack, GRADIENT_FREE) else {**options, "white_box": True}


class _Module(nn.Module):
    """A function as a module, which foolbox insists on."""

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.function = function
        self.eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Call the function."""
        return self.function(x)


def _kind(name: str) -> type[Any]:
    known = {key: value for key, value in vars(attacks).items()
             if inspect.isclass(value) and issubclass(value, attacks.base.AttackWithDistance)
             and not inspect.isabstract(value)}
    if name not in known:
        raise unknown("attack of foolbox", name, known)
    if known[name] is attacks.GenAttack:
        raise InputError("foolbox:GenAttack attacks towards a target alone; of score-based attacks use simba or square")
    return known[name]


def _build(kind: type[Any], options: dict[str, Any]) -> Any:
    made = {key: _build(_kind(value), {}) if key.endswith("attack") and isinstance(value, str) else value
            for key, value in options.items() if key != "distance"}
    try:
        attack = kind(**made)
    except Exception as error:  # a library's constructor can refuse a value in any way
        raise InputError(f"foolbox:{kind.__name__} does not take these options ({type(error).__name__}: {error}); "
                         "check --attack-option") from None
    if "distance" in options:  # not every class that needs one takes it as an argument
        attack._distance = DISTANCES[options["distance"]]
    return attack


def _norm(name: str, attack: Any) -> str:
    for norm, distance in DISTANCES.items():
        if attack.distance is distance:
            return norm
    raise InputError(f"the distance of foolbox:{name} is none of {', '.join(DISTANCES)}; use another attack")
