"""Writes the tables and the report of an output folder from its rows."""

from __future__ import annotations

import html
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from bench.analysis.attack_tables import ATTACK_COLUMNS, PART_COLUMNS
from bench.analysis.comparisons import PAIRED_COLUMNS, SHIFT_PAIRED_COLUMNS
from bench.analysis.findings import find
from bench.analysis.frame_tables import FRAME_COLUMNS
from bench.analysis.published import PUBLISHED_COLUMNS
from bench.analysis.seeds import ATTACK_SEED_COLUMNS, TRAINING_COLUMNS
from bench.analysis.shift_tables import SHIFT_COLUMNS, SUMMARY_COLUMNS
from bench.options.report import ReportOptions, ReportSettings
from bench.rows.frames import kept_frames
from bench.rows.joining import take
from bench.rows.kept import DUPLICATES, TRANSFER
from bench.rows.store import Store
from framebench.derived import write_derived
from framebench.errors import InputError

#: Name of a table -> its columns, which an empty table has too.
COLUMNS = {"attack": ATTACK_COLUMNS, "paired": PAIRED_COLUMNS, "attack_seeds": ATTACK_SEED_COLUMNS,
           "autoattack": PART_COLUMNS, "shift": SHIFT_COLUMNS, "shift_summary": SUMMARY_COLUMNS,
           "shift_paired": SHIFT_PAIRED_COLUMNS, "trainings": TRAINING_COLUMNS, "frames": FRAME_COLUMNS,
           "published": PUBLISHED_COLUMNS, "transfer": TRANSFER.columns, "duplicates": DUPLICATES.columns}


@dataclass(frozen=True, repr=False)
class Results:
    """The tables of an output folder, which may be empty, and the report.

    A notebook shows the report. Elsewhere, the answer, the lengths of the tables and the path of the report are shown.

    Attributes:
        attack: ``attack.csv``.
        paired: ``paired.csv``, models compared under attack.
        attack_seeds: ``attack_seeds.csv``, attacks over their seeds.
        autoattack: ``autoattack.csv``, the parts of AutoAttack.
        shift: ``shift.csv``.
        shift_summary: ``shift_summary.csv``.
        shift_paired: ``shift_paired.csv``, models compared under shift.
        trainings: ``trainings.csv``, attacks and shifts over the seeds of trainings.
        frames: ``frames.csv``.
        published: ``published.csv``, what others have published of the models.
        transfer: ``transfer.csv``, models on images that others were attacked with.
        duplicates: ``duplicates.csv``, images that are training images.
        warnings: What the reader must know before the numbers.
        answer: The conclusions, in sentences.
        page: The report's file.
    """

    attack: pd.DataFrame
    paired: pd.DataFrame
    attack_seeds: pd.DataFrame
    autoattack: pd.DataFrame
    shift: pd.DataFrame
    shift_summary: pd.DataFrame
    shift_paired: pd.DataFrame
    trainings: pd.DataFrame
    frames: pd.DataFrame
    published: pd.DataFrame
    transfer: pd.DataFrame
    duplicates: pd.DataFrame
    warnings: tuple[str, ...]
    answer: tuple[str, ...]
    page: Path

    def __repr__(self) -> str:
        lengths = ", ".join(f"{name} ({len(getattr(self, name))})" for name in COLUMNS if len(getattr(self, name)))
        return "\n".join([*self.answer, f"tables, with their lengths: {lengths}", f"report: {self.page}"])

    def _repr_html_(self) -> str:
        text = html.escape(self.page.read_text(encoding="utf-8"))
        return f'<iframe srcdoc="{text}" style="width: 100%; height: 50rem; border: 0"></iframe>'


def write_report(out: Path, settings: ReportSettings = ReportSettings()) -> Results:  # noqa: B008  # it is frozen
    """Write the tables, ``answer.txt`` and ``report/`` of an output folder.

    They depend on the folder's results and the settings only. Files of earlier reports in other formats are removed.

    Raises:
        InputError: see `bench.analysis.findings.find` and `framebench.reports.exports.write_exports`.
    """
    from framebench.reports import document_of  # here: it loads Matplotlib
    from framebench.reports.answer import sentences
    from framebench.reports.exports import write_exports
    from framebench.reports.html import drawn
    from framebench.reports.page import page_of
    from framebench.reports.payload import payload

    found = find(out, settings)
    texts = {f"{name}.csv": table.to_csv(index=False) for name, table in found.tables.items()}
    answer = sentences(found)
    texts["answer.txt"] = "".join(f"{sentence}\n" for sentence in answer)
    texts["warnings.csv"] = pd.DataFrame({"warning": list(found.warnings)}, dtype=str).to_csv(index=False)
    page = out / "report" / "index.html"
    document = document_of(found)
    texts["report/index.html"] = page_of(document, drawn(document), payload(found, document))
    write_derived(out, texts)
    write_exports(page.parent, document, settings.formats, settings.figure_width)
    tables = {**found.tables, TRANSFER.name: found.transfers, DUPLICATES.name: DUPLICATES.read(out)}
    return Results(**{name: tables.get(name, pd.DataFrame(columns=list(columns))) for name, columns in COLUMNS.items()},
                   warnings=tuple(found.warnings), answer=tuple(answer), page=page)


def run(options: ReportOptions) -> Results:
    """Join output folders into the first of them, and write its tables and its report.

    Raises:
        InputError: if a folder has no results or damaged ones, or if no browser is found for a PDF; and see
            `write_report`.
    """
    if "pdf" in options.formats:
        from framebench.reports.printing import find_browser

        find_browser()  # before anything is joined or written
    first, *others = options.out
    for out in others or [first]:  # if there are others, the first may be new
        if not (out / "examples").is_dir() and not kept_frames(out):
            raise InputError(f"{out} is not the output of a run: it has no folder examples/ or frames/; name the "
                             "folder that a command has written its results into")
    store = Store(first)
    with store.lock(repair=options.repair):
        for out in others:
            take(first, store, out)
        return write_report(first, options.report_settings())
