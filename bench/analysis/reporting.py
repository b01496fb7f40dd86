"""From the rows under an output folder to its tables and its page."""

from __future__ import annotations

import dataclasses
import html
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench.analysis.attack_tables import attack_table, attacked, curve, longest_runs, name_of, paired_table, units
from bench.analysis.labels import named, unique_labels, unique_names
from bench.analysis.seeds import attack_seeds_table, trainings_table
from bench.analysis.shift_tables import paired_shift_table, parts, severity_table, shift_table, summary_table
from bench.frames.bounds import read_frames, stored_frames
from bench.rows.adversarial import TRANSFER_COLUMNS
from bench.rows.evaluation import Evaluation
from bench.rows.kept_tables import read_table
from bench.rows.store import Pictures, Rows, Store
from bench.running.flags import result_flags
from bench.training.logs import read_logs
from framebench.domains.corruptions import NAMES
from framebench.errors import InputError
from framebench.files import atomic
from framebench.reports.attack import attack_section
from framebench.reports.page import Section, figures, number_of, report
from framebench.reports.shift import shift_section

#: How many attacked images of an evaluation are shown.
_SHOWN = 8


@dataclass(frozen=True)
class Results:
    """The tables under an output folder, empty where nothing was measured, and the report; a notebook shows it.

    Attributes:
        attack: ``attack.csv``.
        paired: ``paired.csv``, models compared under attack.
        attack_seeds: ``attack_seeds.csv``, attacks over their seeds.
        shift: ``shift.csv``.
        shift_summary: ``shift_summary.csv``.
        shift_paired: ``shift_paired.csv``, models compared under shift.
        trainings: ``trainings.csv``, attacks and shifts over the seeds of trainings.
        frames: ``frames.csv``.
        page: The report's file.
    """

    attack: pd.DataFrame
    paired: pd.DataFrame
    attack_seeds: pd.DataFrame
    shift: pd.DataFrame
    shift_summary: pd.DataFrame
    shift_paired: pd.DataFrame
    trainings: pd.DataFrame
    frames: pd.DataFrame
    page: Path

    def _repr_html_(self) -> str:
        text = html.escape(self.page.read_text(encoding="utf-8"))
        return f'<iframe srcdoc="{text}" style="width: 100%; height: 50rem; border: 0"></iframe>'


def write_report(out: Path, *, baseline: str | None = None, matched: list[str] | None = None,
                 logs: list[Path] | None = None) -> Results:
    """Write the tables, ``report/index.html`` and its figures from all that was measured into `out`.

    What is None is as it was at the last report.

    Args:
        out: The output folder.
        baseline: The model by whose errors mCE divides; without any, the model `baseline` if it is one of several, else
            none.
        matched: What was matched in clean accuracy, a sentence a model.
        logs: What trainings wrote, see `bench.training.logs`. Those of the last report are left out, and named, if
            they can't be read any more.

    Raises:
        InputError: if there is nothing, or something is damaged.
    """
    stored, measured = Store(out).all(), read_frames(out)
    if not stored and not measured:
        raise InputError(f"{out} holds no results; run bench attack, shift or frames with --out {out} first")
    settings = _settings(out, baseline=baseline, matched=matched,
                         training_logs=None if logs is None else [str(path.resolve()) for path in logs])
    names = unique_names([*((rows.evaluation.model, rows.evaluation.model_digest) for rows in stored),
                          *((entry.request["model"], entry.request["digest"]) for entry in measured)])
    stored = sorted(unique_labels(stored, names), key=lambda rows: _rank(rows.evaluation))
    attacks = longest_runs(rows for rows in stored if rows.evaluation.attack != "none")
    shifts = [rows for rows in stored if rows.evaluation.attack == "none"]
    tables: dict[str, pd.DataFrame] = {}
    sections = []
    if attacks:
        sections.append(_attack_section(out, attacks, tables))
    if shifts:
        sections.append(_shift_section(shifts, settings, tables))
    if measured:
        found = read_logs(map(Path, settings["training_logs"]), skip=logs is None)
        tables["frames"], section = stored_frames(measured, names, found)
        sections.append(section)
    for name, table in tables.items():
        _write(out / f"{name}.csv", table.to_csv(index=False))
    warnings = [f"{rows.evaluation.model}: {text}" for rows in stored for text in rows.facts["warnings"]]
    warnings = list(dict.fromkeys([*warnings, *(result_flags(tables["attack"]) if attacks else [])]))
    page = out / "report" / "index.html"
    text = report(warnings, sections)
    _write(page, text)
    _write_figures(page.parent / "figures", figures(text))
    return Results(**{field.name: tables.get(field.name, pd.DataFrame()) for field in dataclasses.fields(Results)
                      if field.name != "page"}, page=page)


