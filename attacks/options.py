"""Options of SimBA and AutoAttack and usual bounds: their defaults, choices and checks.

The command line reads them from here, so this module imports nothing that takes time.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from numbers import Integral, Real

from framebench.errors import InputError, unknown

#: Options that are one of several words; the first is the default.
CHOICES = {
    "basis": ("pixel", "dct"),
    "order": ("random", "low-frequency", "strided"),
    "step": ("first-improving", "best-of-two"),
    "objective": ("margin", "probability"),
    "clip": ("anew", "cumulative"),
    "convention": ("pixel-clip", "normalised-clip"),
}

#: Norm of the bound of square, apgd and autoattack -> its usual size on CIFAR-10.
EPSILONS = {"Linf": 8 / 255, "L2": 0.5, "L1": 12.0}


@dataclass(frozen=True)
class SimBAOptions:
    """All that determines what SimBA does to an image, except the seed.

    Attributes:
        budget: Directions to try, at least 0 and at most C H W.
        epsilon: Step along a direction, in pixel units of [0, 1].
        basis: "pixel" or "dct".
        order: "random"; for DCT also "low-frequency" first (directions of equal frequency in random order), or
            "strided", the authors' for ImageNet: the lowest eighth of the frequencies in random order, then bands.
        step: "first-improving" (the paper's Algorithm 1), or "best-of-two" signs (the authors' batched code).
        objective: "margin" (see `framebench.attacks.simba`), or "probability" (float softmax, as the authors' code).
        targeted: Raise the probability of a target instead of lowering the label's.
        linf: Bound on the perturbation's largest entry, or None.
        max_queries: Hard limit of forward passes per image, or None.
        clip: "anew" (the perturbation is not clipped, each image shown is), or "cumulative" (each accepted image is
            clipped for good, so that what the clip removes is lost).
        convention: Where images are clipped to [0, 1]: "pixel-clip", or "normalised-clip" to explain the figures of
            harnesses that clip after the normalisation (see `framebench.attacks.convention`).
    """

    budget: int = 1000
    epsilon: float = 0.2
    basis: str = "pixel"
    order: str = "random"
    step: str = "first-improving"
    objective: str = "margin"
    targeted: bool = False
    linf: float | None = None
    max_queries: int | None = None
    clip: str = "anew"
    convention: str = "pixel-clip"

    def __post_init__(self) -> None:
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise unknown(name, str(getattr(self, name)), choices)
        check_common(self.budget, self.epsilon, self.max_queries)
        _check_number("the Linf bound", self.linf, Real)
        if self.linf is not None and not 0 < self.linf <= 1:
            raise InputError(f"the Linf bound must lie in (0, 1], not {self.linf}")
        if self.order != "random" and self.basis != "dct":
            raise InputError(f"the order '{self.order}' needs the dct basis; pixels have no frequency")


#: Version of AutoAttack -> its attacks; the gradient-based ones come first.
VERSIONS = {"standard": ("apgd-ce", "apgd-t", "fab-t", "square"),
            "plus": ("apgd-ce", "apgd-dlr", "apgd-t", "fab", "fab-t", "square"),
            "rand": ("apgd-ce", "apgd-dlr")}


@dataclass(frozen=True)
class AutoAttackOptions:
    """All that determines what AutoAttack does to an image, except the seed and the bound.

    Attributes:
        norm: "Linf" or "L2".
        version: One of `VERSIONS`.
        iterations: Steps of every run of APGD and FAB.
        queries: Queries of Square.
        targets: Number of classes that the targeted attacks aim at, in turn.
    """

    norm: str = "Linf"
    version: str = "standard"
    iterations: int = 100
    queries: int = 5000
    targets: int = 9

    def __post_init__(self) -> None:
        for name, choices in (("norm", ("Linf", "L2")), ("version", VERSIONS)):
            if getattr(self, name) not in choices:
                raise unknown(name, str(getattr(self, name)), choices)
        for name in ("iterations", "queries", "targets"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} of autoattack must be at least 1, not {getattr(self, name)}")

    @property
    def attacks(self) -> tuple[str, ...]:
        """The attacks, in their order."""
        return VERSIONS[self.version]

    @property
    def restarts(self) -> int:
        """Runs of the untargeted attacks."""
        return 5 if self.version == "plus" else 1

    @property
    def eot(self) -> int:
        """Forward passes per step of APGD."""
        return 20 if self.version == "rand" else 1

    @property
    def ends(self) -> tuple[int, ...]:
        """The last iteration of each attack. A point of APGD is `eot` iterations, a step of FAB two."""
        step = (self.iterations + 1) * self.eot
        lengths = {"apgd-ce": self.restarts * step, "apgd-dlr": self.restarts * step, "apgd-t": self.targets * step,
                   "fab": self.restarts * 2 * self.iterations, "fab-t": self.targets * 2 * self.iterations,
                   "square": self.queries + 1}
        return tuple(itertools.accumulate(lengths[name] for name in self.attacks))


def check_common(budget: int, epsilon: float | None, max_queries: int | None) -> None:
    """Check the options that all attacks have.

    Raises:
        InputError: for an invalid value.
    """
    _check_number("the number of iterations", budget, Integral)
    _check_number("epsilon", epsilon, Real)
    _check_number("the query limit", max_queries, Integral)
    if budget < 0:
        raise InputError(f"the number of iterations must not be negative, not {budget}")
    if epsilon is not None and not 0 < epsilon <= 1e6:
        raise InputError(f"epsilon must be above 0 and finite, at most 1e6, not {epsilon}")
    if max_queries is not None and max_queries < 1:
        raise InputError(f"the query limit must be at least 1, not {max_queries}")


def _check_number(what: str, value: object, kind: type) -> None:
    if value is not None and not isinstance(value, kind):
        word = "a whole number" if kind is Integral else "a number, such as 8 / 255"
        raise InputError(f"{what} must be {word}, not {value!r}")
