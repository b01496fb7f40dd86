"""Corrupted sets that are generated: on the fly for single images and large cells, or once into the cache.

A cell of at most `LARGEST_KEPT` bytes can be kept in the cache. The images of a larger one, as of ImageNet-C, are made
whenever they are read, batch by batch: 75 cells of 50,000 images of 224 x 224 would need 564 GB.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import cached_property
from pathlib import Path

import numpy as np

from framebench.domains.base import Domain
from framebench.domains.cells import CellFiles, write_cell
from framebench.domains.corrupted import CorruptedSet
from framebench.domains.corruptions import (
    NAMES,
    VERSION,
    corrupt,
    frost_hint,
    frost_source,
    generator_facts,
    usual_parameters,
)
from framebench.errors import InputError
from framebench.files import cache_folder

#: Size of the largest cells that are kept: 87,000 images of 32 x 32, 21,000 of 64 x 64, or 1,700 of 224 x 224.
LARGEST_KEPT = 2**28


class GeneratedCell(Domain):
    """One corruption of a clean set at one severity; pixels are made, or read from the cache, when they are needed."""

    _set: GeneratedSet
    _cell: tuple[str, int]

    def __init__(self, corrupted: GeneratedSet, corruption: str, severity: int) -> None:
        clean = corrupted.clean
        facts = {"name": f"{corrupted.name}/{corruption}/{severity}", "classes": clean.classes, "labels": clean.labels,
                 "title": f"{corrupted.title}, {corruption} at severity {severity}", "hint": corrupted.hint,
                 "logits": clean.logits, "_set": corrupted, "_cell": (corruption, severity)}
        for field, value in facts.items():
            object.__setattr__(self, field, value)  # the dataclass is frozen, and its own __init__ wants pixels

    @property
    def images(self) -> np.ndarray:
        """All images, uint8 [n, H, W, 3]; made or read again at each call."""
        return self.pixels(np.arange(len(self)))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels of an image."""
        return self._set.clean.shape

    @cached_property
    def digest(self) -> str:
        """Hash of everything that determines the pixels: equal for a cell made on the fly and one in the cache."""
        return self._set.digest(*self._cell)

    def pixels(self, ids: np.ndarray) -> np.ndarray:
        """Return the images `ids` (int64 [n]) as uint8 [n, H, W, 3]."""
        corruption, severity = self._cell
        kept = self._set.files.read(corruption, severity, self.digest)
        if kept is not None:
            return np.asarray(kept[ids])
        return corrupt(self._set.clean.pixels(ids), corruption, severity, seed=self._set.seed, ids=ids)


class GeneratedSet(CorruptedSet):
    """All corruptions of a clean set of images.

    Attributes:
        clean: The images that are corrupted.
        seed: Seed of the random draws.
        files: Where cells are kept.
    """

    official = False
    clean: Domain

    def __init__(self, name: str, label: str, clean: Domain, seed: int, folder: Path | None = None) -> None:
        self.name, self.clean, self.seed = name, clean, seed
        self.hint = "; ".join(filter(None, (clean.hint, frost_hint())))
        parameters = usual_parameters(*clean.shape[:2])
        strength = "" if parameters == "cifar" else f", parameters of {parameters}"
        self.title = (f"{label} generated from {clean.title}, generator v{VERSION}{strength}, seed {seed}, "
                      f"frost: {frost_source()}")
        self.corruptions = NAMES
        if folder is None:
            key = hashlib.sha256(f"{clean.digest} {VERSION} {seed}".encode()).hexdigest()[:32]
            folder = cache_folder() / "corrupted" / key
        self.files = CellFiles(folder, clean.labels, clean.shape)

    def cell(self, corruption: str, severity: int) -> Domain:
        """Return one corruption at one severity, with the ids of `clean`; no pixels are made yet."""
        self.check(corruption, severity)
        return GeneratedCell(self, corruption, severity)

    def digest(self, corruption: str, severity: int) -> str:
        """Hash of everything that determines a cell's pixels: clean images, generator, corruption, severity and seed.

        Versions of libraries are left out, although another libjpeg may round differently and another NumPy may draw
        other numbers. Results and cells in the cache record these versions (`generator_facts`), and a cell in the cache
        is not made again.
        """
        # The pictures of frost are included: those from a wheel and the drawn ones look different.
        textures = generator_facts()["frost_digest"] if corruption == "frost" else None
        parts = [self.clean.digest, VERSION, textures, corruption, severity, self.seed]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def missing(self, corruptions: Iterable[str], severities: Iterable[int]) -> list[tuple[str, int]]:
        """Return the cells that `generate` would make; each needs `files.cell_bytes` on disk.

        Cells larger than `LARGEST_KEPT` are not kept, and therefore never missing.
        """
        severities = list(severities)
        cells = [(corruption, severity) for corruption in corruptions for severity in severities]
        for cell in cells:
            self.check(*cell)
        return [cell for cell in cells if self.files.cell_bytes <= LARGEST_KEPT
                and self.files.read(*cell, self.digest(*cell)) is None]

    def generate(self, corruptions: Iterable[str], severities: Iterable[int], *,
                 progress: Callable[[str, int], None] | None = None, workers: int = 1) -> Path:
        """Make the missing cells. If this is killed, the next call continues with the cells that are not finished.

        Args:
            corruptions: Names of corruptions.
            severities: Severities, from 1 to 5.
            progress: Called with corruption and severity after each cell.
            workers: Number of processes.

        Returns:
            The folder.

        Raises:
            InputError: for an unknown corruption or severity, a full disk, or a folder that is not writable.
        """
        files, cells = self.files, self.missing(corruptions, severities)
        if not cells:
            return files.folder
        files.prepare(cells, {"title": self.title, "generator": generator_facts(), "seed": self.seed,
                              "clean": {"title": self.clean.title, "sha256": self.clean.digest, "n": len(self.clean)}})
        for (corruption, severity), sha256 in _made(self.clean, files, cells, self.seed, min(workers, len(cells))):
            files.finish(corruption, severity, self.digest(corruption, severity), sha256)
            if progress is not None:
                progress(corruption, severity)
        return files.folder


def _made(clean: Domain, files: CellFiles, cells: list[tuple[str, int]], seed: int, workers: int,
          ) -> Iterator[tuple[tuple[str, int], str]]:
    """Make and write cells; yield each with its sha256 when it is finished."""
    tasks = [(corruption, severity, seed, files.path(corruption)) for corruption, severity in cells]
    images = clean.images[:]
    if workers == 1:
        for cell, task in zip(cells, tasks, strict=True):
            yield cell, _make(images, *task)
        return
    # Spawned, not forked: forking a process with threads of torch can hang.
    pool = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"), initializer=_receive,
                               initargs=(images,))
    try:
        futures = {pool.submit(_make_received, *task): cell for cell, task in zip(cells, tasks, strict=True)}
        for future in as_completed(futures):
            yield futures[future], future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _make(images: np.ndarray, corruption: str, severity: int, seed: int, path: Path) -> str:
    try:
        return write_cell(path, severity, corrupt(images, corruption, severity, seed=seed))
    except OSError as error:
        raise InputError(f"can't write to {path} ({error.strerror}); free some space, or set BENCH_CACHE to another "
                         "folder; finished cells are kept") from None


_images = np.empty(0)  # in a worker process: the clean images, sent once and not with each task


def _receive(images: np.ndarray) -> None:
    global _images
    _images = images
    # Without this, idle workers of a killed process would wait forever.
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _make_received(corruption: str, severity: int, seed: int, path: Path) -> str:
    return _make(_images, corruption, severity, seed, path)
