"""The content of a report: the tables of an output folder, the data of its figures, and its flags."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from bench.analysis import answer
from bench.analysis.attack_tables import attack_table, parts_table, runs_by_name
from bench.analysis.comparisons import clean_pairs, paired_shift_table, paired_table
from bench.analysis.flags import Flag, attack_flags, duplicate_flags, model_flags
from bench.analysis.frame_tables import FRAME_COLUMNS, frame_tables
from bench.analysis.labels import meant, unique_names
from bench.analysis.measured import Measured, measure, split
from bench.analysis.published import published_table
from bench.analysis.seeds import attack_seeds_table, trainings_table
from bench.analysis.shift_tables import Part, clean_domains, parts, shift_table, summary_table
from bench.options.report import ReportSettings
from bench.rows.evaluation import Evaluation
from bench.rows.frames import KeptFrames, read_frames
from bench.rows.kept import DUPLICATES, TRANSFER
from bench.rows.parts import Rows
from bench.rows.store import Store
from bench.training.logs import TrainingLogs, find_logs, read_logs
from framebench.domains.corruptions import NAMES
from framebench.errors import InputError

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Findings:
    """What was measured into an output folder.

    Attributes:
        settings: The settings of the report.
        tables: Name of a table, without ``.csv`` -> the table. A table without measurements is missing.
        flags: What the reader must know before the numbers.
        attacks: The runs of attacks.
        shifts: The cells without an attack.
        parts: The cells, grouped.
        clean_of: Domain -> the clean domain that it shifts.
        baseline: The model whose errors are the divisor of mCE, or None.
        baseline_reason: The reason for this choice, a sentence.
        attack_trainings: The entries of ``trainings.csv`` for attacks.
        shift_trainings: The entries for shifts.
        transfers: The table of ``transfer.csv``; may be empty.
        frames: Label -> one row per layer, see `bench.analysis.frame_tables`.
        frame_provenance: Label -> provenance of its frame bounds.
        logs: The logs of trainings.
    """

    settings: ReportSettings
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    flags: Sequence[Flag] = ()
    attacks: Sequence[Measured] = ()
    shifts: Sequence[Measured] = ()
    parts: Sequence[Part] = ()
    clean_of: Mapping[str, str] = field(default_factory=dict)
    baseline: str | None = None
    baseline_reason: str = ""
    attack_trainings: pd.DataFrame = field(default_factory=pd.DataFrame)
    shift_trainings: pd.DataFrame = field(default_factory=pd.DataFrame)
    transfers: pd.DataFrame = field(default_factory=pd.DataFrame)
    frames: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    frame_provenance: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    logs: TrainingLogs = field(default_factory=TrainingLogs)

    @property
    def warnings(self) -> list[str]:
        """The flags as texts."""
        return list(map(str, self.flags))

    @cached_property
    def clean_pairs(self) -> pd.DataFrame:
        """Models compared on the clean images of attacks, see `bench.analysis.comparisons.clean_pairs`."""
        return clean_pairs(self.attacks)

    @cached_property
    def attack_questions(self) -> list[answer.Question]:
        """The questions about attacks, see `bench.analysis.answer.attacks`."""
        return answer.attacks(self)

    @cached_property
    def shift_questions(self) -> list[answer.Question]:
        """The questions about shifts, see `bench.analysis.answer.shifts`."""
        return answer.shifts(self)

    @property
    def models(self) -> list[str]:
        """All models, in the order of the report."""
        return list(dict.fromkeys([*(run.model for run in self.attacks), *(cell.model for cell in self.shifts),
                                   *self.frames]))

    @property
    def reference(self) -> str | None:
        """The model that others are compared with: the one that --baseline names, else `baseline`, else the first."""
        named = meant(self.models, self.settings.baseline) if self.settings.baseline else []
        usual = meant(self.models, "baseline")
        return next(iter([*named, *usual, *self.models]), None)


def find(out: Path, settings: ReportSettings) -> Findings:
    """Make the tables of an output folder, and log the flags of results.

    Raises:
        InputError: if the folder has no results or damaged ones, the baseline is not one of its models, or a log can't
            be read.
    """
    stored, kept = Store(out).all(), read_frames(out)
    logs = read_logs(find_logs(settings.logs))
    if not stored and not kept:
        raise InputError(f"{out} holds no results; run bench attack, shift or frames with --out {out} first")
    kept = sorted(kept, key=lambda entry: (entry.request["model"] != "baseline", *map(str, entry.request.values())))
    names, found = _named(stored, kept)
    attacks, shifts = split(found)
    gathered, clean_of = parts(shifts), clean_domains(shifts)
    baseline, reason = _baseline(settings.baseline, sorted(names.values()),
                                 list(dict.fromkeys(cell.model for cell in shifts)))
    tables: dict[str, pd.DataFrame] = {}
    cards = {rows.model: rows.facts.card for rows in found}
    trainings = {"attack": pd.DataFrame(), "shift": pd.DataFrame()}
    if attacks:
        tables |= {"attack": attack_table(attacks), "paired": paired_table(attacks),
                   "attack_seeds": attack_seeds_table(attacks)}
        if any(run.traits.parts for run in attacks):
            tables["autoattack"] = parts_table(attacks)
        trainings["attack"] = trainings_table(tables["attack"], cards, {
            key: run.ids for key, run in runs_by_name(attacks).items()})
    if shifts:
        tables |= {"shift": shift_table(shifts), "shift_summary": summary_table(gathered, clean_of, baseline),
                   "shift_paired": paired_shift_table(gathered)}
        trainings["shift"] = trainings_table(tables["shift_summary"], cards, {
            (part.model, part.domain, part.name): part.examples for part in gathered})
    published = published_table(found, tables.get("attack", pd.DataFrame()),
                                tables.get("shift_summary", pd.DataFrame()))
    if len(published):
        tables["published"] = published
    if found:
        both = [table for table in trainings.values() if len(table.columns)]
        tables["trainings"] = pd.concat(both).astype({"budget": "Int64"})  # shifts have no budget
    frames = frame_tables(kept, names)
    if frames:
        tables["frames"] = pd.concat(frames.values(), ignore_index=True)[FRAME_COLUMNS]
    flags = [*map(Flag, settings.left_out), *duplicate_flags(shifts, DUPLICATES.read(out))]
    if attacks:
        flags += attack_flags(attacks, tables["attack"])
    for flag in flags:  # those of models were logged when they were found
        _log.warning("%s", flag)
    frame_provenance = {label: {"request": entry.request, **entry.provenance}
                        for label, entry in zip(frames, kept, strict=True)}
    return Findings(
        settings=settings, tables=tables, flags=[*model_flags(found), *flags], attacks=attacks, shifts=shifts,
        parts=gathered, clean_of=clean_of, baseline=baseline, baseline_reason=reason,
        attack_trainings=trainings["attack"], shift_trainings=trainings["shift"], transfers=TRANSFER.read(out),
        frames=frames, frame_provenance=frame_provenance, logs=logs)


def answering(out: Path, evaluations: Iterable[Evaluation]) -> list[Measured]:
    """Return the runs of an output folder, named as in its tables, that answer these evaluations."""
    _, found = _named(Store(out).all(), read_frames(out))
    answers: dict[str, Measured] = {}
    for evaluation in evaluations:
        runs = [run for run in found if run.evaluation.answers(evaluation)]
        run = min(runs, key=lambda run: run.length)  # its own, unless `measure` has merged it into a longer one
        answers[run.evaluation.key] = run
    return list(answers.values())


def _named(stored: Sequence[Rows], kept: Sequence[KeptFrames]) -> tuple[dict[tuple[str, str], str], list[Measured]]:
    """Return the unique names of all models of a folder, and its measurements in the order of the tables."""
    names = unique_names([*((rows.evaluation.model, rows.evaluation.model_digest) for rows in stored),
                          *((entry.request["model"], entry.request["digest"]) for entry in kept)])
    return names, measure(sorted(stored, key=rank), names)


def check_settings(settings: ReportSettings, models: Iterable[tuple[str, str]]) -> None:
    """Check the settings of a report before anything is computed.

    Args:
        settings: The settings of the report.
        models: Name and digest of every model that it will have.

    Raises:
        InputError: if the baseline is not one of the models, or a log can't be read.
    """
    read_logs(find_logs(settings.logs))
    names = sorted(unique_names(models).values())
    _baseline(settings.baseline, names, names)


def _baseline(given: str | None, models: Sequence[str], shifted: Sequence[str]) -> tuple[str | None, str]:
    """Return the baseline, and the reason for this choice.

    Args:
        given: The value of --baseline.
        models: The models of the folder.
        shifted: The models with results under shift.

    Raises:
        InputError: if the name means none of the models, or several.
    """
    if given is not None:
        matches = meant(shifted, given) or meant(models, given)
        if not matches:
            raise InputError(f"--baseline {given} is none of the models; they are {', '.join(models)}")
        if len(matches) > 1:
            raise InputError(f"--baseline {given} can mean any of the models {', '.join(matches)}; name one of these")
        if matches[0] in shifted:
            return matches[0], f"mCE divides by the errors of {matches[0]}, as --baseline says."
        return None, f"{matches[0]}, which --baseline names, has no results under shift; so mCE is the mean error."
    if len(shifted) > 1 and "baseline" in shifted:
        return "baseline", "mCE divides by the errors of baseline, since a model of that name is among those compared."
    return None, "No model is named by --baseline, so mCE is the mean error over the cells."


def rank(rows: Rows) -> tuple[Any, ...]:
    """Return the sort key of rows in tables: the baseline first, corruptions in the benchmark's order."""
    of = rows.evaluation
    corruption = NAMES.index(of.corruption) if of.corruption in NAMES else -1
    return of.domain, rows.label, of.model != "baseline", of.model, of.seed, corruption, of.severity, of.key
