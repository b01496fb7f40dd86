"""The shift test: models over cells of images, each cell's pixels made once for all models."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from bench.rows.evaluation import Evaluation
from bench.rows.store import Store
from bench.running.checks import check_classes
from bench.running.evaluate import classify
from bench.running.prepare import Prepared, facts_of, prepare
from bench.running.provenance import provenance
from framebench.domains import Domain, default_domain, load_domain
from framebench.domains.corrupted import default_corrupted, load_corrupted
from framebench.domains.generated import GeneratedSet
from framebench.errors import InputError, unknown
from framebench.models.registry import LoadedModel

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
        set: Digest of the set of cells that this one belongs to.
        images: The images.
        corruption: What was done to them, or empty.
        severity: 1 to 5, or 0.
        clean: Digest of the same images without corruption, or empty.
    """

    name: str
    title: str
    set: str
    images: Domain
    corruption: str = ""
    severity: int = 0
    clean: str = ""


def default_domains(root: Path | None) -> list[str | Domain]:
    """Return what a bare ``shift`` uses: all that the data root has, CIFAR-10-C generated if need be, else samples.

    Other shifts of CIFAR-10 are loaded; one that can't be is left out with a line.
    """
    domains: list[str | Domain] = [default_domain(root), default_corrupted(root)]
    for name, folder in OTHERS.items():
        if root is not None and (root / folder).is_dir():
            try:
                domains.append(load_domain(name, root))
            except InputError as error:
                print(f"{name} is left out: {error}", flush=True)
    return domains


def plan(domains: Sequence[str | Domain], root: Path | None, corruptions: Sequence[str] | None,
         severities: Sequence[int], n: int | None, seed: int, *, workers: int = 1) -> list[Cell]:
    """Load the domains and list the cells to be evaluated, those of clean images first.

    Args:
        domains: Names, or domains that are loaded. The clean set of a corrupted one is added where it is not named.
        root: Where data lie.
        corruptions: Which corruptions; None for all that a set has.
        severities: Which severities.
        n: Images of each cell; None for all.
        seed: Seed of generated corruptions.
        workers: Processes that generate.

    Raises:
        InputError: for unknown names, for data that are missing or damaged, and where no set has a corruption that is
            asked for, or as many images.
    """
    plain: dict[str, Domain] = {}
    wanted: dict[str, list[tuple[str, int]] | None] = {}  # a corrupted set -> its cells; None for all that are asked
    for name in domains:
        if isinstance(name, Domain):
            plain[name.name] = name
            continue
        base, *cell = name.rsplit("/", 2)
        if name.partition(":")[0].endswith("-c"):
            wanted[name] = None
        elif len(cell) == 2 and cell[1].isdigit() and base.partition(":")[0].endswith("-c"):
            if (cells_of := wanted.setdefault(base, [])) is not None:
                cells_of.append((cell[0], int(cell[1])))
        else:
            plain[name] = load_domain(name, root)
    corrupted = [(load_corrupted(name, root, seed=seed), chosen) for name, chosen in wanted.items()]
    for found, _ in corrupted:
        if found.clean is not None and found.clean.digest not in {domain.digest for domain in plain.values()}:
            plain = {found.clean.name: found.clean, **plain}
    cells = [Cell(name, domain.title, domain.digest, domain) for name, domain in plain.items()]
    for found, chosen in corrupted:
        if chosen is None:
            own = [name for name in found.corruptions if corruptions is None or name in corruptions]
            chosen = [(corruption, severity) for corruption in own for severity in severities]
            if lacking := [name for name in corruptions or () if name not in own]:
                print(f"{found.name} has no {', '.join(lacking)}", flush=True)
        if isinstance(found, GeneratedSet) and (n or len(found.clean)) >= KEEP_FROM:
            _generate(found, chosen, workers)
        clean = "" if found.clean is None else found.clean.digest
        digest = hashlib.sha256(f"{found.title}|{clean}".encode()).hexdigest()
        cells += [Cell(found.name, found.title, digest, found.cell(corruption, severity), corruption, severity, clean)
                  for corruption, severity in chosen]
    if lacking := [name for name in corruptions or () if corrupted and name not in {c.corruption for c in cells}]:
        raise InputError(f"none of the sets has the corruption {', '.join(lacking)}; leave it out")
    if n is not None and n > max(len(cell.images) for cell in cells):
        raise InputError(f"-n {n} is not possible: the largest set has {max(len(c.images) for c in cells)} images")
    return cells


