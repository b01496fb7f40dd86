"""The shift test: models over cells of images, each cell's pixels made once for all models."""

from __future__ import annotations

import base64
import dataclasses
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from bench.checks import check_model
from bench.evaluate import classify
from bench.flags import flagged
from bench.protocol import Evaluation
from bench.provenance import provenance
from bench.store import Rows, Store
from domains import Domain, default_domain, load_domain
from domains.corrupted import CorruptedSet, default_corrupted, load_corrupted
from domains.generated import GeneratedSet
from framebench.errors import InputError, unknown
from models.blackbox import BlackBoxModel
from models.predictor import Predictor
from models.registry import LoadedModel

#: From this many images on, a generated cell is kept on disk, since making it takes longer than reading it.
KEEP_FROM = 2000

#: Other shifts of CIFAR-10 that a bare ``shift`` takes where their folder lies under the data root.
OTHERS = {"cinic10": "CINIC-10", "cifar10.1": "CIFAR-10.1", "cifar10.2": "CIFAR-10.2", "stl10": "stl10_binary"}


@dataclass(frozen=True)
class Cell:
    """Images that are evaluated together.

    Attributes:
        name: The domain's name.
        title: What the data are.
        images: The images.
        corruption: What was done to them, or empty.
        severity: 1 to 5, or 0.
        clean: Name of the domain whose accuracy the gap is measured by, or empty.
    """

    name: str
    title: str
    images: Domain
    corruption: str = ""
    severity: int = 0
    clean: str = ""


def default_domains(root: Path | None) -> list[str]:
    """Return what a bare ``shift`` uses: all that the data root has, CIFAR-10-C generated if need be, else samples."""
    return [default_domain(root), default_corrupted(root),
            *(name for name, folder in OTHERS.items() if root is not None and (root / folder).is_dir())]


def plan(names: Sequence[str], root: Path | None, corruptions: Sequence[str] | None, severities: Sequence[int],
         n: int | None, seed: int, *, workers: int = 1) -> list[Cell]:
    """Load the domains and list the cells to be evaluated, those of clean images first.

    Args:
        names: Domain names. The clean set of a corrupted one is added where it is not named.
        root: Where data lie.
        corruptions: Which corruptions; None for all that a set has.
        severities: Which severities.
        n: Images of each cell; None for all.
        seed: Seed of generated corruptions.
        workers: Processes that generate.

    Raises:
        InputError: for unknown names, and for data that are missing or damaged.
    """
    clean: dict[str, Domain] = {}
    corrupted: list[CorruptedSet] = []
    for name in names:
        if name.partition(":")[0].endswith("-c"):
            found = load_corrupted(name, root, seed=seed)
            corrupted.append(found)
            if found.clean is not None:
                clean.setdefault(found.clean.name, found.clean)
        else:
            clean[name] = load_domain(name, root)
    source = next((name for name in ("cifar10", "samples") if name in clean), "")
    cells = [Cell(name, domain.title, domain, clean="" if name == source else source)
             for name, domain in sorted(clean.items(), key=lambda item: item[0] != source)]
    for found in corrupted:
        chosen = [name for name in found.corruptions if corruptions is None or name in corruptions]
        if chosen and isinstance(found, GeneratedSet) and (len(found.clean) if n is None else n) >= KEEP_FROM:
            _generate(found, chosen, severities, workers)
        cells += [Cell(found.name, found.title, found.cell(corruption, severity), corruption, severity,
                       found.clean.name if found.clean is not None else "")
                  for corruption in chosen for severity in severities]
    return cells


def _generate(found: GeneratedSet, corruptions: Sequence[str], severities: Sequence[int], workers: int) -> None:
    missing = len(found.missing(corruptions, severities))
    if not missing:
        return
    print(f"making {missing} cells of {found.title}, {missing * found.files.cell_bytes / 1e9:.1f} GB, once", flush=True)
    with tqdm(total=missing, unit="cell", desc=f"making {found.name}", dynamic_ncols=True) as bar:
        def advance(corruption: str, severity: int) -> None:
            bar.update()
            bar.set_postfix_str(f"{corruption} {severity}")
        found.generate(corruptions, severities, progress=advance, workers=workers)


