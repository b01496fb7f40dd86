"""Generated cells on disk, in the layout of CIFAR-10-C, with a manifest that lists the finished cells."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from framebench.domains.corruptions import SEVERITIES
from framebench.errors import InputError
from framebench.files import atomic

MANIFEST = "manifest.json"


class CellFiles:
    """A folder of ``<corruption>.npy`` (uint8 [5 n, H, W, 3], severity by severity), ``labels.npy`` and a manifest.

    A cell is finished when the manifest has its digest and the sha256 of its bytes. This entry is written last, so that
    the half-written cell of a killed process does not count. A process checks the sha256 before it first uses a cell.
    Two processes that write to the same files can at worst do the work twice.

    Attributes:
        folder: Where the files are; created at the first write.
        labels: The labels of the clean images, int64 [n].
        shape: Height, width and channels of an image.
    """

    def __init__(self, folder: Path, labels: np.ndarray, shape: tuple[int, int, int]) -> None:
        self.folder = folder
        self.labels = labels
        self.shape = shape
        self._checked: dict[str, np.ndarray | None] = {}

    @property
    def cell_bytes(self) -> int:
        """Size of one cell on disk."""
        return len(self.labels) * int(np.prod(self.shape))

    def read(self, corruption: str, severity: int, digest: str) -> np.ndarray | None:
        """Return a cell's images, memory-mapped uint8 [n, H, W, 3], or None if it is absent or damaged.

        Args:
            corruption: Name of the corruption.
            severity: 1 to 5.
            digest: The digest that the cell must have. A cell made from other images or by another version of the
                generator has another one.
        """
        if digest not in self._checked:
            entry = self._manifest().get("cells", {}).get(f"{corruption}/{severity}", {})
            block = self._block(corruption, severity) if entry.get("digest") == digest else None
            sound = block is not None and hashlib.sha256(block.data).hexdigest() == entry.get("sha256")
            self._checked[digest] = block if sound else None
        return self._checked[digest]

    def prepare(self, cells: Iterable[tuple[str, int]], facts: dict[str, Any]) -> None:
        """Create the files that `cells` will be written to; none of them is there yet.

        Args:
            cells: Corruptions and severities.
            facts: What the manifest says about the origin of all cells.

        Raises:
            InputError: if the disk has too little space or the folder is not writable.
        """
        cells = list(cells)
        needed = len(cells) * self.cell_bytes
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(self.folder).free
            if free < needed * 1.02:  # a margin for labels, headers and other files
                raise InputError(f"{len(cells)} corrupted cells need {gigabytes(needed)} in {self.folder}, which has "
                                 f"{gigabytes(free)} free; choose fewer, or set BENCH_CACHE to a folder with space")
            self._write_manifest({**self._manifest(), **facts})
            with atomic(self.folder / "labels.npy") as temporary, open(temporary, "wb") as out:
                np.save(out, np.tile(self.labels, len(SEVERITIES)), allow_pickle=False)
            for corruption in {corruption for corruption, _ in cells}:
                if self._block(corruption, 1) is None:  # absent, or has another size
                    with atomic(self.path(corruption)) as temporary, open(temporary, "wb") as out:
                        np.lib.format.write_array_header_1_0(
                            out, {"descr": "|u1", "fortran_order": False, "shape": self._whole})
                        out.truncate(out.tell() + len(SEVERITIES) * self.cell_bytes)  # sparse until written
        except OSError as error:
            raise InputError(f"can't write to {self.folder} ({error.strerror}); set BENCH_CACHE to a writable "
                             "folder") from None

    def finish(self, corruption: str, severity: int, digest: str, sha256: str) -> None:
        """Record in the manifest a cell that `write_cell` has written."""
        manifest = self._manifest()
        manifest.setdefault("cells", {})[f"{corruption}/{severity}"] = {"digest": digest, "sha256": sha256}
        self._write_manifest(manifest)
        self._checked.pop(digest, None)

    def path(self, corruption: str) -> Path:
        """Return the file of a corruption."""
        return self.folder / f"{corruption}.npy"

    @property
    def _whole(self) -> tuple[int, ...]:
        return len(SEVERITIES) * len(self.labels), *self.shape

    def _block(self, corruption: str, severity: int) -> np.ndarray | None:
        try:
            whole = np.load(self.path(corruption), mmap_mode="r", allow_pickle=False)
        except Exception:  # absent or damaged, and a damaged file raises nearly anything
            return None
        if whole.shape != self._whole or whole.dtype != np.uint8:
            return None
        n = len(self.labels)
        return np.asarray(whole[(severity - 1) * n : severity * n])

    def _manifest(self) -> dict[str, Any]:
        try:
            manifest: dict[str, Any] = json.loads((self.folder / MANIFEST).read_text(encoding="utf-8"))
            if all(isinstance(entry, dict) for entry in manifest.get("cells", {}).values()):
                return manifest
        except (OSError, ValueError, AttributeError, RecursionError):
            pass
        return {}  # absent or damaged: the cells are made again

    def _write_manifest(self, manifest: dict[str, Any]) -> None:
        with atomic(self.folder / MANIFEST) as temporary:
            temporary.write_text(json.dumps(manifest, indent=1, sort_keys=True), encoding="utf-8")


def write_cell(path: Path, severity: int, pixels: np.ndarray) -> str:
    """Write a cell's images (uint8 [n, H, W, 3]) into its file, sync them, and return the sha256 of their bytes.

    It uses seek and write, not a memory map: then a full disk raises OSError and does not kill the process.
    """
    content = np.ascontiguousarray(pixels).data
    header = path.stat().st_size - len(SEVERITIES) * content.nbytes
    with open(path, "r+b") as file:
        file.seek(header + (severity - 1) * content.nbytes)
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return hashlib.sha256(content).hexdigest()


def gigabytes(size: int) -> str:
    """Return a number of bytes as text in GB."""
    return f"{size / 1e9:.2f} GB"
