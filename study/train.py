"""Runs the missing trainings of the study, one after the other."""

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
    """Run the trainings of the manifest that are missing.

    Args:
        data_root: Folder with CIFAR-10; None for ``$BENCH_DATA``.
        work: Folder of the state of trainings, from which a killed training resumes.
        arms: Only trainings of these arms; None for all.

    Raises:
        InputError: for missing data or an unknown arm.
    """
    all_arms = manifest()["arms"]
    for arm in arms or ():
        if arm not in all_arms:
            raise unknown("arm", arm, all_arms)
    while (training := _next(all_arms if arms is None else arms)) is not None:
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
    """Return the first missing training, given the coefficients chosen so far."""
    return next((training for training in trainings()
                 if training.arm in arms and training.card is None and not training.failed), None)


def _keep(training: Training, work: Path) -> None:
    """Copy what the account needs into the training's folder; the card last, since it marks the rest as complete."""
    name, folder = training.name, training.folder
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(work / f"{name}.safetensors", folder)
    shutil.copy(work / name / "log.csv", folder)
    layers = pd.read_csv(work / name / "layers.csv")
    layers[layers["epoch"] == layers["epoch"].max()].to_csv(folder / "layers.csv", index=False, float_format="%.6g")
    shutil.copy(work / f"{name}.json", folder)