def evaluate_cells(cells: Sequence[Cell], models: Sequence[LoadedModel], store: Store, n: int | None, *,
                   matched: dict[str, str], device: Any, threads: int, batch_size: int) -> None:
    """Give every model a row for each of the first `n` images of every cell, those that have one left out."""
    ids = [cell.images.first(n if n is None else min(n, len(cell.images))) for cell in cells]
    versions = provenance()
    facts = [{"title": cell.title, "classes": list(cell.images.classes), "budgets": [],
              "clean": cell.clean, "provenance": [versions]} for cell in cells]
    predictors: dict[str, Predictor] = {}
    total = sum(len(own) for own in ids) * len(models)
    with tqdm(total=total, unit="image", dynamic_ncols=True, smoothing=0.05) as bar:
        def advance(done: int) -> None:
            bar.update(done)

        for cell, wanted, cell_facts in zip(cells, ids, facts, strict=True):
            asked = [(model, store.open(_evaluation(model, cell), {**cell_facts, **_facts(model, matched)}))
                     for model in models]
            missing = [wanted[~np.isin(wanted, rows.ids)] for _, rows in asked]
            bar.update(sum(len(wanted) - len(own) for own in missing))
            union = np.unique(np.concatenate(missing))
            if not len(union):
                continue
            picture = _picture(cell)
            bar.set_description(" ".join([cell.name, cell.corruption, str(cell.severity or "")]).strip())
            pixels, labels = cell.images.pixels(union), cell.images.labels[union]
            for (model, rows), own in zip(asked, missing, strict=True):
                if not len(own):
                    continue
                if model.name not in predictors:
                    predictors[model.name] = _predictor(model, rows, cell, device, threads, bar)
                predictor = predictors[model.name]
                rows.facts |= {"predictor": predictor.kind, "picture": picture}
                at = np.searchsorted(union, own)
                classify(rows, predictor, pixels[at], labels[at], own, batch_size=batch_size, report=advance)


def _facts(model: LoadedModel, matched: dict[str, str]) -> dict[str, Any]:
    return {"warnings": list(model.notes), "card": None if model.card is None else dataclasses.asdict(model.card),
            **({"matched": matched[model.name]} if model.name in matched else {})}


def _evaluation(model: LoadedModel, cell: Cell) -> Evaluation:
    return Evaluation(model.name, model.digest, cell.name, cell.images.digest, corruption=cell.corruption,
                      severity=cell.severity)


def _predictor(model: LoadedModel, rows: Rows, cell: Cell, device: Any, threads: int, bar: Any) -> Predictor:
    example, _ = cell.images.load(cell.images.order[:32])
    predictor = Predictor(model.module, example, device=device, threads=threads, kind=rows.facts.get("predictor"))
    check_model(predictor(example), cell.images.classes, model.name)
    if not isinstance(model.module, BlackBoxModel):  # whose answers may have to be paid for
        rows.facts["warnings"] = flagged(predictor, cell.images, model, rows.facts["warnings"], bar.write)
    return predictor


def _picture(cell: Cell) -> str:
    """Return an example as the data URI of a PNG: the first image of a corrupted set, of others the first five."""
    ids = cell.images.order[: 1 if cell.corruption else 5]
    out = io.BytesIO()
    Image.fromarray(np.concatenate(list(cell.images.pixels(ids)), axis=1)).save(out, "PNG")
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()


def check_corruptions(names: Sequence[str] | None, known: Sequence[str]) -> None:
    """Check names of corruptions.

    Raises:
        InputError: for an unknown one.
    """
    for name in names or []:
        if name not in known:
            raise unknown("corruption", name, known)


def check_severities(severities: Sequence[int]) -> None:
    """Check severities.

    Raises:
        InputError: if one is not 1 to 5, or named twice.
    """
    if not set(severities) <= {1, 2, 3, 4, 5} or len(set(severities)) != len(severities):
        raise InputError(f"--severities {' '.join(map(str, severities))}: give some of 1 2 3 4 5, each once")
