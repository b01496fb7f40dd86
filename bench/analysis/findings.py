"""All that a report shows of an output folder: tables, what figures are drawn from, and what looks wrong."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from bench.analysis import answer
from bench.analysis.attack_tables import attack_table, parts_table
from bench.analysis.comparisons import clean_pairs, paired_shift_table, paired_table
from bench.analysis.flags import Flag, attack_flags, duplicate_flags, model_flags
from bench.analysis.frame_tables import FRAME_COLUMNS, frame_tables
from bench.analysis.labels import meant, unique_names
from bench.analysis.measured import Measured, measure
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
        settings: What the report is made with.
        tables: Name of a table, without ``.csv``, -> the table; those of which nothing was measured are not there.
        flags: What the reader must know before the numbers, each with the models that it concerns.
        attacks: The runs of attacks.
        shifts: The cells without an attack.
        parts: The same, gathered.
        clean_of: Domain -> the domain that it shifts.
        baseline: The model by whose errors mCE divides, or None.
        baseline_reason: Why it is that one, a sentence.
        attack_trainings: The entries of ``trainings.csv`` that are of attacks.
        shift_trainings: Those that are of shifts.
        transfers: The table of ``transfer.csv``; may be empty.
        frames: Label -> one row per layer, see `bench.analysis.frame_tables`.
        frame_provenance: Label -> where its frame bounds come from.
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
        """The flags as they are printed."""
        return list(map(str, self.flags))

    @cached_property
    def clean_pairs(self) -> pd.DataFrame:
        """Models compared on the clean images of attacks, see `bench.analysis.comparisons.clean_pairs`."""
        return clean_pairs(self.attacks)

    @cached_property
    def attack_questions(self) -> list[answer.Question]:
        """What the attacks answer, see `bench.analysis.answer.attacks`."""
        return answer.attacks(self)

    @cached_property
    def shift_questions(self) -> list[answer.Question]:
        """What the shifts answer, see `bench.analysis.answer.shifts`."""
        return answer.shifts(self)

    @property
    def models(self) -> list[str]:
        """All models, in the order of the page."""
        return list(dict.fromkeys([*(run.model for run in self.attacks), *(cell.model for cell in self.shifts),
                                   *self.frames]))

    @property
    def reference(self) -> str | None:
        """The model that differences are taken to: the one that --baseline names, else `baseline`, else the first."""
        asked = meant(self.models, self.settings.baseline) if self.settings.baseline else []
        plain = meant(self.models, "baseline")
        return next(iter([*asked, *plain, *self.models]), None)


def find(out: Path, settings: ReportSettings) -> Findings:
    """Make the tables of an output folder; log what looks wrong with them.

    Raises:
        InputError: if there is nothing, something is damaged, the baseline is no model of the folder, or a log can't be
            read.
    """
    stored, kept = Store(out).all(), read_frames(out)
    logs = read_logs(find_logs(settings.logs))
    if not stored and not kept:
        raise InputError(f"{out} holds no results; run bench attack, shift or frames with --out {out} first")
    kept = sorted(kept, key=lambda entry: (entry.request["model"] != "baseline", *map(str, entry.request.values())))
    names, found = _named(stored, kept)
    attacks = [run for run in found if run.facts.traits is not None]
    shifts = [cell for cell in found if cell.facts.traits is None]
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
        trainings["attack"] = trainings_table(tables["attack"], cards)
    if shifts:
        tables |= {"shift": shift_table(shifts), "shift_summary": summary_table(gathered, clean_of, baseline),
                   "shift_paired": paired_shift_table(gathered)}
        trainings["shift"] = trainings_table(tables["shift_summary"], cards)
    known = published_table(found, tables.get("attack", pd.DataFrame()), tables.get("shift_summary", pd.DataFrame()))
    if len(known):
        tables["published"] = known
    if found:
        both = [table for table in trainings.values() if len(table.columns)]
        tables["trainings"] = pd.concat(both).astype({"budget": "Int64"})  # shifts have none
    frames = frame_tables(kept, names)
    if frames:
        tables["frames"] = pd.concat(frames.values(), ignore_index=True)[FRAME_COLUMNS]
    flags = [*map(Flag, settings.left_out), *duplicate_flags(shifts, DUPLICATES.read(out))]
    if attacks:
        flags += attack_flags(attacks, tables["attack"])
    for flag in flags:  # those of models were said when they were found
        _log.warning("%s", flag)
    made = {label: {"request": entry.request, **entry.provenance} for label, entry in zip(frames, kept, strict=True)}
    return Findings(
        settings=settings, tables=tables, flags=[*model_flags(found), *flags], attacks=attacks, shifts=shifts,
        parts=gathered, clean_of=clean_of, baseline=baseline, baseline_reason=reason,
        attack_trainings=trainings["attack"], shift_trainings=trainings["shift"], transfers=TRANSFER.read(out),
        frames=frames, frame_provenance=made, logs=logs)


def answering(out: Path, asked: Iterable[Evaluation]) -> list[Measured]:
    """Return the runs of an output folder, named as in its tables, that have the rows of these evaluations."""
    _, found = _named(Store(out).all(), read_frames(out))
    answers: dict[str, Measured] = {}
    for evaluation in asked:
        fitting = [run for run in found if run.evaluation.answers(evaluation)]
        run = min(fitting, key=lambda run: run.length)  # its own, unless a longer one has taken it in
        answers[run.evaluation.key] = run
    return list(answers.values())


def _named(stored: Sequence[Rows], kept: Sequence[KeptFrames]) -> tuple[dict[tuple[str, str], str], list[Measured]]:
    """Return the unique names of all models of a folder, and what was measured of them in the order of the tables."""
    names = unique_names([*((rows.evaluation.model, rows.evaluation.model_digest) for rows in stored),
                          *((entry.request["model"], entry.request["digest"]) for entry in kept)])
    return names, measure(sorted(stored, key=rank), names)


def check_settings(settings: ReportSettings, models: Iterable[tuple[str, str]]) -> None:
    """Refuse what `find` would refuse, before anything is computed.

    Args:
        settings: What the report will be made with.
        models: Name and digest of every model that it will be about.

    Raises:
        InputError: if the baseline is none of the models, or a log can't be read.
    """
    read_logs(find_logs(settings.logs))
    names = sorted(unique_names(models).values())
    _baseline(settings.baseline, names, names)


def _baseline(asked: str | None, models: Sequence[str], shifted: Sequence[str]) -> tuple[str | None, str]:
    """Return the baseline, and why it is that one.

    Args:
        asked: What the command names.
        models: The models of the folder.
        shifted: Those with results under shift.

    Raises:
        InputError: if the name means none of the models, or several.
    """
    if asked is not None:
        found = meant(shifted, asked) or meant(models, asked)
        if not found:
            raise InputError(f"--baseline {asked} is none of the models; they are {', '.join(models)}")
        if len(found) > 1:
            raise InputError(f"--baseline {asked} can mean any of the models {', '.join(found)}; name one of these")
        if found[0] in shifted:
            return found[0], f"mCE divides by the errors of {found[0]}, as --baseline says."
        return None, f"{found[0]}, which --baseline names, has no results under shift; so mCE is the mean error."
    if len(shifted) > 1 and "baseline" in shifted:
        return "baseline", "mCE divides by the errors of baseline, since a model of that name is among those compared."
    return None, "No model is named by --baseline, so mCE is the mean error over the cells."


def rank(rows: Rows) -> tuple[Any, ...]:
    """Return the place of rows in tables: the baseline first, corruptions in the benchmark's order."""
    asked: Evaluation = rows.evaluation
    corruption = NAMES.index(asked.corruption) if asked.corruption in NAMES else -1
    return (asked.domain, rows.label, asked.model != "baseline", asked.model, asked.seed, corruption, asked.severity,
            asked.key)
