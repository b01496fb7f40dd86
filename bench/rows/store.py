"""Rows on disk: one parquet file an evaluation, always whole, with its provenance inside.

A file is written anew (atomically) whenever rows are added; at some hundred bytes a row that is cheaper than any
scheme of parts. A killed run loses at most the rows since the last write; the next run attacks the ids that have
no row.
"""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from bench.rows.evaluation import Evaluation
from framebench.errors import InputError
from framebench.files import atomic, lock, writable_folder

#: Columns of a row and their types. `steps` holds one signed byte an iteration: +1, -1, or 0 where no sign helped.
SCHEMA = pa.schema([
    ("example", pa.int64()), ("label", pa.int64()), ("goal", pa.int64()), ("clean_prediction", pa.int64()),
    ("prediction", pa.int64()), ("success_iteration", pa.int64()), ("queries", pa.int64()), ("l2", pa.float64()),
    ("linf", pa.float64()), ("margin", pa.float64()), ("confidence", pa.float64()), ("steps", pa.binary())])

_META = b"framebench"
#: Facts that grow with every run that adds rows.
_LISTS = ("budgets", "l2_caps", "provenance", "warnings")
_WRITE_EVERY = 10.0  # seconds


class Store:
    """The rows under one output folder."""

    def __init__(self, out: Path) -> None:
        self.folder = out / "examples"
        self._known: list[Rows] | None = None

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep a second run out of the folder while this one writes; the lock ends with the process.

        Raises:
            InputError: if another run holds it.
        """
        writable_folder(self.folder)
        busy = f"another run is writing to {self.folder.parent}; wait for it, or choose another --out"
        with lock(self.folder / ".lock", busy):
            for folder in (self.folder, self.folder.parent / "adversarial"):
                for path in folder.glob(".*.part"):
                    path.unlink(missing_ok=True)  # of a run that was killed as it wrote
            yield

    def open(self, evaluation: Evaluation, facts: dict[str, Any]) -> Rows:
        """Return the rows of an evaluation, the stored ones loaded.

        Args:
            evaluation: What is asked.
            facts: Facts kept with the rows: titles, the lists `budgets` and `provenance`, the predictor's kind, ...
        """
        return self._find(evaluation, facts, _covers)

    def _find(self, evaluation: Evaluation, facts: dict[str, Any],
              same: Callable[[Evaluation, Evaluation], bool]) -> Rows:
        known = self._stored()
        if found := [rows for rows in known if same(rows.evaluation, evaluation)]:
            # Of several the shortest: the others' missing rows would cost a longer attack than is asked for.
            rows = min(found, key=lambda rows: int(rows.evaluation.options.get("max_iterations", 0)))
            joined = {name: _union(rows.facts.get(name, []), facts.get(name, [])) for name in _LISTS
                      if name in rows.facts or name in facts}
            rows.facts = {**facts, **rows.facts, **joined}
            return rows
        rows = Rows(self.folder / evaluation.file_name, evaluation, facts)
        known.append(rows)
        return rows

    def take(self, other: Store) -> None:
        """Add all rows and pictures of another store that this one lacks."""
        for theirs in other.all():
            # Equal evaluations alone: rows of a larger budget answer for a smaller one, but are not joined with it.
            mine = self._find(theirs.evaluation, theirs.facts, lambda a, b: a.key == b.key)
            mine.join(theirs)
            pictures = Pictures(mine)
            pictures.join(Pictures(theirs))
            pictures.flush()
            mine.flush()

    def all(self) -> list[Rows]:
        """Return the rows of every stored evaluation, by file name.

        Raises:
            InputError: if one of the files is damaged.
        """
        return sorted(self._stored(), key=lambda rows: rows.path)

    def _stored(self) -> list[Rows]:
        if self._known is None:  # once: nobody else writes here while we do (`lock`)
            self._known = [Rows.read(path) for path in sorted(self.folder.glob("*.parquet"))]
        return self._known


def _covers(stored: Evaluation, asked: Evaluation) -> bool:
    """Tell whether stored rows answer what is asked: the same evaluation, or one with a larger budget.

    A larger budget does: what an attack did by iteration k does not depend on how many were to follow.
    """
    most = "max_iterations"
    same = ("model_digest", "domain_digest", "attack", "seed")
    if any(getattr(stored, name) != getattr(asked, name) for name in same):
        return False  # told without hashing: there can be many thousand pairs
    return stored.options.get(most, 0) >= asked.options.get(most, 0) and stored.family == asked.family


@contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    """Turn what a damaged file of rows raises into the error that names it."""
    try:
        yield
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} is not a whole file of rows ({type(error).__name__}); remove it, and the same "
                       "command computes its rows anew") from None


def _union(old: list[Any], new: list[Any]) -> list[Any]:
    return old + [entry for entry in new if entry not in old]


class Rows:
    """The rows of one evaluation, on disk and, once they are asked for, in memory.

    Args:
        path: Their file.
        evaluation: What they are of.
        facts: What else is kept with them.
        stored: Whether the file is there.
    """

    def __init__(self, path: Path, evaluation: Evaluation, facts: dict[str, Any], *, stored: bool = False) -> None:
        self.path, self.evaluation, self.facts = path, evaluation, facts
        self._tables: list[pa.Table] | None = None if stored else []
        self._frame: pd.DataFrame | None = None
        self._written = time.monotonic()

    @classmethod
    def read(cls, path: Path) -> Rows:
        """Read what a file of rows is of; its rows are read when they are asked for.

        Raises:
            InputError: if it is damaged or not such a file.
        """
        with _damage_named(path):
            meta = json.loads(pq.read_schema(path).metadata[_META])
            return cls(path, Evaluation(**meta["evaluation"]), meta["facts"], stored=True)

    @property
    def _parts(self) -> list[pa.Table]:
        if self._tables is None:
            self._tables = self._columns(SCHEMA.names)
        return self._tables

    def _columns(self, names: list[str]) -> list[pa.Table]:
        """Read some columns of the file."""
        with _damage_named(self.path):
            table = pq.read_table(self.path, columns=names, partitioning=None)
            return [table.cast(pa.schema([SCHEMA.field(name) for name in table.column_names]))]

    @property
    def ids(self) -> np.ndarray:
        """Ids of the examples that have a row; the other columns are not read."""
        parts = self._columns(["example"]) if self._tables is None else self._tables
        return np.concatenate([np.zeros(0, np.int64), *(part.column("example").to_numpy() for part in parts)])

    def outcomes(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return example ids, labels and predictions, int64 [n] each, by id; the other columns are not read."""
        names = ["example", "label", "prediction"]
        parts = self._columns(names) if self._tables is None else [part.select(names) for part in self._tables]
        table = pa.concat_tables([SCHEMA.empty_table().select(names), *parts])
        examples, labels, predictions = (table.column(name).to_numpy() for name in names)
        order = np.argsort(examples, kind="stable")
        return examples[order], labels[order], predictions[order]

    def frame(self) -> pd.DataFrame:
        """Return the rows as a data frame, sorted by example id. It is shared: don't change it."""
        if self._frame is None:
            table = pa.concat_tables(self._parts) if self._parts else SCHEMA.empty_table()
            self._frame = table.to_pandas().sort_values("example", ignore_index=True)
        return self._frame

    def add(self, columns: dict[str, Any]) -> None:
        """Add finished rows; `flush` writes them."""
        self._append(pa.table(columns, schema=SCHEMA))

    def join(self, other: Rows) -> None:
        """Add the rows of the same evaluation, of examples that have none here."""
        for table in other._parts:
            self._append(table.filter(~np.isin(table.column("example").to_numpy(), self.ids)))

    def _append(self, table: pa.Table) -> None:
        self._parts.append(table)
        self._frame = None

    @property
    def due(self) -> bool:
        """Whether it is time to write again."""
        return time.monotonic() - self._written > _WRITE_EVERY

    def flush(self) -> None:
        """Write all rows, in the place of the file there was."""
        if not self._parts:
            return
        meta = json.dumps({"evaluation": dataclasses.asdict(self.evaluation), "facts": self.facts})
        table = pa.concat_tables(self._parts).sort_by("example").replace_schema_metadata({_META: meta.encode()})
        self._tables = [table.replace_schema_metadata(None)]
        with atomic(self.path) as temporary:
            pq.write_table(table, temporary, compression="zstd")
        self._written = time.monotonic()