def _generate(found: GeneratedSet, cells: Sequence[tuple[str, int]], workers: int) -> None:
    """Make the cells that are missing and keep them."""
    by_corruption: dict[str, list[int]] = {}
    for corruption, severity in cells:
        by_corruption.setdefault(corruption, []).append(severity)
    groups: dict[tuple[int, ...], list[str]] = {}  # corruptions that the same severities are asked of
    for corruption, own in by_corruption.items():
        groups.setdefault(tuple(own), []).append(corruption)
    missing = sum(len(found.missing(corruptions, severities)) for severities, corruptions in groups.items())
    if not missing:
        return
    size = missing * found.files.cell_bytes / 1e9
    print(f"making {missing} cells of {found.title}, {size:.1f} GB, once", flush=True)
    with tqdm(total=missing, unit="cell", desc=f"making {found.name}", dynamic_ncols=True) as bar:
        def advance(corruption: str, severity: int) -> None:
            bar.update()
            bar.set_postfix_str(f"{corruption} {severity}")
        for severities, corruptions in groups.items():
            found.generate(corruptions, severities, progress=advance, workers=workers)


def evaluate_cells(cells: Sequence[Cell], models: Sequence[LoadedModel], store: Store, n: int | None, *,
                   device: Any, threads: int, batch_size: int, facts: dict[str, Any] | None = None) -> None:
    """Give every model a row for each of the first `n` images of every cell, those that have one left out.

    Args:
        cells: What `plan` returned.
        models: The models.
        store: Where the rows are kept.
        n: Images of each cell; None for all.
        device: Where to compute.
        threads: CPU threads.
        batch_size: Images a forward pass.
        facts: Kept with all rows besides their own, those that were there before included.

    Raises:
        InputError: if a model does not fit the images; all are tried before anything is evaluated.
    """
    ids = [cell.images.first(n if n is None else min(n, len(cell.images))) for cell in cells]
    made = provenance(device)
    asked = [[store.open(evaluation_of(model, cell), _facts(model, cell, made)) for model in models] for cell in cells]
    prepared: dict[int, Prepared] = {}
    for i, model in enumerate(models):
        check_classes(model, cells[0].images)  # though all rows may be there already, as in `attack_models`
        if all(np.isin(wanted, own[i].ids).all() for wanted, own in zip(ids, asked, strict=True)):
            continue  # a predictor takes seconds to make
        kind = next((kind for own in asked if (kind := own[i].facts.get("predictor"))), None)
        prepared[i] = prepare(model, cells[0].images, kind=kind, device=device, threads=threads, say=print)
        for own in asked:
            own[i].facts["warnings"] = list(dict.fromkeys([*own[i].facts["warnings"], *prepared[i].flags]))
    with tqdm(total=sum(map(len, ids)) * len(models), unit="image", dynamic_ncols=True, smoothing=0.05) as bar:
        def advance(done: int) -> None:
            bar.update(done)

        for cell, wanted, own in zip(cells, ids, asked, strict=True):
            for rows in own:
                if facts and {**rows.facts, **facts} != rows.facts:
                    rows.facts |= facts
                    rows.flush()  # there may be nothing to add
            missing = [wanted[~np.isin(wanted, rows.ids)] for rows in own]  # now: two cells can be of the same images
            bar.update(sum(len(wanted) - len(left) for left in missing))
            union = np.unique(np.concatenate(missing))
            if not len(union):
                continue
            bar.set_description(" ".join([cell.name, cell.corruption, str(cell.severity or "")]).strip())
            pixels, labels, picture = cell.images.pixels(union), cell.images.labels[union], _picture(cell)
            for i, (rows, left) in enumerate(zip(own, missing, strict=True)):
                if len(left):
                    rows.facts |= {"predictor": prepared[i].kind, "picture": picture}
                    at = np.searchsorted(union, left)
                    classify(rows, prepared[i].predict, pixels[at], labels[at], left, batch_size=batch_size,
                             report=advance)


def _facts(model: LoadedModel, cell: Cell, made: dict[str, Any]) -> dict[str, Any]:
    return {**facts_of(model, cell.title, cell.images.classes, made), "set": cell.set, "clean": cell.clean,
            "budgets": []}


def evaluation_of(model: LoadedModel, cell: Cell) -> Evaluation:
    """Return what a model's rows for a cell are kept as."""
    return Evaluation(model.name, model.digest, cell.name, cell.images.digest, corruption=cell.corruption,
                      severity=cell.severity)


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
