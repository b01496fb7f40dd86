"""The progress of a run, as other processes see it: the rows that it will add, and those that it has added."""

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
    """Note in ``OUT/examples`` how many rows the run that holds its lock will add."""
    with atomic(folder / _EXPECTED) as temporary:
        temporary.write_text(json.dumps({"before": count(folder), "rows": rows}))


def forget(folder: Path) -> None:
    """Remove the note of `expect`, at the end of a run."""
    (folder / _EXPECTED).unlink(missing_ok=True)


def is_running(out: Path) -> bool:
    """Tell whether a run is writing into an output folder."""
    return held(out / "examples" / ".lock")


def progress(out: Path) -> tuple[int, int] | None:
    """Return how many rows the run in an output folder has added, and will add in all; None if it has no note."""
    folder = out / "examples"
    try:
        noted = json.loads(read_regular(folder / _EXPECTED, 1000))
        before, rows = int(noted["before"]), int(noted["rows"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return min(max(count(folder) - before, 0), rows), rows


def count(folder: Path) -> int:
    """Return the number of rows in all parts. Parts that vanish in the meantime, as they are joined, are skipped."""
    rows = 0
    for path in parts(folder):
        try:
            rows += pq.read_metadata(path).num_rows
        except (OSError, pa.ArrowException):
            continue
    return rows


def parts(folder: Path) -> Iterator[Path]:
    """Yield the files of rows in ``OUT/examples`` that are regular files, not links or pipes."""
    for evaluation in _entries(folder):
        if evaluation.is_dir(follow_symlinks=False):
            for entry in _entries(Path(evaluation.path)):
                if entry.name.startswith("rows-") and entry.name.endswith(".parquet") \
                        and entry.is_file(follow_symlinks=False):
                    yield Path(entry.path)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:
        return []
