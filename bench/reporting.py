"""From the rows under an output folder to its tables and its page."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from bench.store import Pictures, Rows, Store
from bench.tables import attack_table, curve, paired_table
from framebench.errors import InputError
from framebench.files import atomic
from reports.attack import attack_report


def write_attack(out: Path) -> pd.DataFrame:
    """Write ``attack.csv``, ``paired.csv`` and ``report/index.html`` from all rows under `out`; return the first.

    Raises:
        InputError: if there are no rows of an attack.
    """
    stored = [rows for rows in Store(out).all() if rows.evaluation.attack != "none"]
    if not stored:
        raise InputError(f"{out} holds no rows of an attack; run bench attack --out {out} first")
    stored.sort(key=lambda rows: (rows.evaluation.domain, rows.evaluation.label, rows.evaluation.model != "baseline",
                                  rows.evaluation.model, rows.evaluation.seed))
    results, paired = attack_table(stored), paired_table(stored)
    curves = {unit: {(rows.evaluation.model, _name(rows, stored)): curve(rows, unit) for rows in stored}
              for unit in ("iterations", "queries")}
    page = attack_report(results, paired, curves, {
        f"Attacked images: {rows.evaluation.model}, {_name(rows, stored)}": columns
        for rows in stored if (columns := _pictures(rows))},
        {rows.evaluation.domain: rows.facts["title"] for rows in stored},
        [f"{rows.evaluation.model}: {text}" for rows in stored for text in rows.facts["warnings"]],
        [{"attack": _name(rows, stored), "evaluation": dataclasses.asdict(rows.evaluation), "key": rows.evaluation.key,
          "rows": rows.path.name, **rows.facts} for rows in stored])
    _write(out / "attack.csv", results.to_csv(index=False))
    _write(out / "paired.csv", paired.to_csv(index=False))
    _write(out / "report" / "index.html", page)
    return results


def _name(rows: Rows, among: Sequence[Rows]) -> str:
    """Return the attack's label, with what else tells it from the others' under the same label."""
    evaluation = rows.evaluation
    extras = [evaluation.label]
    if len({other.evaluation.domain for other in among}) > 1:
        extras.append(evaluation.domain)
    for name, values in (("epsilon", [o.evaluation.options.get("epsilon") for o in among]),
                         ("iterations", [o.evaluation.options.get("max_iterations") for o in among]),
                         ("seed", [o.evaluation.seed for o in among])):
        if len(set(values)) > 1:
            value = evaluation.seed if name == "seed" else evaluation.options.get(
                "max_iterations" if name == "iterations" else name)
            extras.append(f"{name} {value}")
    return ", ".join(extras)


def _pictures(rows: Rows) -> list[tuple[str, np.ndarray, np.ndarray, str]]:
    by_example = {row["example"]: row for row in rows.frame().to_dict("records")}
    kept, classes = Pictures(rows), rows.facts["classes"]
    columns = []
    for example in kept.examples:
        pair = kept.get(example)
        if pair is None or example not in by_example:
            continue
        row = by_example[example]
        iteration = int(row["success_iteration"])
        outcome = {-1: "not broken", 0: "wrong from the start"}.get(iteration, f"broken at {iteration}")
        columns.append((f"{example}: {classes[row['label']]}", *pair,
                        f"{classes[row['prediction']]}\n{outcome}\n{row['queries']} queries"))
    return columns


def _write(path: Path, text: str) -> None:
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
