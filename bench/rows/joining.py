"""Joining output folders: rows, pictures, attacked images, frame bounds, and the tables that don't derive from rows."""

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
    """Add to `out` what another output folder has and it lacks.

    Args:
        out: The output folder.
        store: Its rows, locked.
        other: The other folder; it is left as it is.

    Raises:
        InputError: if what either has is damaged.
    """
    # All of these before anything is joined, as they may be damaged.
    tables = [(table, table.read(out), table.read(other)) for table in (TRANSFER, DUPLICATES)]
    read_frames(out)
    frames = read_frames(other)
    theirs = Store(other)
    store.take(theirs)
    take_adversarial(store, theirs)
    take_frames(out, frames)
    for table, ours, more in tables:
        if len(more):
            table.write(out, ours, more)
        both = pd.concat([ours, more]).drop_duplicates()
        if differ := len(both) - len(both.drop_duplicates(list(table.keys))):
            _log.warning("%d entries of %s.csv in %s differ from those in %s, which stay", differ, table.name, other,
                         out)
