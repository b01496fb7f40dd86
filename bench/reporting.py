"""From the rows under an output folder to its tables and its page."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench.frames import kept_frames, stored_frames
from bench.protocol import Evaluation
from bench.shift_tables import paired_shift_table, parts, severity_table, shift_table, summary_table
from bench.store import Pictures, Rows, Store
from bench.tables import attack_table, curve, paired_table
from domains.corruptions import NAMES
from framebench.errors import InputError
from framebench.files import atomic
from reports.attack import attack_section
from reports.page import Section, report
from reports.shift import shift_section


@dataclass(frozen=True)
class Results:
    """The tables under an output folder, empty where nothing was measured."""

    attack: pd.DataFrame
    shift_summary: pd.DataFrame
    frames: pd.DataFrame


def write_report(out: Path, *, baseline: str | None = None, logs: dict[str, pd.DataFrame] | None = None) -> Results:
    """Write the tables and ``report/index.html`` from all that was measured into `out`.

    Args:
        out: The output folder.
        baseline: The model by whose errors mCE divides; None for the model `baseline` if it is one of several, else
            for no division.
        logs: Name of a training -> its frame bounds an epoch, see `bench.frames.read_log`.

    Raises:
        InputError: if there is nothing.
    """
    stored = Store(out).all()
    if not stored and not kept_frames(out):
        raise InputError(f"{out} holds no results; run bench attack, shift or frames with --out {out} first")
    stored.sort(key=lambda rows: _rank(rows.evaluation))
    attacks = [rows for rows in stored if rows.evaluation.attack != "none"]
    shifts = [rows for rows in stored if rows.evaluation.attack == "none"]
    sections, attack, summary, frames = [], pd.DataFrame(), pd.DataFrame(), pd.DataFrame()
    if attacks:
        attack, section = _attack_section(out, attacks)
        sections.append(section)
    if shifts:
        summary, section = _shift_section(out, shifts, baseline)
        sections.append(section)
    if kept_frames(out):
        frames, section = stored_frames(out, logs or {})
        sections.append(section)
        _write(out / "frames.csv", frames.to_csv(index=False))
    warnings = list(dict.fromkeys(f"{rows.evaluation.model}: {text}" for rows in stored
                                  for text in rows.facts["warnings"]))
    _write(out / "report" / "index.html", report(warnings, sections))
    return Results(attack, summary, frames)


def _rank(evaluation: Evaluation) -> tuple[Any, ...]:
    """Return the place of an evaluation in tables: the baseline first, corruptions in the benchmark's order."""
    corruption = NAMES.index(evaluation.corruption) if evaluation.corruption in NAMES else -1
    return (evaluation.domain, evaluation.label, evaluation.model != "baseline", evaluation.model, evaluation.seed,
            corruption, evaluation.severity)


def _attack_section(out: Path, stored: Sequence[Rows]) -> tuple[pd.DataFrame, Section]:
    results, paired = attack_table(stored), paired_table(stored)
    curves = {unit: {(rows.evaluation.model, _name(rows, stored)): curve(rows, unit) for rows in stored}
              for unit in ("iterations", "queries")}
    section = attack_section(results, paired, curves, {
        f"Attacked images: {rows.evaluation.model}, {_name(rows, stored)}": columns
        for rows in stored if (columns := _pictures(rows))},
        {rows.evaluation.domain: rows.facts["title"] for rows in stored},
        [{"heading": f"{rows.evaluation.model} · {rows.evaluation.domain} · {_name(rows, stored)}", **_facts(rows)}
         for rows in stored])
    _write(out / "attack.csv", results.to_csv(index=False))
    _write(out / "paired.csv", paired.to_csv(index=False))
    return results, section


def _shift_section(out: Path, stored: Sequence[Rows], baseline: str | None) -> tuple[pd.DataFrame, Section]:
    models = list(dict.fromkeys(rows.evaluation.model for rows in stored))
    if baseline is None and len(models) > 1 and "baseline" in models:
        baseline = "baseline"
    found = parts(stored)
    clean_of = {rows.evaluation.domain: rows.facts["clean"] for rows in stored}
    cells, paired = shift_table(stored), paired_shift_table(found)
    summary = summary_table(found, clean_of, baseline)
    first: dict[tuple[str, str, int], Rows] = {}
    for rows in stored:
        first.setdefault((rows.evaluation.domain, rows.evaluation.corruption, rows.evaluation.severity), rows)
    section = shift_section(
        cells, summary, paired, severity_table(found), clean_of,
        {domain: rows.facts["title"] for (domain, _, _), rows in first.items()},
        {key: rows.facts["picture"] for key, rows in first.items() if "picture" in rows.facts},
        list(dict.fromkeys(rows.facts["matched"] for rows in stored if "matched" in rows.facts)),
        [{"heading": f"{rows.evaluation.model} · {rows.evaluation.domain}", **_facts(rows)}
         for rows in {(r.evaluation.model, r.evaluation.domain): r for r in stored}.values()])
    for name, table in (("shift", cells), ("shift_summary", summary), ("shift_paired", paired)):
        _write(out / f"{name}.csv", table.to_csv(index=False))
    return summary, section


def _facts(rows: Rows) -> dict[str, Any]:
    facts = {name: value for name, value in rows.facts.items() if name != "picture"}
    return {"evaluation": dataclasses.asdict(rows.evaluation), "key": rows.evaluation.key, "rows": rows.path.name,
            **facts}


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
