"""Any attack of foolbox (Rauber et al. 2020), run on one image, or on a few that it treats independently."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import eagerpy
import torch
from torch import nn

from framebench.attacks.base import Traits, label
from framebench.attacks.queries import CountedModel, CountedModels
from framebench.attacks.signatures import check_options, plain
from framebench.attacks.single import SingleImageAttack
from framebench.errors import InputError, unknown

os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")  # else foolbox can't be imported where there is no git binary

import foolbox  # noqa: E402
from foolbox import attacks, distances  # noqa: E402

#: Attacks that need predictions or scores only. All others are assumed to need gradients.
GRADIENT_FREE = (
    attacks.BinarizationRefinementAttack, attacks.BinarySearchContrastReductionAttack, attacks.BoundaryAttack,
    attacks.GaussianBlurAttack, attacks.HopSkipJumpAttack, attacks.InversionAttack,
    attacks.L2ContrastReductionAttack, attacks.LinearSearchBlendedUniformNoiseAttack,
    attacks.LinearSearchContrastReductionAttack, attacks.PointwiseAttack, attacks.SaltAndPepperNoiseAttack,
    attacks.additive_noise.BaseAdditiveNoiseAttack, attacks.additive_noise.BaseRepeatedAdditiveNoiseAttack)

#: Attacks that treat the images of a batch independently, random draws aside. Some of the others use the sum of all
#: losses, or continue until all images are done.
APART = (attacks.DDNAttack, attacks.NewtonFoolAttack, attacks.deepfool.DeepFoolAttack,
         attacks.fast_minimum_norm.FMNAttackLp, attacks.gradient_descent_base.BaseGradientDescent)

#: Images per lane of such an attack. More save little, and a lane lasts as long as its slowest image.
GROUP = 32

DISTANCES = {"l0": distances.l0, "l1": distances.l1, "l2": distances.l2, "linf": distances.linf}

#: Norm of an attack's distance -> the usual bound on CIFAR-10.
EPSILONS = {"l2": 1.0, "linf": 8 / 255}


class FoolboxAttack(SingleImageAttack):
    """An attack of foolbox.

    A minimisation attack is stopped once it is within epsilon. With `minimise`, it spends its whole budget, and the
    nearest misclassified image that it queried is the outcome.

    Args:
        name: Name of its class, or an alias.
        budget: Queries after the clean image's.
        epsilon: The bound, in the attack's own distance; None for the usual one.
        max_queries: Hard limit of forward passes per image, or None.
        options: Options of the class; `distance` ("l0", "l1", "l2" or "linf") if it supports several; and `minimise` of
            a minimisation attack, which then has no epsilon. Where the class takes another attack, its name stands for
            that attack with its defaults.

    Raises:
        InputError: for an unknown name, an invalid option or value, and for a distance without a usual bound.
    """

    def __init__(self, name: str, budget: int, epsilon: float | None, max_queries: int | None,
                 options: Mapping[str, Any]) -> None:
        kind = _kind(name)
        self.name, self.max_queries, options = f"foolbox:{kind.__name__}", max_queries, dict(options)
        self.minimise = _minimise(self.name, kind, options.pop("minimise", False), epsilon)
        of_class = dict(options)
        if issubclass(kind, attacks.base.FlexibleDistanceMinimizationAttack):
            options.setdefault("distance", "l2")
            if options["distance"] not in DISTANCES:
                raise unknown("distance", str(options["distance"]), DISTANCES)
            of_class.pop("distance", None)
        check_options(self.name, kind.__init__, of_class, ("self", "tensorboard"))
        self._attack = _build(kind, options)
        norm = _norm(self.name, self._attack)
        if epsilon is None and not self.minimise and norm not in EPSILONS:
            raise InputError(f"{self.name} minimises {norm}, for which there is no usual bound; give epsilon")
        epsilon = EPSILONS[norm] if epsilon is None and not self.minimise else epsilon
        white = not isinstance(self._attack, GRADIENT_FREE)
        self.group = GROUP if _apart(self._attack) else 1
        self.leaving = isinstance(self._attack, attacks.deepfool.DeepFoolAttack)
        # The minimal distance depends on the budget, so rows of a longer run are not valid for a shorter one.
        length = {"minimise": True, "budget": budget} if self.minimise else {}
        self.settings = plain({**options, **length, "epsilon": epsilon, "max_queries": max_queries})
        words = [*(["white-box"] if white else []), *(["minimal"] if self.minimise else [])]
        self.traits = Traits(
            label(self.name, words, max_queries=max_queries, schedule=length.get("budget"), options=options,
                  epsilon=epsilon, usual=EPSILONS.get(norm)),
            needs="gradients" if white else "labels", budget=budget, epsilon=epsilon, norm=norm, bound=epsilon,
            prefix=not self.minimise)

    def run(self, model: CountedModel, x: torch.Tensor, y: torch.Tensor, seed: int, example: int) -> None:
        """See `SingleImageAttack.run`. The draws come from the global generators."""
        self._attack_all(model, x, y)

    def run_group(self, model: CountedModels, x: torch.Tensor, y: torch.Tensor, seeds: Sequence[int]) -> None:
        """See `SingleImageAttack.run_group`."""
        self._attack_all(model, _own_draws(seeds)(x), y)

    def _attack_all(self, model: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor | eagerpy.Tensor,
                    y: torch.Tensor) -> None:
        wrapped = foolbox.PyTorchModel(_Module(model), bounds=(0, 1), device="cpu")
        try:
            self._attack(wrapped, x, y, epsilons=self.traits.bound)
        except ValueError as error:
            if "init_attack failed" not in str(error):
                raise
            # A decision-based attack that finds no starting point has failed, which is a valid outcome.


def _apart(attack: Any) -> bool:
    """Return whether an attack treats the images of a batch independently."""
    # SparseL1DescentAttack projects all images or none; an initial attack must succeed on all images.
    return (isinstance(attack, APART) and not isinstance(attack, attacks.SparseL1DescentAttack)
            and getattr(attack, "init_attack", None) is None)


def _own_draws(seeds: Sequence[int]) -> type[eagerpy.PyTorchTensor]:
    """Return a tensor type, one row per image, whose random draws for an image do not depend on the others.

    Operations on tensors of this type return the same type.
    """
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    class Rows(eagerpy.PyTorchTensor):  # type: ignore[misc]  # eagerpy has no types
        __slots__ = ()

        def uniform(self, shape: Sequence[int], low: float = 0.0, high: float = 1.0) -> Rows:
            return type(self)(self._drawn(torch.rand, shape) * (high - low) + low)

        def normal(self, shape: Sequence[int], mean: float = 0.0, stddev: float = 1.0) -> Rows:
            return type(self)(self._drawn(torch.randn, shape) * stddev + mean)

        def _drawn(self, draw: Callable[..., torch.Tensor], shape: Sequence[int]) -> torch.Tensor:
            drawn = torch.empty(tuple(shape), dtype=self.raw.dtype)
            for row, generator in zip(drawn, generators, strict=True):
                draw(row.shape, generator=generator, out=row)
            return drawn

    return Rows


def _minimise(name: str, kind: type[Any], value: Any, epsilon: float | None) -> bool:
    """Check and return the option `minimise`, which the benchmark adds to foolbox's."""
    if not isinstance(value, bool):
        raise InputError(f"minimise of {name} must be true or false, not {value!r}")
    if value and not issubclass(kind, attacks.base.MinimizationAttack):
        raise InputError(f"{name} does not minimise the distance; leave minimise out, or use an attack such as "
                         "foolbox:DDNAttack or foolbox:L2FMNAttack")
    if value and epsilon is not None:
        raise InputError(f"{name} takes no epsilon with minimise=true; leave one of them out (--l2 CAP counts "
                         "successes within a distance)")
    return value


