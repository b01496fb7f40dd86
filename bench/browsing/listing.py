"""The description of a run in the index: from its tables, or from its rows if there are no tables yet."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from bench.browsing.folders import stamp
from bench.rows.frames import read_frames
from bench.rows.store import Store
from bench.rows.watching import is_running, progress
from framebench.derived import check_derived
from framebench.errors import DamagedError, InputError
from framebench.files import read_regular

#: Maximum size in bytes of a table that the index reads.
LIMIT = 64 << 20
_TABLES = ("attack", "shift", "shift_summary", "frames", "warnings")

T = TypeVar("T")
Record = Mapping[str, str]


@dataclass(frozen=True)
class Rate:
    """A fraction with its 95% interval.

    Attributes:
        value: In [0, 1].
        low: Lower end of the interval, in [0, 1].
        high: Upper end of the interval, in [0, 1].
        model: The model.
        of: The attack or the data.
    """

    value: float
    low: float
    high: float
    model: str
    of: str


@dataclass(frozen=True)
class Run:
    """An output folder, as the index lists it.

    Attributes:
        name: Its path, relative to the folder that is browsed.
        changed: When its results last changed, in s since 1970; 0 if not known.
        data: Names of its data.
        models: Names of its models.
        attacks: Names of its attacks.
        sizes: The numbers of images of its evaluations, ascending.
        robust: For each model, robust accuracy under the strongest attack, at its largest budget, on the data on which
            most models were attacked; best first.
        shifted: For each model, mean accuracy over the corruptions of a set, or accuracy on another shifted set; best
            first.
        warnings: What the reader must know before the numbers.
        report: Whether it has a report.
        running: Whether a run is writing into it.
        done: Rows that this run has added, and will add in all; None if not known.
        problem: Why it can't be read, one line; empty if it can.
    """

    name: str
    changed: float = 0.0
    data: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    attacks: tuple[str, ...] = ()
    sizes: tuple[int, ...] = ()
    robust: tuple[Rate, ...] = ()
    shifted: tuple[Rate, ...] = ()
    warnings: tuple[str, ...] = ()
    report: bool = False
    running: bool = False
    done: tuple[int, int] | None = None
    problem: str = ""


class Listing:
    """Reads runs, and reads them again when their files have changed.

    Args:
        root: The folder that is browsed.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._cache: dict[str, tuple[Any, Run]] = {}

    def runs(self, names: Iterable[str]) -> list[Run]:
        """Return runs, the last changed first. A run that can't be read has a `Run.problem`."""
        return sorted(map(self.run, names), key=lambda run: (-run.changed, run.name))

    def run(self, name: str) -> Run:
        """Return one run."""
        try:
            return self._run(name)
        except InputError as error:
            problem = str(error)
        except Exception as error:  # one folder, whatever it holds, must not hide the others
            problem = f"can't be read ({type(error).__name__}: {error})"
        return Run(name, problem=" ".join(problem.split())[:300])

    def _run(self, name: str) -> Run:
        out = self._root / name
        files = {table: out / f"{table}.csv" for table in _TABLES}
        tables = {table: version for table, path in files.items() if (version := _version(path)) is not None}
        report, running = _version(out / "report" / "index.html"), is_running(out)
        from_rows = running or not tables.keys() & {"attack", "shift", "frames"}
        state = (sorted(tables.items()), report, running, stamp(out) if from_rows else None)
        if name not in self._cache or self._cache[name][0] != state:
            changed = max([0, *(version[0] for version in tables.values()), *([report[0]] if report else []),
                           *([state[3][1]] if state[3] else [])]) / 1e9
            described = settled(out, lambda: _unfinished(name, out)) if from_rows else \
                _described(name, {table: _records(out, table) for table in tables})
            self._cache[name] = state, replace(described, changed=changed, report=report is not None, running=running)
        run = self._cache[name][1]
        return replace(run, done=progress(out)) if running else run


def _version(path: Path) -> tuple[int, int] | None:
    """Return when a file was last changed, in ns, and its size; None if it does not exist."""
    try:
        status = path.lstat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


