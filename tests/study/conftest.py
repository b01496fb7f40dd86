"""A study made of drawn numbers, in a folder of its own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from study import plan, statistics
from study.rows import TEST

MANIFEST = """
seeds = [0, 1, 2]
recipe = { dataset = "cifar10", arch = "speednet", width = 16, epochs = 8 }
penalty = { every = 2, regularizer_options = {} }
arms.plain.title = "plain"
arms.better.title = "better"
arms.better.init = "delta-orthogonal"
arms.frame = { title = "frame", regularizer = "frame", gammas = [1e-6, 1e-5] }
arms.same = { title = "same", weight_decay = 0.0 }
arms.ocnn = { title = "OCNN", regularizer = "ocnn", gamma = 1e-3 }
arms.cifar100-plain = { title = "plain, CIFAR-100", like = "plain", dataset = "cifar100", seeds = [0, 1] }
arms.cifar100-frame = { title = "frame, CIFAR-100", like = "frame", dataset = "cifar100", seeds = [0, 1] }
arms.plain-4 = { title = "plain, 4 epochs", epochs = 4 }
arms.plain-6 = { title = "plain, 6 epochs", epochs = 6 }
"""
#: What "better" gains: its queries are multiplied by so much.
GAIN = 2.0
IMAGES = 400


class Drawn:
    """Trainings whose rows are drawn: queries are log-normal, by image and training; one arm withstands more."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.hardness = np.random.default_rng(0).normal(4, 1.2, IMAGES)

    def add(self, training: plan.Training, rows: bool = True) -> None:
        rng = np.random.default_rng([training.seed, *training.name.encode()])
        fit = {4: -0.04, 6: -0.02}.get(training.options["epochs"], 0.0) + rng.normal(0, 0.002)
        near = {"better": 1.5, "frame": 3.0}.get(training.arm, 2.5) + rng.normal(0, 0.1)
        training.folder.mkdir(parents=True)
        card = {"recipe": {"gamma": training.gamma or 0.0, "epochs": training.options["epochs"]},
                "accuracy": [{"data": TEST[training.dataset], "accuracy": 0.85 + fit},
                             {"data": "held-out part of the training set", "accuracy": 0.84 + fit}],
                "provenance": {"device": "cpu", "processor": "CPU A", "torch": "2.6", "seconds": 3600}}
        (training.folder / f"{training.name}.json").write_text(json.dumps(card))
        layer = {"layer": ["conv", "fc"], "lower": 0.01, "q01": 0.1, "q99": 0.1 * 10 ** near, "upper": 100.0}
        layer |= {f"folded_{name}": layer[name] for name in ("lower", "q01", "q99", "upper")}
        pd.DataFrame(layer).to_csv(training.folder / "layers.csv", index=False)
        if rows:
            self._rows(training, rng, fit)

    def _rows(self, training: plan.Training, rng: np.random.Generator, fit: float) -> None:
        ids = np.arange(IMAGES, dtype=np.int32)
        if training.dataset == "cifar100":
            right = np.arange(IMAGES) % 100 < 70 + 5 * (training.arm == "cifar100-frame") + training.seed
            pd.DataFrame({"example": ids, "label": ids % 100, "prediction": np.where(right, ids % 100, -1),
                          "confidence": 0.5}).to_parquet(training.folder / "clean-cifar100.parquet")
            return
        log = self.hardness + 10 * fit + rng.normal(0, 0.3, IMAGES) + rng.normal(0, 0.02)
        queries = np.exp(log + np.log(GAIN) * (training.arm == "better")).clip(2).astype(np.int32)
        iteration = np.where(queries > 1400, -1, np.maximum(queries * 2 // 3, 1))
        iteration[rng.random(IMAGES) > 0.85 + fit] = 0
        attacked = pd.DataFrame({"example": ids, "label": ids % 10, "success_iteration": iteration, "queries": queries,
                                 "l2": np.sqrt(queries) * 0.1})
        attacked.to_parquet(training.folder / "simba-pixel.parquet")
        clean = pd.DataFrame({"example": ids, "label": ids % 10, "prediction": np.where(iteration == 0, 10, ids % 10),
                              "confidence": rng.uniform(0.5, 1, IMAGES).astype(np.float32)})
        clean.to_parquet(training.folder / "clean.parquet")
        cells = pd.DataFrame({"example": np.repeat(ids[:50], 6), "severity": np.tile(np.arange(6), 50)})
        cells["correct"] = rng.random(300) < 0.7 + fit
        cells.to_parquet(training.folder / "cifar10-c.parquet")


@pytest.fixture
def drawn(tmp_path, monkeypatch) -> Drawn:
    """An empty study; `add` makes trainings."""
    folder = tmp_path / "study"
    folder.mkdir()
    (folder / "manifest.toml").write_text(MANIFEST)
    shutil.copy(plan.STUDY / "claims.toml", folder)
    monkeypatch.setattr(plan, "STUDY", folder)
    monkeypatch.setattr(statistics, "DUNNETT_DRAWS", 10_000)  # enough for a study that is drawn itself
    monkeypatch.setattr(plan, "TRAININGS", folder / "trainings")
    return Drawn(folder)


@pytest.fixture
def whole(drawn) -> Drawn:
    """A study with all its trainings."""
    for training in plan.trainings():
        drawn.add(training)
    return drawn
