"""Measures the missing endpoints of the study's trainings: one file of rows per training and endpoint."""

from __future__ import annotations

import functools
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from bench.running.cells import list_cells
from framebench.attacks.registry import make
from framebench.attacks.verdict import judge
from framebench.domains import Domain, Reading, data_root, load_domain
from framebench.domains.corruptions import BENCHMARK
from framebench.errors import MissingDataError
from framebench.files import atomic
from framebench.models.differentiable import Differentiable
from framebench.models.predictor import Predictor
from framebench.models.registry import load
from framebench.progress import progress
from study.plan import Training, manifest, trainings

_log = logging.getLogger(__name__)

_BATCH = 256


def measure_missing(root: str | None, endpoints: list[str] | None = None) -> None:
    """Measure every endpoint of the manifest for every training that lacks it.

    Args:
        root: Folder with the data sets; None for ``$BENCH_DATA``.
        endpoints: Only these; None for all.

    Raises:
        InputError: if CIFAR-10 is missing. An endpoint with other missing data is left out with a warning.
    """
    folder = data_root(root)
    images = load_domain("cifar10", folder)
    for name, entry in manifest()["endpoints"].items():
        if endpoints is not None and name not in endpoints:
            continue
        for training in trainings():
            path = training.folder / f"{name}.parquet"
            if training.card is None or path.exists() or training.dataset != entry.get("dataset", "cifar10"):
                continue
            _log.info("measuring %s of %s", name, training.name)
            try:
                rows = _attacked(training, entry, images) if "attack" in entry else _shifted(training, entry, folder)
            except MissingDataError as error:
                _log.warning("%s is left out: %s", name, error)
                break
            with atomic(path) as temporary:
                rows.to_parquet(temporary, compression="zstd", index=False)


def _attacked(training: Training, entry: dict[str, Any], images: Domain) -> pd.DataFrame:
    """Attack the first images of the common order; return one row per image, by ascending id."""
    attack = make(entry["attack"], budget=entry["budget"], epsilon=entry.get("epsilon"),
                  options=entry.get("options", {}))
    module = load(str(training.folder / f"{training.name}.safetensors")).module
    ids = np.sort(images.first(entry["n"]))
    wrapper = Differentiable if attack.traits.needs == "gradients" else Predictor
    predict = wrapper(module, images.load(ids[:32])[0])
    frames = []
    with progress(len(ids), unit="image", desc=f"{training.name} {attack.traits.label}") as bar:
        for done in attack.stream(predict, images.load, ids, seed=0, batch_size=_BATCH):
            frames.append(pd.DataFrame({
                "example": done.ids.astype(np.int32), "label": done.labels.astype(np.int8),
                "clean_prediction": done.clean_prediction.astype(np.int8),
                "success_iteration": done.success_iteration.astype(np.int32),
                "queries": done.queries.astype(np.int32), "l2": done.l2.astype(np.float32)}))
            bar.update(len(done.ids))
    return pd.concat(frames).sort_values("example", ignore_index=True)


def _shifted(training: Training, entry: dict[str, Any], root: Path | None) -> pd.DataFrame:
    """Classify the images of a domain; of a corrupted domain, those of every cell."""
    model = load(str(training.folder / f"{training.name}.safetensors"))
    sets = _sets(entry["domain"].format(data_root=root), root, entry.get("n"), model.classes or ())
    predict = Predictor(model.module, sets[0].images(slice(32)))
    frames = []
    for images in sets:
        parts = [slice(start, start + _BATCH) for start in range(0, len(images.ids), _BATCH)]
        verdict = judge(torch.cat([predict(images.images(part)) for part in parts]).numpy(), images.labels)
        rows: dict[str, Any] = {"example": images.ids.astype(np.int32)}
        if images.corruption:
            rows |= {"corruption": images.corruption, "severity": np.int8(images.severity),
                     "correct": verdict.prediction == images.labels}
        else:
            rows |= {"label": images.labels.astype(np.int8), "prediction": verdict.prediction.astype(np.int8),
                     "confidence": verdict.confidence.astype(np.float32)}
        frames.append(pd.DataFrame(rows))
    table = pd.concat(frames, ignore_index=True)
    return table.astype({"corruption": "category"}) if sets[0].corruption else table


@dataclass(frozen=True)
class _Set:
    """Images kept in memory, since every training classifies the same ones.

    Attributes:
        corruption: Their corruption; empty for clean images.
        severity: 1 to 5; 0 for clean images.
        ids: Example ids, int64 [n], ascending.
        pixels: uint8 [n, H, W, 3].
        labels: int64 [n].
    """

    corruption: str
    severity: int
    ids: np.ndarray
    pixels: np.ndarray
    labels: np.ndarray

    def images(self, part: slice) -> torch.Tensor:
        """Return images as float32 [m, 3, H, W] in [0, 1]."""
        return torch.from_numpy(self.pixels[part]).permute(0, 3, 1, 2).float() / 255


@functools.lru_cache(maxsize=1)
def _sets(name: str, root: Path | None, n: int | None, classes: tuple[str, ...]) -> list[_Set]:
    """Return the images of a domain, with labels in the order of `classes`; without clean ones if it is corrupted."""
    cells = list_cells([name], root, BENCHMARK, (1, 2, 3, 4, 5), n, seed=0, reading=Reading(classes=(classes,)))
    corrupted = [cell for cell in cells if cell.corruption]
    sets = []
    for cell in corrupted or cells:
        ids = np.sort(cell.images.first(n))
        sets.append(_Set(cell.corruption, cell.severity, ids, cell.images.pixels(ids), cell.images.labels[ids]))
    return sets