def _records(out: Path, table: str) -> list[dict[str, str]]:
    """Read a table.

    Raises:
        InputError: if it is not a table, or has changed since it was written.
    """
    try:
        content = read_regular(out / f"{table}.csv", LIMIT)
        check_derived(out / f"{table}.csv", content)
        text = content.decode("utf-8")
        return [{str(key): value or "" for key, value in record.items()}
                for record in csv.DictReader(io.StringIO(text, newline=""), strict=True)]
    except DamagedError as error:
        raise InputError(f"{error}; bench report writes it anew") from None
    except (OSError, ValueError, csv.Error) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"{table}.csv can't be read ({why}); bench report writes it anew") from None


def _unfinished(name: str, out: Path) -> Run:
    """Describe a run by its rows so far, without rates: easily broken images finish first and would distort them."""
    stored = Store(out).all()
    return Run(name, data=_distinct(rows.evaluation.domain for rows in stored),
               models=_distinct([*(rows.evaluation.model for rows in stored),
                                 *(str(frames.request["model"]) for frames in read_frames(out))]),
               attacks=_distinct(rows.label for rows in stored if rows.label != "none"),
               sizes=tuple(sorted({len(rows.ids) for rows in stored})))


def settled(out: Path, read: Callable[[], T], tries: int = 3) -> T:
    """Return the result of `read`; retry if it fails because the run in a folder is joining files.

    Files are complete from the start and never change, so none is read half-written; but a listed file may vanish.
    """
    while True:
        try:
            return read()
        except InputError:
            tries -= 1
            if not tries or not is_running(out):
                raise


def _described(name: str, records: Mapping[str, Sequence[Record]]) -> Run:
    try:
        attack, shift = records.get("attack", ()), records.get("shift", ())
        return Run(
            name, data=_names([*attack, *shift], "domain"), attacks=_names(attack, "attack"),
            models=_names([*attack, *shift, *records.get("frames", ())], "model"),
            sizes=tuple(sorted({int(record["n"]) for record in [*attack, *shift]})),
            robust=_robust(attack), shifted=_shifted(records.get("shift_summary", ())),
            warnings=_names(records.get("warnings", ()), "warning"))
    except (KeyError, ValueError) as error:
        why = f"no column {error}" if isinstance(error, KeyError) else str(error)
        raise InputError(f"its tables are not what they should be ({why}); bench report writes them anew") from None


def _names(records: Iterable[Record], column: str) -> tuple[str, ...]:
    return _distinct(record[column] for record in records)


def _distinct(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(texts))


def _robust(attack: Sequence[Record]) -> tuple[Rate, ...]:
    last: dict[tuple[str, str, str], Record] = {}
    for record in attack:
        key = record["domain"], record["model"], record["attack"]
        if record["unit"] == "iterations" and (key not in last or int(record["budget"]) >= int(last[key]["budget"])):
            last[key] = record
    models: dict[str, set[str]] = {}
    for domain, model, _ in last:
        models.setdefault(domain, set()).add(model)
    domain = max(models, key=lambda name: len(models[name]), default="")
    rates = [_rate(record, "robust_accuracy", "robust", record["attack"])
             for record in last.values() if record["domain"] == domain]
    worst: dict[str, Rate] = {}
    for rate in sorted(filter(None, rates), key=lambda rate: rate.value):
        worst.setdefault(rate.model, rate)
    return tuple(sorted(worst.values(), key=lambda rate: -rate.value))


def _shifted(summary: Sequence[Record]) -> tuple[Rate, ...]:
    """Return accuracy on the benchmark's corruptions if there is such a set, else on the first shifted set."""
    by_domain: dict[str, list[Rate]] = {}
    for record in sorted(summary, key=lambda record: record["part"] != "benchmark"):
        if record["part"] != "extras" and (record["part"] == "benchmark" or record["gap"]):
            rate = _rate(record, "accuracy", "ci", record["domain"])
            by_domain.setdefault(record["domain"], []).extend([rate] if rate else [])
    return tuple(sorted(next(iter(by_domain.values()), []), key=lambda rate: -rate.value))


def _rate(record: Record, name: str, ends: str, of: str) -> Rate | None:
    if record[name] == "":
        return None
    value, low, high = (float(record[column]) for column in (name, f"{ends}_low", f"{ends}_high"))
    if math.isnan(value):
        return None
    if not 0 <= value <= 1:
        raise ValueError(f"{name} is {value:g}")
    return Rate(value, low, high, record["model"], of)
