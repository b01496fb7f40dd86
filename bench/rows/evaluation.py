"""An evaluation, and the key under which its rows are stored."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from typing import Any

#: Raised when the same evaluation would give other rows than before (draws, definitions, columns).
GENERATION = 3


@dataclass(frozen=True)
class Evaluation:
    """One model on one domain, with or without an attack.

    Attributes:
        model: Label of the model.
        model_digest: sha256 of all that its outputs depend on.
        domain: Name of the domain.
        domain_digest: sha256 of its images and labels.
        attack: Name of the attack in the registry; "none" for clean predictions.
        settings: The attack's settings, see `framebench.attacks.base.Attack`.
        budget: The largest number of iterations; 0 without an attack.
        seed: Seed of the attack's draws.
        corruption: Corruption of the domain's images; may be empty.
        severity: Severity of the corruption, 1 to 5; 0 without corruption.
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
        """Hash of all that changes the rows, and nothing else; names are only labels."""
        return _hash([GENERATION, self.model_digest, self.domain_digest, self.attack, self.settings, self.budget,
                      self.seed])

    @property
    def family(self) -> str:
        """Hash of the attack, without model, data, seed and length.

        The first k iterations of an attack do not depend on how many follow. So runs of a family can be compared at
        every budget that all of them reach. If an attack's steps do depend on its length, the length is one of its
        settings, and so part of the family.
        """
        return _hash([self.attack, self.settings])

    def answers(self, other: Evaluation) -> bool:
        """Tell whether these rows also answer another evaluation: the same, or one with a smaller budget."""
        same = ("model_digest", "domain_digest", "attack", "seed", "settings")
        return self.budget >= other.budget and all(getattr(self, name) == getattr(other, name) for name in same)


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
