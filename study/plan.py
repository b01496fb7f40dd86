"""The manifest: which trainings there are, which are missing, and which coefficient an arm goes on with."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from framebench.errors import InputError
from framebench.models.checkpoint import HELD_OUT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

STUDY = Path(__file__).parent
#: One folder per training: its weights, card and logs, and its rows; or the reason why it failed.
TRAININGS = STUDY / "trainings"
#: A training that ended with an error, such as a loss that is not finite, has this file alone.
FAILED = "failed.txt"


@dataclass(frozen=True)
class Training:
    """One training.

    Attributes:
        arm: The arm's name in the manifest.
        seed: Its seed.
        gamma: The coefficient where the arm has several; None where it has one or none.
        options: Options of `framebench.train`.
    """

    arm: str
    seed: int
    gamma: float | None
    options: dict[str, Any]

    @property
    def name(self) -> str:
        """What the checkpoint is called."""
        return "-".join([self.arm, *([] if self.gamma is None else [f"g{self.gamma:g}"]), f"s{self.seed}"])

    @property
    def dataset(self) -> str:
        """What it was trained on."""
        return str(self.options["dataset"])

    @property
    def folder(self) -> Path:
        """Where its files are kept."""
        return TRAININGS / self.name

    @property
    def card(self) -> dict[str, Any] | None:
        """Its card; None where it has not been trained, or failed."""
        path = self.folder / f"{self.name}.json"
        return json.loads(path.read_text()) if path.exists() else None

    @property
    def failed(self) -> bool:
        """Whether it was tried and could not be finished."""
        return (self.folder / FAILED).exists()

    @property
    def held_out(self) -> float:
        """Accuracy on the held-out images; -1 where the training failed."""
        entries = (self.card or {}).get("accuracy", [])
        return next((float(entry["accuracy"]) for entry in entries if entry["data"] == HELD_OUT), -1.0)


def manifest() -> dict[str, Any]:
    """Return the manifest."""
    return tomllib.loads((STUDY / "manifest.toml").read_text())


def tries(arm: str) -> list[Training]:
    """Return the trainings of seed 0 of an arm, one per coefficient; none while the arm it is like has none yet."""
    entry = manifest()["arms"][arm]
    try:
        return [_training(arm, 0, gamma) for gamma in entry.get("gammas", [None])]
    except InputError:
        return []


def chosen(arm: str) -> float | None:
    """Return the coefficient that an arm goes on with: the one with the best held-out accuracy, the smallest of equals.

    Raises:
        InputError: if not all of its tries have been made, or all have failed.
    """
    made = tries(arm)
    if not made or any(training.card is None and not training.failed for training in made):
        raise InputError(f"not all coefficients of {arm} have been tried")
    if all(training.failed for training in made):
        raise InputError(f"every training of {arm} has failed")
    return max(made, key=lambda training: training.held_out).gamma


def trainings() -> Iterator[Training]:
    """Yield the trainings in the order in which they are made; an arm that can't go on ends with its tries."""
    seeds, arms = manifest()["seeds"], manifest()["arms"]
    for arm in arms:
        yield from tries(arm)
    for seed in seeds[1:]:
        for arm, entry in arms.items():
            if seed in entry.get("seeds", seeds):
                try:
                    yield _training(arm, seed, chosen(arm))
                except InputError:
                    continue


def _training(arm: str, seed: int, gamma: float | None) -> Training:
    """Return a training.

    Raises:
        InputError: if its coefficient is that of an arm that has none yet.
    """
    found = manifest()
    own = dict(found["arms"][arm])
    if "like" in own:
        own = {**found["arms"][own["like"]], **own}
        if "gammas" in own:
            own["gamma"] = chosen(own["like"])
    own = {key: value for key, value in own.items() if key not in ("title", "gammas", "like", "seeds")}
    penalty = found["penalty"] if "regularizer" in own else {}
    options = {**found["recipe"], **penalty, **own, "seeds": [seed]}
    if penalty:
        options["regularizer_options"] = {key: value for entry in (penalty, own)
                                          for key, value in entry.get("regularizer_options", {}).items()}
    if gamma is not None:
        options["gamma"] = gamma
    return Training(arm, seed, gamma, options)
