"""Joining output folders: rows, pictures, attacked images, frame bounds, and the tables that don't derive from rows."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from bench.adversarial import TRANSFER_KEYS, take_adversarial
from bench.frames import take_frames
from bench.store import Store
from framebench.files import atomic

#: Tables that are kept, and what tells their entries apart.
_TABLES = {"transfer.csv": TRANSFER_KEYS, "duplicates.csv": ["domain", "example"]}


def take(out: Path, store: Store, other: Path) -> None:
    """Add to `out` what another output folder has and it lacks.

    Args:
        out: The output folder.
        store: Its rows, locked.
        other: The other folder; it is left as it is.
    """
    theirs = Store(other)
    store.take(theirs)
    take_adversarial(store, theirs)
    take_frames(out, other)
    for name, keys in _TABLES.items():
        if (other / name).is_file():
            tables = [pd.read_csv(folder / name) for folder in (out, other) if (folder / name).is_file()]
            with atomic(out / name) as temporary:
                pd.concat(tables).drop_duplicates(keys).to_csv(temporary, index=False)
