"""The manifest: the trainings of the study, and the coefficient that each arm uses."""

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
#: The only file of a training that ended with an error, such as a loss that is not finite.
FAILED = "failed.txt"


@dataclass(frozen=True)
class Training:
    """One training.

    Attributes:
        arm: The arm's name in the manifest.
        seed: Its seed.
        gamma: The coefficient if the arm has several to choose from, else None.
        options: Options of `framebench.train`.
    """

    arm: str
    seed: int
    gamma: float | None
    options: dict[str, Any]

    @property
    def name(self) -> str:
        """Name of the checkpoint."""
        return "-".join([self.arm, *([] if self.gamma is None else [f"g{self.gamma:g}"]), f"s{self.seed}"])

    @property
    def dataset(self) -> str:
        """The data set that it is trained on."""
        return str(self.options["dataset"])

    @property
    def folder(self) -> Path:
        """Folder of its files."""
        return TRAININGS / self.name

    @property
    def card(self) -> dict[str, Any] | None:
        """Its card; None if it is missing or failed."""
        path = self.folder / f"{self.name}.json"
        return json.loads(path.read_text()) if path.exists() else None

    @property
    def failed(self) -> bool:
        """Whether it ended with an error."""
        return (self.folder / FAILED).exists()

    @property
    def held_out(self) -> float:
        """Accuracy on the held-out images, in [0, 1]; -1 if the training failed."""
        entries = (self.card or {}).get("accuracy", [])
        return next((float(entry["accuracy"]) for entry in entries if entry["data"] == HELD_OUT), -1.0)


def read_toml(name: str) -> dict[str, Any]:
    """Return a TOML file of the study."""
    return tomllib.loads((STUDY / name).read_text(encoding="utf-8"))


def manifest() -> dict[str, Any]:
    """Return the manifest."""
    return read_toml("manifest.toml")


def tries(arm: str) -> list[Training]:
    """Return the trainings of seed 0 of an arm, one per coefficient.

    There are none while its coefficient is that of another arm which has not chosen one yet.
    """
    entry = manifest()["arms"][arm]
    try:
        return [_training(arm, 0, gamma) for gamma in entry.get("gammas", [None])]
    except InputError:
        return []


def chosen(arm: str) -> float | None:
    """Return the coefficient of an arm: the one with the best held-out accuracy, the first among equals.

    Raises:
        InputError: if a coefficient has not been tried yet, or all trainings have failed.
    """
    candidates = tries(arm)
    if not candidates or any(training.card is None and not training.failed for training in candidates):
        raise InputError(f"not all coefficients of {arm} have been tried")
    if all(training.failed for training in candidates):
        raise InputError(f"every training of {arm} has failed")
    return max(candidates, key=lambda training: training.held_out).gamma


def trainings() -> Iterator[Training]:
    """Yield the trainings in the order in which they run; an arm without a chosen coefficient has only its tries."""
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
        InputError: if its coefficient is that of another arm which has not chosen one yet.
    """
    plan = manifest()
    entry = dict(plan["arms"][arm])
    if "like" in entry:
        entry = {**plan["arms"][entry["like"]], **entry}
        if "gammas" in entry:
            entry["gamma"] = chosen(entry["like"])
    entry = {key: value for key, value in entry.items() if key not in ("title", "gammas", "like", "seeds")}
    penalty = plan["penalty"] if "regularizer" in entry else {}
    options = {**plan["recipe"], **penalty, **entry, "seeds": [seed]}
    if penalty:
        options["regularizer_options"] = {**penalty.get("regularizer_options", {}),
                                          **entry.get("regularizer_options", {})}
    if gamma is not None:
        options["gamma"] = gamma
    return Training(arm, seed, gamma, options)
