"""The cells of a shift test: the sets of images that models are measured on, clean ones and corrupted ones."""

from __future__ import annotations

import base64
import hashlib
import io
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from framebench.domains import USUAL, Domain, Reading, data_root, default_domain, load_domain
from framebench.domains.corrupted import default_corrupted, load_corrupted
from framebench.domains.generated import GeneratedSet
from framebench.errors import InputError, MissingDataError, printable
from framebench.progress import progress

_log = logging.getLogger(__name__)

#: From this number of images on, a generated cell is kept on disk, since generating it takes longer than reading it.
KEEP_FROM = 2000

#: Images of a cell that the report shows: PICTURED, or PICTURED_LARGE of height REDUCED if they are higher than SMALL.
#: The pictures of 95 cells then have a few MB, for images of 32x32 or 224x224.
PICTURED, SMALL, PICTURED_LARGE, REDUCED = 6, 64, 4, 96

#: Other shifts of CIFAR-10 that ``shift`` without options takes if the data root has them.
OTHERS = ("cinic10", "cifar10.1", "cifar10.2", "stl10")


@dataclass(frozen=True)
class Cell:
    """Images that are evaluated together.

    Attributes:
        name: The domain's name.
        title: What the data are.
        set: Digest of the cell's set.
        images: The images.
        corruption: The corruption, or empty.
        severity: 1 to 5, or 0 without corruption.
        clean: Digest of the same images without corruption, or empty.
    """

    name: str
    title: str
    set: str
    images: Domain
    corruption: str = ""
    severity: int = 0
    clean: str = ""

    def __post_init__(self) -> None:
        for name in ("name", "title"):
            object.__setattr__(self, name, printable(getattr(self, name)))


def default_domains(given: str | Path | None) -> list[str | Domain]:
    """Return the domains of ``shift`` without options: all that the data root has, or the samples.

    CIFAR-10-C is generated if its files are missing. Other shifts of CIFAR-10 are loaded; a damaged one is left out
    with a warning.

    Args:
        given: The data root, as for `default_domain`.

    Raises:
        InputError: as `default_domain`.
    """
    root = data_root(given)
    domains: list[str | Domain] = [default_domain(given), default_corrupted(root)]
    for name in OTHERS:
        try:
            domains.append(load_domain(name, root))
        except MissingDataError:
            continue
        except InputError as error:
            _log.warning("%s is left out: %s", name, error)
    return domains


