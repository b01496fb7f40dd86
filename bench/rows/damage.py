"""Damage under an output folder: a kept file whose checksum does not fit is removed, if asked for, and made anew."""

from __future__ import annotations

import logging
from pathlib import Path

from framebench.errors import DamagedError
from framebench.files import unseal

_log = logging.getLogger(__name__)

#: Where kept files are, below an output folder.
KEPT = ("examples/*/rows-*.parquet", "examples/*/pictures-*.safetensors", "adversarial/*/images-*.safetensors",
        "kept/*-*.csv", "frames/*-*.json")


def remove_damaged(out: Path) -> list[Path]:
    """Remove the kept files of an output folder that something has changed since they were written, and name each.

    Nothing else is removed: not what can't be read at present, nor what another version has written.

    Returns:
        The files that are gone.

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
