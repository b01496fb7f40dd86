"""The rows of an evaluation on disk: a folder with parts, each of them whole.

A part is a parquet file with rows, their evaluation and their facts. Its name has its checksum, which is verified
whenever the part is read. Parts are only added, so several processes can write to one evaluation, and a killed run
loses at most the rows since its last part. The process that finishes an evaluation joins its parts into one. If two
parts have a row of the same example (because a run was killed while joining them), the first row counts.
"""

from __future__ import annotations

import dataclasses
import io
import json
import logging
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from bench.rows.evaluation import Evaluation
from bench.rows.facts import VERSION, Facts, from_json
from framebench.errors import InputError
from framebench.files import is_seal, seal, unseal

#: Columns of a row and their types; docs/results.md says what each means.
SCHEMA = pa.schema([
    ("example", pa.int64()), ("label", pa.int64()), ("goal", pa.int64()), ("clean_prediction", pa.int64()),
    ("prediction", pa.int64()), ("success_iteration", pa.int64()), ("queries", pa.int64()), ("l2", pa.float64()),
    ("linf", pa.float64()), ("margin", pa.float64()), ("confidence", pa.float64()), ("steps", pa.binary())])

_log = logging.getLogger(__name__)
_META = b"framebench"
_WRITE_EVERY = 10.0  # seconds
#: The columns by which two rows of an example are compared.
_OUTCOMES = ["example", "clean_prediction", "prediction", "success_iteration", "queries"]
#: The columns that are classes.
_CLASSES = ("label", "goal", "clean_prediction", "prediction")


def seeded(label: str, seed: int) -> str:
    """Return the name of an attack with its seed, which is left out if 0."""
    return f"{label}-s{seed}" if seed else label


@contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    """Turn the errors of an invalid part into an `InputError` that names the file."""
    try:
        yield
    except InputError:
        raise
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is not a whole file of rows ({type(error).__name__}); remove it, and the same "
                         "command computes its rows anew") from None


