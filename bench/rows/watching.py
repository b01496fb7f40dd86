"""How far a run is, for those who watch it from outside: the rows that it is to add, and the rows there are."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from framebench.files import atomic, held, read_regular

_EXPECTED = ".expected"


def expect(folder: Path, rows: int) -> None:
    """Note under ``OUT/examples`` how many rows the run that holds its lock is to add."""
    with atomic(folder / _EXPECTED) as temporary:
        temporary.write_text(json.dumps({"before": count(folder), "rows": rows}))


def forget(folder: Path) -> None:
    """Remove what `expect` has noted: the run ends."""
    (folder / _EXPECTED).unlink(missing_ok=True)


def is_running(out: Path) -> bool:
    """Tell whether a run writes into an output folder at this moment."""
    return held(out / "examples" / ".lock")


def progress(out: Path) -> tuple[int, int] | None:
    """Return how many rows the run in an output folder has added, and is to add; None before it knows."""
    folder = out / "examples"
    try:
        noted = json.loads(read_regular(folder / _EXPECTED, 1000))
        before, rows = int(noted["before"]), int(noted["rows"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return min(max(count(folder) - before, 0), rows), rows


def count(folder: Path) -> int:
    """Return the number of rows in all parts; parts that are just being joined are skipped."""
    rows = 0
    for path in parts(folder):
        try:
            rows += pq.read_metadata(path).num_rows
        except (OSError, pa.ArrowException):
            continue
    return rows


def parts(folder: Path) -> Iterator[Path]:
    """Yield the files of rows under ``OUT/examples`` that are files, not links or pipes."""
    for own in _entries(folder):
        if own.is_dir(follow_symlinks=False):
            for entry in _entries(Path(own.path)):
                if entry.name.startswith("rows-") and entry.name.endswith(".parquet") \
                        and entry.is_file(follow_symlinks=False):
                    yield Path(entry.path)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            return list(found)
    except OSError:
        return []
