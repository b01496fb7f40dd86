"""Joining output folders: rows, pictures, attacked images, frame bounds, and the tables that don't derive from rows."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from bench.frames.bounds import read_frames, take_frames
from bench.rows.adversarial import TRANSFER_COLUMNS, TRANSFER_KEYS, take_adversarial
from bench.rows.kept_tables import read_table, write_table
from bench.rows.store import Store
from bench.running.overlap import COLUMNS, KEYS

#: Table -> what tells its entries apart, and its columns.
_TABLES = {"transfer.csv": (TRANSFER_KEYS, TRANSFER_COLUMNS), "duplicates.csv": (KEYS, COLUMNS)}


def take(out: Path, store: Store, other: Path) -> None:
    """Add to `out` what another output folder has and it lacks.

    Args:
        out: The output folder.
        store: Its rows, locked.
        other: The other folder; it is left as it is.

    Raises:
        InputError: if what either has is damaged.
    """
    # All of these before anything is joined, as they may be damaged.
    tables = {name: [read_table(folder / name, columns) for folder in (out, other)]
              for name, (_, columns) in _TABLES.items()}
    read_frames(out)
    frames = read_frames(other)
    theirs = Store(other)
    store.take(theirs)
    take_adversarial(store, theirs)
    take_frames(out, frames)
    for name, parts in tables.items():
        keys, _ = _TABLES[name]
        write_table(out / name, *parts, keys=keys)
        both = pd.concat(parts).drop_duplicates()
        if n := len(both) - len(both.drop_duplicates(keys)):
            print(f"{n} entries of {other / name} differ from those in {out / name}, which stay", flush=True)
