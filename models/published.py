"""What others have published of models, to be shown beside what is measured.

RobustBench's leaderboards (Croce et al. 2021, arXiv 2010.09670) are the entries of ``model_info/`` in its repository at
commit 78fcc9e of 31 March 2025; its package on the registry does not carry them. The study's tables are those of A. D.
Grigoriev (MIPT 2022), docs/study.md. Both lie in ``published.csv``, rates as fractions.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path


@dataclass(frozen=True)
class Published:
    """One published row.

    Attributes:
        model: What tables here call the model: ``NAME/THREAT`` of RobustBench, with the data set before it unless that
            is CIFAR-10; ``baseline``, ``ocnn`` or ``frame`` for the study's networks, which are not those shipped here.
        network: What was measured.
        dataset: On what: "cifar10", "cifar100" or "imagenet".
        threat: "Linf", "L2", "corruptions" (15 of them at 5 severities, the mean) or "SimBA".
        epsilon: Bound of the attack in [0, 1] pixel units, if it is known.
        budget: Its iterations, if they are part of the result.
        attack: "AutoAttack", "best known attack" (where another one found more than AutoAttack), "SimBA" or "common
            corruptions".
        clean_accuracy: Fraction, if published; so are the next two.
        robust_accuracy: Accuracy under the attack or the corruptions.
        asr: Attack success rate.
        source: The paper, or where there is none the page.
    """

    model: str
    network: str
    dataset: str
    threat: str
    epsilon: float | None
    budget: int | None
    attack: str
    clean_accuracy: float | None
    robust_accuracy: float | None
    asr: float | None
    source: str


def published(model: str) -> list[Published]:
    """Return what is published of a model by the name that tables give it; of most models nothing is."""
    return _all().get(model, [])


@cache
def _all() -> dict[str, list[Published]]:
    found: dict[str, list[Published]] = {}
    with open(Path(__file__).parent / "published.csv", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            number = {name: float(Fraction(row.pop(name) or -1)) for name in
                      ("epsilon", "budget", "clean_accuracy", "robust_accuracy", "asr")}
            known = {name: value if value >= 0 else None for name, value in number.items()}
            budget = known.pop("budget")
            # The table's columns are the fields, which mypy can't tell.
            entry = Published(**row, **known, budget=None if budget is None else int(budget))  # type: ignore[arg-type]
            found.setdefault(entry.model, []).append(entry)
    return found