def _settings(out: Path, **given: Any) -> dict[str, Any]:
    """Return the report's settings: those given, else those of the last report, else, or if damaged, defaults."""
    path = out / "report" / "settings.json"
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        kept = None
    kept = kept if isinstance(kept, dict) else {}
    baseline = kept.get("baseline")
    settings: dict[str, Any] = {"baseline": baseline if isinstance(baseline, str) else None,
                                **{name: _texts(kept.get(name)) for name in ("matched", "training_logs")}}
    settings |= {name: value for name, value in given.items() if value is not None}
    _write(path, json.dumps(settings, indent=1))
    return settings


def _texts(value: Any) -> list[str]:
    return value if isinstance(value, list) and all(isinstance(text, str) for text in value) else []


def _rank(evaluation: Evaluation) -> tuple[Any, ...]:
    """Return the place of an evaluation in tables: the baseline first, corruptions in the benchmark's order."""
    corruption = NAMES.index(evaluation.corruption) if evaluation.corruption in NAMES else -1
    return (evaluation.domain, evaluation.label, evaluation.model != "baseline", evaluation.model, evaluation.seed,
            corruption, evaluation.severity)


def _attack_section(out: Path, stored: Sequence[Rows], tables: dict[str, pd.DataFrame]) -> Section:
    tables["attack"], tables["paired"] = attack_table(stored), paired_table(stored)
    tables["attack_seeds"] = attack_seeds_table(stored)
    trainings = _add_trainings(tables["attack"], stored, tables)
    curves = {unit: drawn for unit in ("iterations", "queries")
              if (drawn := {(rows.evaluation.model, _name(rows, stored)): curve(rows, unit) for rows in stored
                            if unit in units(rows.evaluation)})}
    transfers = read_table(out / "transfer.csv", TRANSFER_COLUMNS)
    return attack_section(tables["attack"], tables["paired"], tables["attack_seeds"], trainings, transfers, curves, {
        f"Attacked images: {rows.evaluation.model}, {_name(rows, stored)}": columns
        for rows in stored if (columns := _pictures(rows))},
        {rows.evaluation.domain: rows.facts["title"] for rows in stored},
        [{"heading": f"{rows.evaluation.model} · {rows.evaluation.domain} · {_name(rows, stored)}", **_facts(rows)}
         for rows in stored])


def _shift_section(stored: Sequence[Rows], settings: dict[str, Any], tables: dict[str, pd.DataFrame]) -> Section:
    models = list(dict.fromkeys(rows.evaluation.model for rows in stored))
    baseline = named(models, settings["baseline"])
    if baseline is None and len(models) > 1:
        baseline = named(models, "baseline")
    found, clean_of = parts(stored), _clean_domains(stored)
    tables["shift"], tables["shift_paired"] = shift_table(stored), paired_shift_table(found)
    tables["shift_summary"] = summary_table(found, clean_of, baseline)
    trainings = _add_trainings(tables["shift_summary"], stored, tables)
    first: dict[tuple[str, str, int], Rows] = {}
    groups: dict[tuple[str, str], list[Rows]] = {}
    for rows in stored:
        evaluation = rows.evaluation
        first.setdefault((evaluation.domain, evaluation.corruption, evaluation.severity), rows)
        groups.setdefault((evaluation.model, evaluation.domain), []).append(rows)
    return shift_section(
        tables["shift"], tables["shift_summary"], tables["shift_paired"], trainings, severity_table(found), clean_of,
        {domain: rows.facts["title"] for (domain, _, _), rows in first.items()},
        {key: rows.facts["picture"] for key, rows in first.items() if "picture" in rows.facts}, settings["matched"],
        [{"heading": f"{model} · {domain}", **_shared_facts(group)} for (model, domain), group in groups.items()])


