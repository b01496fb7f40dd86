"""What is asked: an evaluation, and the key under which its rows are kept."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from typing import Any

#: Raised when rows made before would differ from rows made now (draws, definitions, kept columns).
GENERATION = 3


@dataclass(frozen=True)
class Evaluation:
    """One model on one domain, attacked or not.

    Attributes:
        model: Label of the model.
        model_digest: sha256 of what its answers depend on.
        domain: Name of the domain.
        domain_digest: sha256 of its images and labels.
        attack: Name of the attack, as the registry has it; "none" for clean predictions.
        settings: The attack's settings, see `framebench.attacks.base.Attack`.
        budget: The largest number of iterations; 0 without an attack.
        seed: Seed of the attack's draws.
        corruption: What was done to the domain's images, empty where nothing was.
        severity: How strongly, 1 to 5; 0 where nothing was.
    """

    model: str
    model_digest: str
    domain: str
    domain_digest: str
    attack: str = "none"
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    budget: int = 0
    seed: int = 0
    corruption: str = ""
    severity: int = 0

    @property
    def key(self) -> str:
        """Hash of what changes the rows and of nothing else; the names are labels."""
        return _hash([GENERATION, self.model_digest, self.domain_digest, self.attack, self.settings, self.budget,
                      self.seed])

    @property
    def family(self) -> str:
        """Hash of the attack on whatever model, data and seed, and of whatever length.

        What an attack did by iteration k does not depend on how many were to follow, so the runs of a family can be
        compared at every budget that all of them reach. An attack whose steps depend on its length has the length among
        its settings, and so a family of its own.
        """
        return _hash([self.attack, self.settings])

    def answers(self, asked: Evaluation) -> bool:
        """Tell whether the rows of this evaluation answer what is asked: they are the same, or of a longer run."""
        alike = ("model_digest", "domain_digest", "attack", "seed", "settings")
        return self.budget >= asked.budget and all(getattr(self, name) == getattr(asked, name) for name in alike)


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