class Pictures:
    """A few attacked images of an evaluation and their clean ones, kept beside its rows for the report."""

    def __init__(self, rows: Rows) -> None:
        self.path = rows.path.with_suffix(".npz")
        self._images: dict[str, np.ndarray] = {}
        if self.path.is_file():
            try:
                with np.load(self.path, allow_pickle=False) as stored:
                    self._images = dict(stored)
            except (OSError, ValueError, EOFError, BadZipFile):
                os.remove(self.path)  # pictures only; rows don't depend on them

    def add(self, example: int, clean: np.ndarray, attacked: np.ndarray) -> None:
        """Keep an image before and after, [C, H, W] in [0, 1]."""
        self._images[f"{example}-clean"] = clean.astype(np.float32)
        self._images[f"{example}-attacked"] = attacked.astype(np.float32)

    def join(self, other: Pictures) -> None:
        """Add another's images that are missing here."""
        self._images = {**other._images, **self._images}

    def get(self, example: int) -> tuple[np.ndarray, np.ndarray] | None:
        """Return an image before and after, float32 [H, W, C] in [0, 1], or None where it was not kept."""
        if f"{example}-attacked" not in self._images:
            return None
        return tuple(self._images[f"{example}-{kind}"].transpose(1, 2, 0)  # type: ignore[return-value]
                     for kind in ("clean", "attacked"))

    @property
    def examples(self) -> list[int]:
        """Ids of the images that were kept, in the order in which they are shown."""
        return sorted(int(name.removesuffix("-clean")) for name in self._images if name.endswith("-clean"))

    def flush(self) -> None:
        """Write them, if there are any."""
        if not self._images:
            return
        with atomic(self.path) as temporary, open(temporary, "wb") as out:
            np.savez_compressed(out, allow_pickle=False, **self._images)