def canonical(name: str) -> str:
    """Return ``foolbox:CLASS`` for a name or an alias in foolbox, such as ``foolbox:PGD``.

    Raises:
        InputError: for an unknown one.
    """
    return f"foolbox:{_kind(name.removeprefix('foolbox:')).__name__}"


def make(name: str, *, budget: int, epsilon: float | None, max_queries: int | None,
         options: Mapping[str, Any]) -> FoolboxAttack:
    """Make the attack; see `framebench.attacks.registry.make`."""
    return FoolboxAttack(name.removeprefix("foolbox:"), budget, epsilon, max_queries, options)


class _Module(nn.Module):
    """A function as a module, which foolbox requires."""

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.function = function
        self.eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Call the function."""
        return self.function(x)


def _kind(name: str) -> type[Any]:
    classes = {key: value for key, value in vars(attacks).items()
               if inspect.isclass(value) and issubclass(value, attacks.base.AttackWithDistance)
               and not inspect.isabstract(value)}
    if name not in classes:
        raise unknown("attack of foolbox", name, classes)
    if classes[name] is attacks.GenAttack:
        raise InputError("foolbox:GenAttack is targeted only; use another score-based attack, simba or square")
    return classes[name]


def _build(kind: type[Any], options: dict[str, Any]) -> Any:
    # The signature does not tell which parameters take an attack.
    made = {key: _build(_kind(value), {}) if key.endswith("attack") and isinstance(value, str) else value
            for key, value in options.items() if key != "distance"}
    try:
        attack = kind(**made)
    except Exception as error:  # a library's constructor can refuse a value in any way
        raise InputError(f"foolbox:{kind.__name__} does not take these options ({type(error).__name__}: {error}); "
                         "check them") from None
    if "distance" in options:  # not all classes take it as an argument
        attack._distance = DISTANCES[options["distance"]]
    return attack


def _norm(name: str, attack: Any) -> str:
    for norm, distance in DISTANCES.items():
        if attack.distance is distance:
            return norm
    raise InputError(f"the distance of {name} is none of {', '.join(DISTANCES)}; use another attack")
