"""Repair of an output folder: files whose checksum does not match are removed, so that they are computed again."""

from __future__ import annotations

import logging
from pathlib import Path

from framebench.errors import DamagedError
from framebench.files import unseal

_log = logging.getLogger(__name__)

#: Patterns of the files with checksums in an output folder.
KEPT = ("examples/*/rows-*.parquet", "examples/*/pictures-*.safetensors", "adversarial/*/images-*.safetensors",
        "kept/*-*.csv", "frames/*-*.json")


def remove_damaged(out: Path) -> list[Path]:
    """Remove the files of an output folder that have changed since they were written, and log each.

    Unreadable files and files of another version stay.

    Returns:
        The removed files.

    Raises:
        InputError: if a file can't be read.
    """
    removed = []
    for path in sorted(path for pattern in KEPT for path in out.glob(pattern)):
        try:
            unseal(path)
        except DamagedError:
            path.unlink()
            removed.append(path)
            _log.warning("%s was damaged and is removed", path)
    return removed
