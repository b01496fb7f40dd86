"""The endpoints of the study's trainings that are missing: one file of rows per training and endpoint."""

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
        root: Where data lie.
        endpoints: Only these; None for all.

    Raises:
        InputError: for CIFAR-10 missing under `root`; other data that are missing are left out with a warning.
    """
    where = data_root(root)
    wanted = {name: entry for name, entry in manifest()["endpoints"].items() if endpoints is None or name in endpoints}
    images = load_domain("cifar10", where)
    for name, entry in wanted.items():
        for training in trainings():
            path = training.folder / f"{name}.parquet"
            if training.card is None or path.exists() or training.dataset != entry.get("dataset", "cifar10"):
                continue
            _log.info("measuring %s of %s", name, training.name)
            try:
                rows = _attacked(training, entry, images) if "attack" in entry else _shifted(training, entry, where)
            except MissingDataError as error:
                _log.warning("%s is left out: %s", name, error)
                break
            with atomic(path) as temporary:
                rows.to_parquet(temporary, compression="zstd", index=False)


def _attacked(training: Training, entry: dict[str, Any], images: Domain) -> pd.DataFrame:
    """Attack the first images of the common order; one row per image, by id."""
    attack = make(entry["attack"], budget=entry["budget"], epsilon=entry.get("epsilon"),
                  options=entry.get("options", {}))
    module = load(str(training.folder / f"{training.name}.safetensors")).module
    ids = np.sort(images.first(entry["n"]))
    form = Differentiable if attack.traits.needs == "gradients" else Predictor
    predict = form(module, images.load(ids[:32])[0])
    found = []
    with progress(len(ids), unit="image", desc=f"{training.name} {attack.traits.label}") as bar:
        for done in attack.stream(predict, images.load, ids, seed=0, batch_size=_BATCH):
            found.append(pd.DataFrame({
                "example": done.ids.astype(np.int32), "label": done.labels.astype(np.int8),
                "clean_prediction": done.clean_prediction.astype(np.int8),
                "success_iteration": done.success_iteration.astype(np.int32),
                "queries": done.queries.astype(np.int32), "l2": done.l2.astype(np.float32)}))
            bar.update(len(done.ids))
    return pd.concat(found).sort_values("example", ignore_index=True)


def _shifted(training: Training, entry: dict[str, Any], root: Path | None) -> pd.DataFrame:
    """Classify the images of a domain, or those of every cell of a corrupted one."""
    model = load(str(training.folder / f"{training.name}.safetensors"))
    sets = _sets(entry["domain"].format(data_root=root), root, entry.get("n"), model.classes or ())
    predict = Predictor(model.module, sets[0].images(slice(32)))
    found = []
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
        found.append(pd.DataFrame(rows))
    made = pd.concat(found, ignore_index=True)
    return made.astype({"corruption": "category"}) if sets[0].corruption else made


@dataclass(frozen=True)
class _Set:
    """Images that are kept in memory, since every training classifies the same ones.

    Attributes:
        corruption: What was done to them; empty for clean ones.
        severity: 1 to 5, or 0.
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
    """Return the images of a domain, labelled by the order of `classes`.

    Those of a corrupted one come without its clean images, severities 1 to 5.
    """
    cells = list_cells([name], root, BENCHMARK, (1, 2, 3, 4, 5), n, seed=0, reading=Reading(classes=(classes,)))
    corrupted = [cell for cell in cells if cell.corruption]
    found = []
    for cell in corrupted or cells:
        ids = np.sort(cell.images.first(n))
        found.append(_Set(cell.corruption, cell.severity, ids, cell.images.pixels(ids), cell.images.labels[ids]))
    return found
