"""Compares two runs: models of one with models of the other on the same images, as the report compares models."""

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
from bench.analysis.measured import Measured, measure, split
from bench.analysis.shift_tables import parts, summary_table
from bench.browsing.folders import stamp
from bench.rows.evaluation import Evaluation
from bench.rows.parts import Rows
from bench.rows.store import Store
from framebench.errors import InputError


@dataclass(frozen=True)
class Change:
    """A model that both runs have, under attacks of the same name, or on data of the same name.

    Attributes:
        model: Its name.
        what: The data, and the attack if there is one.
        changed: The differences, one sentence each; may be empty.
        values: Of each run, robust accuracy at the largest budget that both have, or accuracy: value, low, high.
    """

    model: str
    what: str
    changed: tuple[str, ...]
    values: tuple[tuple[float, float, float], tuple[float, float, float]]


@dataclass(frozen=True, eq=False)
class Comparison:
    """Two runs, a and b.

    Attributes:
        paired: Entries of ``paired.csv`` of the joined runs, as `bench report A B` writes it, with one model from each
            run.
        shift_paired: The same for ``shift_paired.csv``.
        changes: Models that both runs have.
        apart: What can't be compared and why, one sentence each.
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
            stamp(out)  # refuses links, pipes and the like
        except ValueError as error:
            raise InputError(f"{out} can't be read: {error}") from None
        stored.append(Store(out).all())
        if not stored[-1]:
            raise InputError(f"{out} has no rows (examples/), so it can't be compared with another run")
    attacks, cells = _measured(_joined(*stored))
    sides = [{_identity(rows.evaluation) for rows in of_side} for of_side in stored]
    attacked = [{(run.model, run.domain, run.seeded) for run in attacks if _identity(run.evaluation) in side}
                for side in sides]
    shifted = [{(cell.model, cell.domain) for cell in cells if _identity(cell.evaluation) in side} for side in sides]
    return Comparison(_across(paired_table(attacks), ["domain", "attack"], *attacked),
                      _across(paired_shift_table(parts(cells)), ["domain"], *shifted),
                      [*_attack_changes(*stored), *_shift_changes(*stored)], _apart(*stored))


def _identity(evaluation: Evaluation) -> tuple[str, ...]:
    """Return what identifies an evaluation, except its budget."""
    return (evaluation.model_digest, evaluation.domain_digest, evaluation.family, str(evaluation.seed))


def _joined(first: Iterable[Rows], second: Iterable[Rows]) -> list[Rows]:
    """Return the rows of both runs, joined as by `bench report`, but nothing is written."""
    by_key = {rows.evaluation.key: rows for rows in first}
    for rows in second:
        key = rows.evaluation.key
        by_key[key] = by_key[key].with_rows_of(rows) if key in by_key else rows
    return list(by_key.values())


def _measured(stored: Iterable[Rows]) -> tuple[list[Measured], list[Measured]]:
    """Return the attacks and the cells of a run, in the order of the tables."""
    return split(measure(sorted(stored, key=rank)))


def _across(table: pd.DataFrame, shared: list[str], a: Collection[tuple[str, ...]],
            b: Collection[tuple[str, ...]]) -> pd.DataFrame:
    """Return the entries that have images and compare a model of one run with a model of the other.

    Args:
        table: ``paired.csv`` or ``shift_paired.csv``.
        shared: The columns that tell what both models were evaluated on.
        a: Model and these columns, of the first run's evaluations.
        b: The same of the second run.
    """
    sides = [list(table[[model, *shared]].itertuples(index=False, name=None)) for model in ("model_a", "model_b")]
    across = [(x in a and y in b) or (x in b and y in a) for x, y in zip(*sides, strict=True)]
    return table[np.array(across, dtype=bool) & (table["n"] > 0)].reset_index(drop=True)


def _attack_changes(first: Sequence[Rows], second: Sequence[Rows]) -> list[Change]:
    (runs_a, _), (runs_b, _) = map(_measured, (first, second))
    tables = [attack_table(runs) for runs in (runs_a, runs_b)]
    changes = []
    for a in runs_a:
        alike = [b for b in runs_b if _name(b) == _name(a)]
        for b in [b for b in alike if b.evaluation.family == a.evaluation.family] or alike:
            budgets = {*a.facts.budgets} & {*b.facts.budgets}
            entries = [_entry(table, run, max(budgets or run.facts.budgets))
                       for table, run in zip(tables, (a, b), strict=True)]
            changed = _changed([a], [b])
            if not budgets:
                changed.append(f"largest budget {a.length:,} → {b.length:,}")
            changes.append(Change(a.evaluation.model, f"{a.evaluation.domain}, {a.evaluation.attack}", tuple(changed),
                                  (_rate(entries[0], "robust_accuracy", "robust"),
                                   _rate(entries[1], "robust_accuracy", "robust"))))
    return changes


def _name(run: Measured) -> tuple[str, ...]:
    return run.evaluation.model, run.evaluation.domain, run.evaluation.attack, str(run.traits.targeted)


def _entry(table: pd.DataFrame, run: Measured, budget: int) -> dict[Any, Any]:
    entry = table[(table["model"] == run.model) & (table["domain"] == run.domain) & (table["attack"] == run.name)
                  & (table["unit"] == "iterations") & (table["budget"] == budget)]
    return entry.to_dict("records")[0]


def _shift_changes(first: Sequence[Rows], second: Sequence[Rows]) -> list[Change]:
    sides = []
    for stored in (first, second):
        _, cells = _measured(stored)
        groups: dict[tuple[str, str], list[Measured]] = {}
        for cell in cells:
            groups.setdefault((cell.model, cell.domain), []).append(cell)
        side = {}
        for entry in summary_table(parts(cells), {}, None).to_dict("records"):
            group = groups[entry["model"], entry["domain"]]
            side[group[0].evaluation.model, group[0].evaluation.domain, entry["part"]] = entry, group
        sides.append(side)
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
    """Return the differences between evaluations whose model and data have the same names."""
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
    """Return the number of common images on which two runs of the same evaluation differ."""
    columns = ["example", "prediction"] if x.facts.traits is None or x.length != y.length else \
        ["example", "prediction", "success_iteration"]
    both = x.frame()[columns].merge(y.frame()[columns], on="example", suffixes=("_x", "_y"))
    return int(np.any([both[f"{name}_x"] != both[f"{name}_y"] for name in columns[1:]], axis=0).sum())


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else "none" if value is None else str(value)


def _apart(first: Sequence[Rows], second: Sequence[Rows]) -> list[str]:
    """Return why models of two runs are not compared on some of the data."""
    said = []
    sides = [_by_data(stored) for stored in (first, second)]
    for name in dict.fromkeys([*sides[0], *sides[1]]):
        a, b = sides[0].get(name, {}), sides[1].get(name, {})
        if not a or not b:
            said.append(f"{name}: only {'the second' if not a else 'the first'} run has results on it.")
        elif not (same := a.keys() & b.keys()):
            said.append(f"{name}: the two runs have different images or labels under this name.")
        elif not any(len(np.intersect1d(x.ids, y.ids)) for key in same for x in a[key] for y in b[key]):
            said.append(f"{name}: the two runs have no image in common.")
    attacks = [{(rows.evaluation.domain_digest, rows.evaluation.family, rows.evaluation.seed) for rows in stored
                if rows.facts.traits is not None} for stored in (first, second)]
    data = [{digest for digest, _, _ in side} for side in attacks]
    if data[0] & data[1] and not attacks[0] & attacks[1]:
        said.append("The attacks of the two runs differ in kind, settings or seed, so models are not compared under "
                    "attack.")
    return said


def _by_data(stored: Sequence[Rows]) -> dict[str, dict[str, list[Rows]]]:
    """Return name of the data -> digest of images and labels -> rows."""
    by_data: dict[str, dict[str, list[Rows]]] = {}
    for rows in stored:
        by_data.setdefault(rows.evaluation.domain, {}).setdefault(rows.evaluation.domain_digest, []).append(rows)
    return by_data
