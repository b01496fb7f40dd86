"""Two runs compared: models of the one with models of the other on the same images, by the analysis of the report."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench.analysis.attack_tables import attack_table
from bench.analysis.comparisons import paired_shift_table, paired_table
from bench.analysis.findings import rank
from bench.analysis.measured import Measured, measure
from bench.analysis.shift_tables import parts, summary_table
from bench.browsing.folders import stamp
from bench.rows.evaluation import Evaluation
from bench.rows.parts import Rows
from bench.rows.store import Store
from framebench.errors import InputError


@dataclass(frozen=True)
class Change:
    """A model that both runs have, under attacks of one name, or on data of one name.

    Attributes:
        model: Its name.
        what: The data, and the attack if there is one.
        changed: What differs, a sentence each; empty where nothing does.
        values: Robust accuracy at the largest budget that both have, or accuracy, with its 95% interval, of each run.
    """

    model: str
    what: str
    changed: tuple[str, ...]
    values: tuple[tuple[float, float, float], tuple[float, float, float]]


@dataclass(frozen=True, eq=False)
class Comparison:
    """Two runs, a and b.

    Attributes:
        paired: Entries of ``paired.csv`` of both runs joined, as `bench report A B` writes it, in which one model is
            of a and the other of b.
        shift_paired: The same of ``shift_paired.csv``.
        changes: Models that both runs have.
        apart: What can't be compared, and why, a sentence each.
    """

    paired: pd.DataFrame
    shift_paired: pd.DataFrame
    changes: Sequence[Change]
    apart: Sequence[str]


def compare(first: Path, second: Path) -> Comparison:
    """Compare two output folders; neither is changed.

    Raises:
        InputError: if one of them has no rows, or damaged ones.
    """
    stored = []
    for out in (first, second):
        try:
            stamp(out)  # refuses what is no file
        except ValueError as error:
            raise InputError(f"{out} can't be read: {error}") from None
        stored.append(Store(out).all())
        if not stored[-1]:
            raise InputError(f"{out} has no rows (examples/), so it can't be compared with another run")
    attacks, cells = _split(measure(sorted(_joined(*stored), key=rank)))
    under = [{(run.model, run.domain, run.seeded) for run in attacks if _asked(run.evaluation) in side}
             for side in ({_asked(rows.evaluation) for rows in own} for own in stored)]
    on = [{(cell.model, cell.domain) for cell in cells if _asked(cell.evaluation) in side}
          for side in ({_asked(rows.evaluation) for rows in own} for own in stored)]
    return Comparison(_across(paired_table(attacks), ["domain", "attack"], *under),
                      _across(paired_shift_table(parts(cells)), ["domain"], *on),
                      [*_attack_changes(*stored), *_shift_changes(*stored)], _apart(*stored))


def _asked(evaluation: Evaluation) -> tuple[str, ...]:
    """Return what was asked of which model, whatever the budget."""
    return (evaluation.model_digest, evaluation.domain_digest, evaluation.family, str(evaluation.seed))


def _joined(first: Iterable[Rows], second: Iterable[Rows]) -> list[Rows]:
    """Return the rows of both, as `bench report` joins folders, without writing any."""
    by_key = {rows.evaluation.key: rows for rows in first}
    for rows in second:
        key = rows.evaluation.key
        by_key[key] = by_key[key].with_rows_of(rows) if key in by_key else rows
    return list(by_key.values())


def _split(found: Sequence[Measured]) -> tuple[list[Measured], list[Measured]]:
    return ([run for run in found if run.facts.traits is not None],
            [cell for cell in found if cell.facts.traits is None])


def _across(table: pd.DataFrame, shared: list[str], a: Collection[tuple[str, ...]],
            b: Collection[tuple[str, ...]]) -> pd.DataFrame:
    """Return the entries that have images, and in which one model is of each run.

    Args:
        table: ``paired.csv`` or ``shift_paired.csv``.
        shared: The columns of what both models were asked.
        a: Model and what it was asked, of the first run.
        b: The same of the second run.
    """
    sides = [list(table[[model, *shared]].itertuples(index=False, name=None)) for model in ("model_a", "model_b")]
    across = [(x in a and y in b) or (x in b and y in a) for x, y in zip(*sides, strict=True)]
    return table[np.array(across, dtype=bool) & (table["n"] > 0)].reset_index(drop=True)


def _attack_changes(first: Sequence[Rows], second: Sequence[Rows]) -> list[Change]:
    (runs_a, _), (runs_b, _) = (_split(measure(sorted(own, key=rank))) for own in (first, second))
    tables = [attack_table(runs) for runs in (runs_a, runs_b)]
    changes = []
    for a in runs_a:
        alike = [b for b in runs_b if _name(b) == _name(a)]
        for b in [b for b in alike if b.evaluation.family == a.evaluation.family] or alike:
            budgets = {*a.facts.budgets} & {*b.facts.budgets}
            own = [_entry(table, run, max(budgets or run.facts.budgets))
                   for table, run in zip(tables, (a, b), strict=True)]
            changed = _changed([a], [b])
            if not budgets:
                changed.append(f"largest budget {a.length:,} → {b.length:,}")
            changes.append(Change(a.evaluation.model, f"{a.evaluation.domain}, {a.evaluation.attack}", tuple(changed),
                                  (_rate(own[0], "robust_accuracy", "robust"),
                                   _rate(own[1], "robust_accuracy", "robust"))))
    return changes


def _name(run: Measured) -> tuple[str, ...]:
    return run.evaluation.model, run.evaluation.domain, run.evaluation.attack, str(run.traits.targeted)


def _entry(table: pd.DataFrame, run: Measured, budget: int) -> dict[Any, Any]:
    own = table[(table["model"] == run.model) & (table["domain"] == run.domain) & (table["attack"] == run.name)
                & (table["unit"] == "iterations") & (table["budget"] == budget)]
    return own.to_dict("records")[0]


def _shift_changes(first: Sequence[Rows], second: Sequence[Rows]) -> list[Change]:
    sides = []
    for own in (first, second):
        _, cells = _split(measure(sorted(own, key=rank)))
        entries = summary_table(parts(cells), {}, None).to_dict("records")
        groups: dict[tuple[str, str], list[Measured]] = {}
        for cell in cells:
            groups.setdefault((cell.model, cell.domain), []).append(cell)
        sides.append({(groups[entry["model"], entry["domain"]][0].evaluation.model,
                       groups[entry["model"], entry["domain"]][0].evaluation.domain, entry["part"]):
                      (entry, groups[entry["model"], entry["domain"]]) for entry in entries})
    changes = []
    for key, (entry_a, cells_a) in sides[0].items():
        if key in sides[1]:
            entry_b, cells_b = sides[1][key]
            model, domain, part = key
            changed = _changed(cells_a, cells_b)
            if entry_a["cells"] != entry_b["cells"]:
                changed.append(f"cells {entry_a['cells']} → {entry_b['cells']}")
            changes.append(Change(model, domain + ("" if part == "all" else f" ({part})"), tuple(changed),
                                  (_rate(entry_a, "accuracy", "ci"), _rate(entry_b, "accuracy", "ci"))))
    return changes


def _rate(entry: dict[Any, Any], name: str, ends: str) -> tuple[float, float, float]:
    return float(entry[name]), float(entry[f"{ends}_low"]), float(entry[f"{ends}_high"])


def _changed(a: Sequence[Measured], b: Sequence[Measured]) -> list[str]:
    """Return what differs between evaluations of a model of one name on data of one name, cell by cell."""
    first, second = a[0].evaluation, b[0].evaluation
    said = []
    if first.model_digest != second.model_digest:
        said.append(f"other weights or code (#{first.model_digest[:6]} → #{second.model_digest[:6]})")
    if first.settings != second.settings:
        names = sorted(name for name in {*first.settings, *second.settings}
                       if first.settings.get(name) != second.settings.get(name))
        said += [f"{name} {_shown(first.settings.get(name))} → {_shown(second.settings.get(name))}" for name in names]
    if first.seed != second.seed:
        said.append(f"seed {first.seed} → {second.seed}")
    by_digest = {cell.evaluation.domain_digest: cell for cell in b}
    same = [(cell, by_digest[cell.evaluation.domain_digest]) for cell in a
            if cell.evaluation.domain_digest in by_digest]
    if not same:
        said.append("other images or labels under this name")
    elif any(not np.array_equal(x.ids, y.ids) for x, y in same):
        common = min(len(np.intersect1d(x.ids, y.ids)) for x, y in same)
        said.append(f"images {len(same[0][0].ids):,} → {len(same[0][1].ids):,}, of which {common:,} are in both")
    if same and not said:
        differ = sum(_differing(x, y) for x, y in same)
        if differ:
            said.append(f"{differ:,} images with another outcome")
    return said


def _differing(x: Measured, y: Measured) -> int:
    """Return on how many common images two runs of the same evaluation do not agree."""
    columns = ["example", "prediction"] if x.facts.traits is None or x.length != y.length else \
        ["example", "prediction", "success_iteration"]
    both = x.frame()[columns].merge(y.frame()[columns], on="example", suffixes=("_x", "_y"))
    return int(np.any([both[f"{name}_x"] != both[f"{name}_y"] for name in columns[1:]], axis=0).sum())


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else "none" if value is None else str(value)


def _apart(first: Sequence[Rows], second: Sequence[Rows]) -> list[str]:
    """Return why models of two runs are not compared on some of the data."""
    said = []
    sides = [_by_data(own) for own in (first, second)]
    for name in dict.fromkeys([*sides[0], *sides[1]]):
        a, b = sides[0].get(name, {}), sides[1].get(name, {})
        if not a or not b:
            said.append(f"{name}: only {'the second' if not a else 'the first'} run has results on it.")
        elif not (same := a.keys() & b.keys()):
            said.append(f"{name}: the two runs have different images or labels under this name.")
        elif not any(len(np.intersect1d(x.ids, y.ids)) for key in same for x in a[key] for y in b[key]):
            said.append(f"{name}: the two runs have no image in common.")
    attacks = [{(rows.evaluation.domain_digest, rows.evaluation.family, rows.evaluation.seed) for rows in own
                if rows.facts.traits is not None} for own in (first, second)]
    data = [{digest for digest, _, _ in own} for own in attacks]
    if data[0] & data[1] and not attacks[0] & attacks[1]:
        said.append("The attacks of the two runs differ in kind, settings or seed, so models are not compared under "
                    "attack.")
    return said


def _by_data(own: Sequence[Rows]) -> dict[str, dict[str, list[Rows]]]:
    """Return name of the data -> digest of images and labels -> rows."""
    found: dict[str, dict[str, list[Rows]]] = {}
    for rows in own:
        found.setdefault(rows.evaluation.domain, {}).setdefault(rows.evaluation.domain_digest, []).append(rows)
    return found
