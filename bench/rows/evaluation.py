"""What is asked: an evaluation, and the key under which its rows are kept."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any

from framebench.attacks.autoattack import EPSILONS
from framebench.attacks.options import FOOLBOX_EPSILONS
from framebench.attacks.slots import Options

#: Raised when rows made before would differ from rows made now (draws, definitions, kept columns).
GENERATION = 1

BUDGETS = (1, 10, 50, 100, 1000)

#: Options that a label names in its own way, or not at all: those of SimBA and those that all attacks have. Others are
#: a library's and are named as they were given.
_NAMED = ("max_iterations", "epsilon", "basis", "order", "step", "objective", "targeted", "linf", "max_queries",
          "convention", "clip", "norm", "schedule", "white_box")


@dataclass(frozen=True)
class Evaluation:
    """One model on one domain, attacked or not.

    Attributes:
        model: Label of the model.
        model_digest: sha256 of what its answers depend on.
        domain: Name of the domain.
        domain_digest: sha256 of its images and labels.
        attack: Name of the attack, "none" for clean predictions.
        options: The attack's options, the largest budget among them.
        seed: Seed of the attack's draws.
        corruption: What was done to the domain's images, empty where nothing was.
        severity: How strongly, 1 to 5; 0 where nothing was.
    """

    model: str
    model_digest: str
    domain: str
    domain_digest: str
    attack: str = "none"
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    seed: int = 0
    corruption: str = ""
    severity: int = 0

    @property
    def key(self) -> str:
        """Hash of what changes the rows and of nothing else; the names are labels."""
        return _hash([GENERATION, self.model_digest, self.domain_digest, self.attack, self.options, self.seed])

    @property
    def family(self) -> str:
        """Hash of the attack on whatever model, data and seed, and of whatever length, unless its steps depend on that.

        What such an attack did by iteration k does not depend on how many were to follow, so the runs of a family can
        be compared at every budget that all of them reach.
        """
        return _hash([self.attack, {name: value for name, value in self.options.items() if name != "max_iterations"}])

    @property
    def label(self) -> str:
        """What tells this attack from others, as tables and file names have it, e.g. ``simba-dct``.

        An epsilon other than the attack's default and a seed other than 0 are part of it, so that every epsilon and
        seed has its own entries in the tables.
        """
        extras = [str(self.options[name]) for name, usual in
                  (("basis", None), ("order", "random"), ("step", "first-improving"), ("objective", "margin"),
                   ("norm", None), ("convention", "pixel-clip"), ("clip", "anew"))
                  if self.options.get(name, usual) != usual]
        extras += [word for name, word in (("targeted", "targeted"), ("white_box", "white-box"))
                   if self.options.get(name)]
        extras += [f"{name.replace('_', '')}{self.options[name]:g}" for name in ("linf", "max_queries", "schedule")
                   if self.options.get(name) is not None]
        extras += [f"{name}={value}" for name, value in sorted(self.options.items()) if name not in _NAMED]
        epsilon = self.options.get("epsilon")
        if epsilon not in (None, _usual_epsilon(self.attack, self.options)):
            extras.append(f"eps{str(epsilon).removesuffix('.0')}")
        if self.seed and self.attack != "none":
            extras.append(f"s{self.seed}")
        return "-".join([self.attack, *extras])

    @property
    def file_name(self) -> str:
        """Name of the file of rows: readable, and unique by its key."""
        cell = [f"{self.corruption}-{self.severity}"] if self.corruption else []
        attack = [] if self.attack == "none" else [self.label, *([] if self.seed else ["s0"])]
        words = "-".join([self.model, self.domain, *cell, *attack, self.key[:12]])
        return re.sub(r"[^A-Za-z0-9._-]+", "_", words)[-180:] + ".parquet"


def _usual_epsilon(attack: str, options: dict[str, Any]) -> float:
    """Return the epsilon that a label leaves out: the attack's default (see `framebench.attacks.registry.plan`)."""
    if attack in ("simba", "noise"):
        return Options.epsilon
    if attack in ("square", "apgd"):
        return EPSILONS[options["norm"]]
    # Foolbox's distance, told by name and options: to ask the library costs seconds.
    linf = attack.lower().startswith("foolbox:linf") or options.get("distance") == "linf"
    return FOOLBOX_EPSILONS["linf" if linf else "l2"]


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
