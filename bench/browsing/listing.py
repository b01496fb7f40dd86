"""What the index says of a run: read from its tables, or from its rows where there are no tables yet."""

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

#: Bytes of a table that are read for the index.
LIMIT = 64 << 20
_TABLES = ("attack", "shift", "shift_summary", "frames", "warnings")

T = TypeVar("T")
Record = Mapping[str, str]


@dataclass(frozen=True)
class Rate:
    """A fraction with its 95% interval.

    Attributes:
        value: In [0, 1]; so are the ends.
        low: Lower end.
        high: Upper end.
        model: Whose it is.
        of: The attack that it is under, or the data that it is on.
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
        changed: When its results changed last, in s since 1970; 0 where that is not known.
        data: Names of its data.
        models: Names of its models.
        attacks: Names of its attacks.
        sizes: The numbers of images of its evaluations, ascending.
        robust: Of every model, robust accuracy under the attack that leaves least of it, at that attack's largest
            budget, on the data that most models were attacked on; best first.
        shifted: Of every model, mean accuracy over the corruptions of a set, or accuracy on another shifted set; best
            first.
        warnings: What the reader must know before the numbers.
        report: Whether there is a report.
        running: Whether a run writes into it now.
        done: Rows that this run has added, and is to add; None where it has not said.
        problem: What is wrong with it, a line; empty where nothing is.
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
    """Reads runs, and those whose files have changed again.

    Args:
        root: The folder that is browsed.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._known: dict[str, tuple[Any, Run]] = {}

    def runs(self, names: Iterable[str]) -> list[Run]:
        """Return runs by name, the one that changed last first. One that can't be read has a `Run.problem`."""
        return sorted(map(self.run, names), key=lambda run: (-run.changed, run.name))

    def run(self, name: str) -> Run:
        """Return one run."""
        try:
            return self._run(name)
        except InputError as error:
            problem = str(error)
        except Exception as error:  # whatever is in one folder, the others are listed
            problem = f"can't be read ({type(error).__name__}: {error})"
        return Run(name, problem=" ".join(problem.split())[:300])

    def _run(self, name: str) -> Run:
        out = self._root / name
        files = {table: out / f"{table}.csv" for table in _TABLES}
        seen = {table: found for table, path in files.items() if (found := _seen(path)) is not None}
        report, running = _seen(out / "report" / "index.html"), is_running(out)
        from_rows = running or not seen.keys() & {"attack", "shift", "frames"}
        state = (sorted(seen.items()), report, running, stamp(out) if from_rows else None)
        known = self._known.get(name)
        if known is None or known[0] != state:
            changed = max([0, *(found[0] for found in seen.values()), *([report[0]] if report else []),
                           *([state[3][1]] if state[3] else [])]) / 1e9
            described = settled(out, lambda: _unfinished(name, out)) if from_rows else \
                _described(name, {table: _records(out, table) for table in seen})
            known = state, replace(described, changed=changed, report=report is not None, running=running)
            self._known[name] = known
        return replace(known[1], done=progress(out)) if running else known[1]


def _seen(path: Path) -> tuple[int, int] | None:
    """Return when a file was changed, in ns, and its size; None where there is none."""
    try:
        about = path.lstat()
    except OSError:
        return None
    return about.st_mtime_ns, about.st_size


def _records(out: Path, table: str) -> list[dict[str, str]]:
    """Read a table.

    Raises:
        InputError: if it is none, or is not as it was written.
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
        said = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"{table}.csv can't be read ({said}); bench report writes it anew") from None


def _unfinished(name: str, out: Path) -> Run:
    """Describe a run by its rows so far. It has no rates: the images that finish first are those broken easily."""
    found = [(rows.evaluation, rows.label, len(rows.ids)) for rows in Store(out).all()]
    return Run(name, data=_distinct(asked.domain for asked, _, _ in found),
               models=_distinct([*(asked.model for asked, _, _ in found),
                                 *(str(frames.request["model"]) for frames in read_frames(out))]),
               attacks=_distinct(label for _, label, _ in found if label != "none"),
               sizes=tuple(sorted({n for _, _, n in found})))


def settled(out: Path, read: Callable[[], T], tries: int = 3) -> T:
    """Return what `read` returns; again where the run in a folder has joined files meanwhile.

    Files are written whole and never changed, so nothing half-written is read; but a file that was there may be gone.
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
        what = f"no column {error}" if isinstance(error, KeyError) else str(error)
        raise InputError(f"its tables are not what they should be ({what}); bench report writes them anew") from None


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
    rates = [_rate(record, "robust_accuracy", "robust", attack_name)
             for (own, _, attack_name), record in last.items() if own == domain]
    worst: dict[str, Rate] = {}
    for rate in sorted(filter(None, rates), key=lambda rate: rate.value):
        worst.setdefault(rate.model, rate)
    return tuple(sorted(worst.values(), key=lambda rate: -rate.value))


def _shifted(summary: Sequence[Record]) -> tuple[Rate, ...]:
    """Return accuracy on the benchmark's corruptions where a set of them is there, else on the first shifted set."""
    of: dict[str, list[Rate]] = {}
    for record in sorted(summary, key=lambda record: record["part"] != "benchmark"):
        if record["part"] != "extras" and (record["part"] == "benchmark" or record["gap"]):
            rate = _rate(record, "accuracy", "ci", record["domain"])
            of.setdefault(record["domain"], []).extend([rate] if rate else [])
    return tuple(sorted(next(iter(of.values()), []), key=lambda rate: -rate.value))


def _rate(record: Record, name: str, ends: str, of: str) -> Rate | None:
    if record[name] == "":
        return None
    value, low, high = (float(record[column]) for column in (name, f"{ends}_low", f"{ends}_high"))
    if math.isnan(value):
        return None
    if not 0 <= value <= 1:
        raise ValueError(f"{name} is {value:g}")
    return Rate(value, low, high, record["model"], of)