def list_cells(domains: Sequence[str | Domain], root: Path | None, corruptions: Sequence[str] | None,
               severities: Sequence[int], n: int | None, seed: int, *, workers: int = 1,
               reading: Reading = USUAL) -> list[Cell]:
    """Load the domains and list their cells, those of clean images first.

    Args:
        domains: Names, or loaded domains. The clean images of a corrupted set are added if they are not named.
        root: Folder of the data sets.
        corruptions: The corruptions; None for all of a set.
        severities: The severities.
        n: Images of each cell; None for all.
        seed: Seed of generated corruptions.
        workers: Processes that generate corruptions.
        reading: How image files are read.

    Raises:
        InputError: for unknown names, different sets of one name, missing or damaged data, and if no set has a given
            corruption or `n` images.
    """
    plain: dict[str, Domain] = {}
    chosen_cells: dict[str, list[tuple[str, int]] | None] = {}  # corrupted set -> its cells; None for all
    for name in domains:
        if isinstance(name, Domain):
            _refuse_another(plain, name.name, name)
            plain[name.name] = name
            continue
        base, *cell = name.rsplit("/", 2)
        if name.partition(":")[0].endswith("-c"):
            chosen_cells[name] = None
        elif len(cell) == 2 and cell[1].isdigit() and base.partition(":")[0].endswith("-c"):
            if (of_set := chosen_cells.setdefault(base, [])) is not None:
                of_set.append((cell[0], int(cell[1])))
        else:
            domain = load_domain(name, root, reading)
            _refuse_another(plain, name, domain)
            plain[name] = domain
    sets = [(load_corrupted(name, root, seed=seed, reading=reading), chosen) for name, chosen in chosen_cells.items()]
    for corrupted, _ in sets:
        clean = corrupted.clean
        if clean is not None and clean.digest not in {domain.digest for domain in plain.values()}:
            _refuse_another(plain, clean.name, clean)
            plain = {clean.name: clean, **plain}
    cells = [Cell(name, domain.title, domain.digest, domain) for name, domain in plain.items()]
    for corrupted, chosen in sets:
        if chosen is None:
            names = [name for name in corrupted.corruptions if corruptions is None or name in corruptions]
            chosen = [(corruption, severity) for corruption in names for severity in severities]
            if lacking := [name for name in corruptions or () if name not in names]:
                _log.warning("%s has no %s", corrupted.name, ", ".join(lacking))
        if isinstance(corrupted, GeneratedSet) and (n or len(corrupted.clean)) >= KEEP_FROM:
            _generate(corrupted, chosen, workers)
        clean_digest = "" if corrupted.clean is None else corrupted.clean.digest
        digest = hashlib.sha256(f"{corrupted.title}|{clean_digest}".encode()).hexdigest()
        cells += [Cell(corrupted.name, corrupted.title, digest, corrupted.cell(corruption, severity), corruption,
                       severity, clean_digest) for corruption, severity in chosen]
    if lacking := [name for name in corruptions or () if sets and name not in {c.corruption for c in cells}]:
        raise InputError(f"none of the sets has the corruption {', '.join(lacking)}; leave it out")
    if n is not None and n > max(len(cell.images) for cell in cells):
        raise InputError(f"-n {n} is not possible: the largest set has {max(len(c.images) for c in cells)} images")
    return cells


def _refuse_another(domains: Mapping[str, Domain], name: str, domain: Domain) -> None:
    if name in domains and domains[name].digest != domain.digest:
        raise InputError(f"two different sets of images are called {name}; give each a name of its own")


def _generate(corrupted: GeneratedSet, cells: Sequence[tuple[str, int]], workers: int) -> None:
    """Generate the cells that are missing, and keep them."""
    by_corruption: dict[str, list[int]] = {}
    for corruption, severity in cells:
        by_corruption.setdefault(corruption, []).append(severity)
    groups: dict[tuple[int, ...], list[str]] = {}  # severities -> corruptions
    for corruption, of_corruption in by_corruption.items():
        groups.setdefault(tuple(of_corruption), []).append(corruption)
    missing = sum(len(corrupted.missing(corruptions, severities)) for severities, corruptions in groups.items())
    if not missing:
        return
    size = missing * corrupted.files.cell_bytes / 1e9
    _log.info("making %d cells of %s, %.1f GB, once", missing, corrupted.title, size)
    with progress(missing, unit="cell", desc=f"making {corrupted.name}") as bar:
        def advance(corruption: str, severity: int) -> None:
            bar.set_postfix_str(f"{corruption} {severity}", refresh=False)
            bar.update()
        for severities, corruptions in groups.items():
            corrupted.generate(corruptions, severities, progress=advance, workers=workers)


def picture_of(images: Domain) -> str:
    """Return the first images of a domain side by side, as a data URI whose parameter ``ids`` names them.

    Small images are stored as PNG. Large ones are reduced and stored as JPEG of high quality.
    """
    small = images.shape[0] <= SMALL
    ids = images.order[: PICTURED if small else PICTURED_LARGE]
    out = io.BytesIO()
    picture = Image.fromarray(np.concatenate(list(images.pixels(ids)), axis=1))
    if small:
        picture.save(out, "PNG")
    else:
        picture.thumbnail((picture.width, REDUCED))
        picture.save(out, "JPEG", quality=90, subsampling=0)
    kind, names = "png" if small else "jpeg", "+".join(map(str, ids))
    return f"data:image/{kind};ids={names};base64," + base64.b64encode(out.getvalue()).decode()