class Rows:
    """The rows of one evaluation, on disk and, once they are needed, in memory.

    Args:
        folder: The evaluation's folder.
        evaluation: The evaluation.
        facts: Its facts.
        parts: The files of its parts.
    """

    def __init__(self, folder: Path, evaluation: Evaluation, facts: Facts, parts: tuple[Path, ...] = ()) -> None:
        self.folder, self.evaluation, self.facts = folder, evaluation, facts
        self._parts, self._added = list(parts), list[pa.Table]()
        self._kept = facts if parts else None  # the facts as they are on disk
        self._frame: pd.DataFrame | None = None
        self._first_added = 0.0  # when the first of the rows that are not yet written was added

    @classmethod
    def read(cls, folder: Path) -> Rows:
        """Read the evaluation and the facts of the parts in a folder; the rows are read when they are needed.

        Raises:
            InputError: if a part is damaged, or of another version.
        """
        parts = tuple(sorted(folder.glob("rows-*.parquet")))
        headers: list[tuple[Evaluation, Facts]] = []
        for path in parts:
            with _damage_named(path):
                meta = json.loads(pq.read_schema(io.BytesIO(unseal(path))).metadata[_META])
                if meta["version"] != VERSION:
                    raise InputError(f"{path} was written by another version of framebench; use that one, or another "
                                     "--out")
                headers.append((from_json(Evaluation, meta["evaluation"]), from_json(Facts, meta["facts"])))
                if headers[-1][0].key != headers[0][0].key:
                    raise ValueError("two evaluations in one folder")
        evaluation, facts = headers[0]
        for _, more in headers[1:]:
            facts = facts.joined(more)
        return cls(folder, evaluation, facts, parts)

    @property
    def label(self) -> str:
        """Name of the attack in tables: its label, with the seed if that is not 0; "none" without an attack."""
        return "none" if self.facts.traits is None else seeded(self.facts.traits.label, self.evaluation.seed)

    @property
    def ids(self) -> np.ndarray:
        """Ids of the examples that have a row, int64, ascending; the other columns are not read."""
        return np.unique(self._table(["example"]).column("example").to_numpy())

    def outcomes(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return example ids, labels and predictions, int64 [n] each, by id; the other columns are not read."""
        table = self._table(["example", "label", "prediction"])
        examples, labels, predictions = (table.column(name).to_numpy() for name in table.column_names)
        _, first = np.unique(examples, return_index=True)
        return examples[first], labels[first], predictions[first]

    def some(self, ids: Sequence[int]) -> dict[int, tuple[int, int, float]]:
        """Return id -> label, prediction and confidence, for those of `ids` that have a row."""
        table = self._table(["example", "label", "prediction", "confidence"])
        chosen = table.filter(np.isin(table.column("example").to_numpy(), ids)).to_pydict()
        return {example: tuple(values) for example, *values in zip(*chosen.values(), strict=True)}

    def frame(self) -> pd.DataFrame:
        """Return the rows as a data frame, sorted by example id. The frame is shared: don't change it."""
        if self._frame is None:
            self._frame = _distinct(self._table(SCHEMA.names)).to_pandas()
        return self._frame

    def with_rows_of(self, other: Rows) -> Rows:
        """Return these rows joined with others of the same evaluation, as `join` does, but without writing."""
        return Rows(self.folder, self.evaluation, self.facts.joined(other.facts), (*self._parts, *other._parts))

    def note(self, facts: Facts) -> None:
        """Join more facts; `finish` writes them."""
        self.facts = self.facts.joined(facts)

    def add(self, columns: dict[str, Any]) -> None:
        """Add finished rows; `flush` writes them."""
        if not self._added:
            self._first_added = time.monotonic()
        self._added.append(pa.table(columns, schema=SCHEMA))
        self._frame = None

    def join(self, other: Rows) -> None:
        """Add the rows of the same evaluation for examples that have none here."""
        own, table = self._table(_OUTCOMES), other._table(SCHEMA.names)
        known = np.isin(table.column("example").to_numpy(), own.column("example").to_numpy())
        if known.any() and (differ := _differing(pa.concat_tables([own, table.select(_OUTCOMES)]))):
            _log.warning("%d images of %s have another outcome in %s; their first rows stay", differ, self.folder,
                         other.folder)
        self._added.append(table.filter(~known))
        self._frame = None

    def collect(self) -> None:
        """Add the parts that other processes have written in the meantime, and their facts."""
        if not set(self.folder.glob("rows-*.parquet")) <= set(self._parts):
            stored = Rows.read(self.folder)
            self._parts, self._frame = stored._parts, None
            self.note(stored.facts)

    @property
    def due(self) -> bool:
        """Whether there are rows that have waited long enough to be written."""
        return bool(self._added) and time.monotonic() - self._first_added > _WRITE_EVERY

    def flush(self) -> None:
        """Write the added rows as a part."""
        if self._added:
            self._write(pa.concat_tables(self._added))
            self._added = []

    def finish(self) -> None:
        """Write added rows and facts, and join the parts into one. An evaluation without a row has no file."""
        self.flush()
        if len(self._parts) > 1 or (self._parts and self.facts != self._kept):
            old, table = self._parts, self._table(SCHEMA.names)
            if differ := _differing(table):
                _log.warning("%d images of %s had another outcome when they were attacked again (another machine or "
                             "version, or draws of their own); their first rows stay", differ, self.folder)
            self._parts = []
            self._write(table, after=old)
            for path in set(old) - set(self._parts):
                path.unlink(missing_ok=True)

    def _write(self, table: pa.Table, after: list[Path] | None = None) -> None:
        meta = json.dumps({"version": VERSION, "evaluation": dataclasses.asdict(self.evaluation),
                           "facts": dataclasses.asdict(self.facts)})
        content = io.BytesIO()
        pq.write_table(_distinct(table).replace_schema_metadata({_META: meta.encode()}), content, compression="zstd")
        known = self._parts if after is None else after
        # After the parts of other processes too, since of two rows of an image that of the first part counts.
        number = max(map(_number, [*known, *self.folder.glob("rows-*.parquet")]), default=0) + 1
        # A part with the same content may exist: of images that were attacked again, the first rows count.
        same = [path for path in known if is_seal(path, content.getvalue())]
        self._parts.append(same[0] if same else seal(self.folder, f"rows-{number:05}", ".parquet", content.getvalue()))
        self._kept = self.facts

    def _table(self, names: list[str]) -> pa.Table:
        """Return some columns of all rows, in the order of the parts."""
        schema = pa.schema([SCHEMA.field(name) for name in names])
        tables = [schema.empty_table()]
        for path in self._parts:
            with _damage_named(path):
                tables.append(pq.read_table(io.BytesIO(unseal(path)), columns=names).cast(schema)
                              .replace_schema_metadata(None))
                _check(tables[-1], len(self.facts.classes))
        return pa.concat_tables([*tables, *(table.select(names) for table in self._added)])


def _number(path: Path) -> int:
    """Return the number of a part, by which parts are ordered; 0 for a file that was given another name."""
    found = re.match(r"rows-(\d+)-", path.name)
    return int(found[1]) if found else 0


def _check(table: pa.Table, classes: int) -> None:
    """Check that a part has no missing values, and only valid classes and counts.

    Raises:
        ValueError: if not.
    """
    least = {"success_iteration": -1, **dict.fromkeys(("example", "queries", *_CLASSES), 0)}
    for name in table.column_names:
        column = table.column(name)
        if column.null_count:
            raise ValueError(f"{name} lacks values")
        if name in least and len(column):
            values = column.to_numpy()
            if values.min() < least[name] or (name in _CLASSES and values.max() >= classes):
                raise ValueError(f"{name} is from {values.min()} to {values.max()}")


def _differing(table: pa.Table) -> int:
    """Return the number of examples whose rows have different outcomes."""
    outcomes = table.select(_OUTCOMES)
    distinct = int(outcomes.group_by(outcomes.column_names).aggregate([]).num_rows)
    return distinct - len(np.unique(table.column("example").to_numpy()))


def _distinct(table: pa.Table) -> pa.Table:
    """Return the first row of each example, by id."""
    _, first = np.unique(table.column("example").to_numpy(), return_index=True)
    return table.take(pa.array(first))
