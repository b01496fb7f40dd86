"""Options of `bench attack`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.options.common import Batched, Spread, WithImages, option, out_folder
from bench.options.kinds import (
    AT_LEAST_ONE,
    ATTACK,
    DOMAIN,
    INTEGER,
    MODEL,
    NUMBER,
    PAIRS,
    PATH,
    POSITIVE,
    SEED,
    SHARD,
    TEXT,
    TRUTH,
    Kind,
    Shard,
)
from bench.options.protocol import WithProtocol
from bench.options.report import Reported
from framebench.attacks.options import CHOICES, AutoAttackOptions, SimBAOptions
from framebench.attacks.registry import ATTACKS
from framebench.attacks.signatures import check_options
from framebench.errors import InputError

if TYPE_CHECKING:
    from framebench.domains import Domain
    from framebench.models.registry import LoadedModel
    from framebench.user_code import UserFunction

#: Options of SimBA, which other attacks may lack.
_SIMBA = ("basis", "order", "step", "objective", "targeted", "linf", "clip", "convention")
#: Default number of attacked images.
_IMAGES = 1000


def models_option(names: str) -> Any:
    """Return the option that names models; `names` lists the most important kinds of names."""
    return option("--models", (), MODEL, f"{names} (`bench list` shows all kinds)", many="+", metavar="M",
                  known_as="the shipped ones")


def _simba(name: str, kind: Kind, help: str) -> Any:
    """Return an option of SimBA, with the default and the choices that SimBA has."""
    return option(f"--{name}", getattr(SimBAOptions, name), kind, f"simba: {help}", choices=CHOICES.get(name, ()))


@dataclass(frozen=True, init=False)
class AttackOptions(WithProtocol, Reported, WithImages, Batched, Spread):
    """Options of `bench attack`: models, images and the attack."""

    command = "attack"

    models: tuple[str | LoadedModel, ...] = models_option(
        "shipped names, .safetensors paths, python:FILE.py:FUNCTION")
    domain: str | Domain | None = option(
        "--domain", None, DOMAIN, "images to attack; `bench list` shows all", metavar="D",
        known_as="cifar10 under --data-root, or the 20 images that foolbox ships if there is none")
    n: int | None = option("-n", None, INTEGER, "the first N images of the common, class-balanced order", metavar="N",
                           rule=AT_LEAST_ONE, known_as=f"at most {_IMAGES}")
    attack: str | UserFunction = option(
        "--attack", "simba", ATTACK, f"{', '.join(ATTACKS)}; `bench list` describes them", metavar="A")
    attack_options: Mapping[str, Any] = option(
        "--attack-option", None, PAIRS, "options of an attack other than simba (docs/attacks.md)",
        many="+", metavar="KEY=VALUE")
    basis: str = _simba("basis", TEXT, "the directions; also for noise")
    order: str = _simba("order", TEXT, "order of the directions")
    step: str = _simba("step", TEXT, "first-improving: the paper's algorithm; best-of-two: the authors' batched code")
    objective: str = _simba("objective", TEXT, "the score that a step must lower")
    epsilon: tuple[float, ...] | None = option(
        "--epsilon", None, NUMBER, "simba and noise: step size, for pixels in [0, 1]; other attacks: bound; "
        "several values are run one after the other", many="+", rule=POSITIVE, distinct=True, metavar="E",
        known_as=f"simba and noise {SimBAOptions.epsilon:g}, other attacks their own")
    clip: str = _simba("clip", TEXT, "anew: clip the image of each query to [0, 1]; cumulative: clip each accepted "
                       "image for good, as some harnesses do")
    convention: str = _simba("convention", TEXT, "clip pixels, or normalised values (only to explain published "
                             "numbers)")
    linf: float | None = _simba("linf", NUMBER, "bound on the largest change of a pixel value")
    targeted: bool = _simba("targeted", TRUTH, "attack towards a random class instead of away from the label")
    budgets: tuple[int, ...] = option(
        "--budgets", (1, 10, 50, 100, 1000), INTEGER, "iterations at which success is reported; an iteration of an "
        "attack other than simba is one query (default of autoattack: the ends of its parts)", many="+",
        metavar="K", rule=AT_LEAST_ONE)
    max_queries: int | None = option("--max-queries", None, INTEGER, "hard limit on queries per image", metavar="N",
                                     rule=AT_LEAST_ONE, known_as="none")
    l2: float | None = option("--l2", None, NUMBER, "also table ASR that counts only successes within this L2 distance",
                              metavar="CAP", rule=POSITIVE)
    seed: int = option("--seed", 0, INTEGER, "seed of the attack's random draws", rule=SEED)
    seeds: tuple[int, ...] | None = option("--seeds", None, INTEGER, "several seeds, run one after the other",
                                           many="+", rule=SEED, distinct=True, metavar="S")
    save_adversarial: bool = option("--save-adversarial", False, TRUTH,
                                    "keep all attacked images below OUT/adversarial/")
    transfer_from: tuple[Path, ...] | None = option(
        "--transfer-from", None, PATH, "attack nothing; classify images kept by --save-adversarial", many="+",
        metavar="DIR", in_protocol=False)
    shard: Shard | None = option("--shard", None, SHARD, "attack only part I of N of the images; `bench report` "
                                 "joins the outputs", metavar="I/N")
    out: Path = out_folder("runs")

    def _check(self) -> None:
        super()._check()
        if list(self.budgets) != sorted(set(self.budgets)):
            raise InputError(f"--budgets {' '.join(map(str, self.budgets))}: each must be larger than the last (0, the "
                             "control, is always added)")
        if self.seeds is not None and self.seed != type(self).seed:
            raise InputError("--seed and --seeds exclude each other; give one of them")
        SimBAOptions(**self.simba_options())  # checks them
        if self.attack == "autoattack" and "budgets" not in self.given:  # its parts determine its length
            check_options(self.attack, AutoAttackOptions, self.attack_options)
            self.fill("budgets", AutoAttackOptions(**self.attack_options).ends)

    def simba_options(self) -> dict[str, Any]:
        """Return the options of SimBA that differ from the defaults; other attacks refuse those that they lack."""
        return {name: value for name in _SIMBA if (value := getattr(self, name)) != getattr(SimBAOptions, name)}

    @property
    def all_seeds(self) -> tuple[int, ...]:
        """The seeds to run."""
        return (self.seed,) if self.seeds is None else self.seeds

    def count(self, available: int) -> int:
        """Return the number of images to attack, of `available` ones. A given -n may exceed it."""
        return min(available, _IMAGES) if self.n is None else self.n