def _add_trainings(table: pd.DataFrame, stored: Sequence[Rows], tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Return what a table says over trainings, and add it to ``trainings.csv``, which is of attacks and shifts."""
    found = trainings_table(table, {rows.evaluation.model: rows.facts.get("card") for rows in stored})
    known = [tables["trainings"]] if "trainings" in tables else []
    tables["trainings"] = pd.concat([*known, found]).astype({"budget": "Int64"})  # shifts have none
    return found


def _clean_domains(stored: Sequence[Rows]) -> dict[str, str]:
    """Return domain -> the domain that it shifts: its own clean images, else CIFAR-10's test set, if classes agree."""
    by_digest = {rows.evaluation.domain_digest: rows.evaluation.domain for rows in stored
                 if not rows.evaluation.corruption}
    source = next((rows for rows in stored if rows.evaluation.domain == "cifar10"), None)
    clean = {}
    for rows in stored:
        domain = rows.evaluation.domain
        if rows.facts["clean"] in by_digest:
            clean[domain] = by_digest[rows.facts["clean"]]
        elif not rows.evaluation.corruption and source is not None and domain not in ("cifar10", "samples") \
                and rows.facts["classes"] == source.facts["classes"]:
            clean[domain] = "cifar10"
    return clean


def _shared_facts(group: Sequence[Rows]) -> dict[str, Any]:
    """Return what the cells of one model on one domain have in common, and every version and form they were made by."""
    facts = _facts(group[0])
    facts["provenance"] = [json.loads(text) for text in dict.fromkeys(
        json.dumps(made) for rows in group for made in rows.facts["provenance"])]
    facts["predictor"] = list(dict.fromkeys(rows.facts.get("predictor") for rows in group))
    facts["rows"] = [rows.path.name for rows in group]
    return facts


def _facts(rows: Rows) -> dict[str, Any]:
    facts = {name: value for name, value in rows.facts.items() if name != "picture"}
    return {"evaluation": dataclasses.asdict(rows.evaluation), "key": rows.evaluation.key, "rows": rows.path.name,
            **facts}


def _name(rows: Rows, among: Sequence[Rows]) -> str:
    """Return the attack's name, with the domain where there are several."""
    several = len({other.evaluation.domain for other in among}) > 1
    return f"{name_of(rows)}, {rows.evaluation.domain}" if several else name_of(rows)


def _pictures(rows: Rows) -> list[tuple[str, np.ndarray, np.ndarray, str]]:
    """Return the pictures to show, see `framebench.reports.plots.attacked_images`: those of attacked images come first.

    Of the classes each has its turn: examples can be in the order of their classes.
    """
    kept, classes, frame = Pictures(rows), rows.facts["classes"], rows.frame()
    frame = frame.assign(idle=~attacked(frame, rows.evaluation))[frame["example"].isin(kept.examples)]
    frame = frame.assign(turn=frame.groupby(["idle", "label"]).cumcount())
    columns = []
    for row in frame.sort_values(["idle", "turn", "example"]).head(_SHOWN).to_dict("records"):
        example = int(row["example"])
        pair = kept.get(example)
        if pair is None:
            continue
        iteration = int(row["success_iteration"])
        start = "broken by the clip" if row["clean_prediction"] == row["label"] else "wrong from the start"
        outcome = {-1: "not broken", 0: start}.get(iteration, f"broken at {iteration}")
        columns.append((f"{example}: {classes[row['label']]}", *pair,
                        f"{classes[row['prediction']]}\n{outcome}\n{number_of(row['queries'], 'query', 'queries')}"))
    return columns


def _write_figures(folder: Path, drawn: dict[str, str]) -> None:
    """Write figures as SVG files, for papers, and remove those of earlier reports."""
    for path in folder.glob("*.svg"):
        if path.stem not in drawn:
            path.unlink()
    for name, svg in drawn.items():
        _write(folder / f"{name}.svg", svg)


def _write(path: Path, text: str) -> None:
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
