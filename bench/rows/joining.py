"""Joins output folders: rows, pictures, attacked images, frame bounds, and tables that don't derive from rows."""

from __future__ import annotations

import logging
from pathlib import Path

import pandas as pd

from bench.rows.adversarial import take_adversarial
from bench.rows.frames import read_frames, take_frames
from bench.rows.kept import DUPLICATES, TRANSFER
from bench.rows.store import Store

_log = logging.getLogger(__name__)


def take(out: Path, store: Store, other: Path) -> None:
    """Copy the results of another output folder that are missing in `out`.

    Args:
        out: The output folder.
        store: Its rows, locked.
        other: The other folder, which is not changed.

    Raises:
        InputError: if a file in either folder is damaged.
    """
    # Read all of these first: if one is damaged, nothing is joined.
    tables = [(table, table.read(out), table.read(other)) for table in (TRANSFER, DUPLICATES)]
    read_frames(out)
    frames = read_frames(other)
    other_store = Store(other)
    store.take(other_store)
    take_adversarial(store, other_store)
    take_frames(out, frames)
    for table, entries, added in tables:
        if len(added):
            table.write(out, entries, added)
        both = pd.concat([entries, added]).drop_duplicates()
        if differ := len(both) - len(both.drop_duplicates(list(table.keys))):
            _log.warning("%d entries of %s.csv in %s differ from those in %s, which stay", differ, table.name, other,
                         out)
