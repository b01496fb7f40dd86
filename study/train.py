"""The trainings of the study that are missing, one after the other."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Collection
from pathlib import Path

import pandas as pd

import framebench
from framebench.errors import DivergedError, unknown
from study.plan import FAILED, Training, manifest, trainings

_log = logging.getLogger(__name__)


def train_missing(data_root: str | None, work: Path, arms: Collection[str] | None = None) -> None:
    """Train what the manifest asks for and is not there.

    Args:
        data_root: Where data lie.
        work: Where trainings keep their state; a training that was killed goes on from it.
        arms: Only trainings of these arms; None for all.

    Raises:
        InputError: for data that are missing, and for an unknown arm.
    """
    known = manifest()["arms"]
    for arm in arms or ():
        if arm not in known:
            raise unknown("arm", arm, known)
    while (training := _next(known if arms is None else arms)) is not None:
        _log.info("training %s", training.name)
        try:
            framebench.train(**training.options, name=training.name, data_root=data_root, out=work, half=True,
                             keep_every=training.options["epochs"], threads=1, device="cpu")
        except DivergedError as error:
            training.folder.mkdir(parents=True, exist_ok=True)
            (training.folder / FAILED).write_text(f"{error}\n")
        else:
            _keep(training, work)


def _next(arms: Collection[str]) -> Training | None:
    """Return the first training that is missing; the coefficients chosen so far decide which there are."""
    return next((training for training in trainings()
                 if training.arm in arms and training.card is None and not training.failed), None)


def _keep(training: Training, work: Path) -> None:
    """Copy what the account needs into the training's folder; the card last, since it says that the rest is there."""
    name, folder = training.name, training.folder
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(work / f"{name}.safetensors", folder)
    shutil.copy(work / name / "log.csv", folder)
    layers = pd.read_csv(work / name / "layers.csv")
    layers[layers["epoch"] == layers["epoch"].max()].to_csv(folder / "layers.csv", index=False, float_format="%.6g")
    shutil.copy(work / f"{name}.json", folder)
