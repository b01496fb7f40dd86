"""Any attack of foolbox (Rauber et al. 2020), run on one image at a time, or on a few that it treats apart."""

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

#: Attacks that ask for predictions or scores alone. Every other one is taken to need gradients.
GRADIENT_FREE = (
    attacks.BinarizationRefinementAttack, attacks.BinarySearchContrastReductionAttack, attacks.BoundaryAttack,
    attacks.GaussianBlurAttack, attacks.HopSkipJumpAttack, attacks.InversionAttack,
    attacks.L2ContrastReductionAttack, attacks.LinearSearchBlendedUniformNoiseAttack,
    attacks.LinearSearchContrastReductionAttack, attacks.PointwiseAttack, attacks.SaltAndPepperNoiseAttack,
    attacks.additive_noise.BaseAdditiveNoiseAttack, attacks.additive_noise.BaseRepeatedAdditiveNoiseAttack)

#: Attacks that do to each image of a batch what they would do to it alone, draws aside, however the others fare. Of the
#: other ones some look at the sum of all losses, or go on until all images are done.
APART = (attacks.DDNAttack, attacks.NewtonFoolAttack, attacks.deepfool.DeepFoolAttack,
         attacks.fast_minimum_norm.FMNAttackLp, attacks.gradient_descent_base.BaseGradientDescent)

#: Images in a lane of such an attack. More save little, and it lasts as long as the slowest of them.
GROUP = 32

DISTANCES = {"l0": distances.l0, "l1": distances.l1, "l2": distances.l2, "linf": distances.linf}

#: Norm of an attack's distance -> its bound that is usual on CIFAR-10.
EPSILONS = {"l2": 1.0, "linf": 8 / 255}


class FoolboxAttack(SingleImageAttack):
    """An attack of foolbox.

    A minimisation attack is stopped once it is within epsilon: what counts is whether it gets there, and when. With
    `minimise`, it spends its budget, and the nearest misclassified image that it asked about is the outcome.

    Args:
        name: Name of its class, or an alias.
        budget: Queries after the clean image's.
        epsilon: The bound, in the attack's own distance; None for the usual one.
        max_queries: Hard limit of forward passes per image, or None.
        options: What the class takes, `distance` ("l0", "l1", "l2" or "linf") if it takes any, and `minimise` of a
            minimisation attack, which then has no epsilon. A name of another attack, where one is taken, stands for
            that attack with its defaults.

    Raises:
        InputError: for an unknown name, an option or a value that the attack does not have, and for a distance without
            a usual bound.
    """

    def __init__(self, name: str, budget: int, epsilon: float | None, max_queries: int | None,
                 options: Mapping[str, Any]) -> None:
        kind = _kind(name)
        self.name, self.max_queries, own = f"foolbox:{kind.__name__}", max_queries, dict(options)
        self.minimise = _minimise(self.name, kind, own.pop("minimise", False), epsilon)
        checked = dict(own)
        if issubclass(kind, attacks.base.FlexibleDistanceMinimizationAttack):
            own.setdefault("distance", "l2")
            if own["distance"] not in DISTANCES:
                raise unknown("distance", str(own["distance"]), DISTANCES)
            checked.pop("distance", None)
        check_options(self.name, kind.__init__, checked, ("self", "tensorboard"))
        self._attack = _build(kind, own)
        norm = _norm(self.name, self._attack)
        if epsilon is None and not self.minimise and norm not in EPSILONS:
            raise InputError(f"{self.name} minimises {norm}, for which there is no usual bound; give epsilon")
        epsilon = EPSILONS[norm] if epsilon is None and not self.minimise else epsilon
        white = not isinstance(self._attack, GRADIENT_FREE)
        self.group = GROUP if _apart(self._attack) else 1
        self.leaving = isinstance(self._attack, attacks.deepfool.DeepFoolAttack)
        # How near it gets depends on the budget: to minimise, rows of a longer run don't answer for a shorter one.
        length = {"minimise": True, "budget": budget} if self.minimise else {}
        self.settings = plain({**own, **length, "epsilon": epsilon, "max_queries": max_queries})
        words = [*(["white-box"] if white else []), *(["minimal"] if self.minimise else [])]
        self.traits = Traits(
            label(self.name, words, max_queries=max_queries, schedule=length.get("budget"), options=own,
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
        seen = foolbox.PyTorchModel(_Module(model), bounds=(0, 1), device="cpu")
        try:
            self._attack(seen, x, y, epsilons=self.traits.bound)
        except ValueError as error:
            if "init_attack failed" not in str(error):
                raise
            # A decision-based attack that has found no image to start from has failed; that is a result.


def _apart(attack: Any) -> bool:
    """Tell whether an attack treats the images of a batch apart."""
    # One projects all images or none; an attack that makes the start must succeed on all.
    return (isinstance(attack, APART) and not isinstance(attack, attacks.SparseL1DescentAttack)
            and getattr(attack, "init_attack", None) is None)


def _own_draws(seeds: Sequence[int]) -> type[eagerpy.PyTorchTensor]:
    """Return a kind of tensors, one row per image, whose draws of an image are those that it would get alone.

    What an attack computes from tensors of a kind is of that kind.
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


def _minimise(name: str, kind: type[Any], asked: Any, epsilon: float | None) -> bool:
    """Tell whether an attack is to minimise, which is an option of ours."""
    if not isinstance(asked, bool):
        raise InputError(f"minimise of {name} must be true or false, not {asked!r}")
    if asked and not issubclass(kind, attacks.base.MinimizationAttack):
        raise InputError(f"{name} does not minimise the distance; leave minimise out, or use an attack such as "
                         "foolbox:DDNAttack or foolbox:L2FMNAttack")
    if asked and epsilon is not None:
        raise InputError(f"{name} has no epsilon where it is to minimise; leave one of them out (--l2 CAP counts "
                         "successes within a distance)")
    return asked


def canonical(name: str) -> str:
    """Return ``foolbox:CLASS`` for a name or an alias of foolbox's, such as ``foolbox:PGD``.

    Raises:
        InputError: for an unknown one.
    """
    return f"foolbox:{_kind(name.removeprefix('foolbox:')).__name__}"


def make(name: str, *, budget: int, epsilon: float | None, max_queries: int | None,
         options: Mapping[str, Any]) -> FoolboxAttack:
    """Make the attack; see `framebench.attacks.registry.make`."""
    return FoolboxAttack(name.removeprefix("foolbox:"), budget, epsilon, max_queries, options)


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
    # A name of an attack, where one is taken, is not told by the signature.
    made = {key: _build(_kind(value), {}) if key.endswith("attack") and isinstance(value, str) else value
            for key, value in options.items() if key != "distance"}
    try:
        attack = kind(**made)
    except Exception as error:  # a library's constructor can refuse a value in any way
        raise InputError(f"foolbox:{kind.__name__} does not take these options ({type(error).__name__}: {error}); "
                         "check them") from None
    if "distance" in options:  # not every class that needs one takes it as an argument
        attack._distance = DISTANCES[options["distance"]]
    return attack


def _norm(name: str, attack: Any) -> str:
    for norm, distance in DISTANCES.items():
        if attack.distance is distance:
            return norm
    raise InputError(f"the distance of {name} is none of {', '.join(DISTANCES)}; use another attack")
