"""The section on shift tests: accuracy by domain, curves, heat maps, tables."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import pandas as pd

from bench.analysis.comparisons import FAMILIES
from bench.analysis.measured import Measured
from bench.analysis.shift_tables import Part as ShiftPart
from bench.analysis.shift_tables import severity_table
from framebench.reports import charts
from framebench.reports.colors import Style, model_styles
from framebench.reports.document import Block, Cell, Folded, Part, Plot, Row, Section, Table, Text, table
from framebench.reports.format import count, number_of, p_value, percent, points, rate
from framebench.reports.gallery import shifted_part
from framebench.reports.maps import heat_map
from framebench.reports.matrix import matrices
from framebench.reports.names import short_names
from framebench.reports.origin import resized, shared_origin
from framebench.reports.plots import accuracy_curves, clean_against_shifted
from framebench.reports.seeds import trainings_sections

if TYPE_CHECKING:
    from bench.analysis.findings import Findings

_PARTS = {"all": "", "benchmark": "{cells}", "extras": "extras, {cells}"}


def shift_section(found: Findings) -> Section | None:
    """Return the section on shift tests; None if there are none."""
    if not found.shifts:
        return None
    titles: dict[str, str] = {}
    groups: dict[tuple[str, str], list[Measured]] = {}
    for cell in found.shifts:
        titles.setdefault(cell.domain, cell.facts.title)
        groups.setdefault((cell.model, cell.domain), []).append(cell)
    short = short_names(titles)
    cells, summary, paired, trainings, by_severity = (
        frame.assign(domain=frame["domain"].map(short)) if len(frame) else frame for frame in
        (found.tables["shift"], found.tables["shift_summary"], found.tables["shift_paired"], found.shift_trainings,
         severity_table(found.parts, dict(found.clean_of))))
    clean_of = {short[domain]: short[clean] for domain, clean in found.clean_of.items()}
    columns = list(summary[["domain", "part"]].drop_duplicates().itertuples(index=False, name=None))
    columns.sort(key=lambda key: (bool(clean_of.get(key[0])), key[1] == "extras"))
    classes = {short[part.domain]: len(part.classes) for part in found.parts}
    blocks: list[Block] = []
    if found.settings.matched:
        blocks.append(Part("Matched clean accuracy", [Text(sentence) for sentence in found.settings.matched]))
    blocks.append(Part("Accuracy", [_accuracy(summary, columns), Text(
        "In brackets: 95% intervals, Wilson's. Means over the cells (corruption x severity) of a corrupted set have an "
        "effective number of outcomes, since all cells reuse the same images.", "soft"),
        *resized(found.shifts),
        *[Text(_note(domain, short[domain], title), "soft") for domain, title in titles.items()]]))
    costs = summary[summary["gap"].notna() | summary["mce"].notna()]
    if len(costs):
        blocks.append(Part("Accuracy loss under shift", [_cost(costs), Text(
            "Gap: clean accuracy minus shifted accuracy, in points. " + _mce_note(found, summary) + " Intervals of "
            "gaps: Student's for means over cells, Newcombe's for a gap between two sets of images.", "soft"),
            *[Text(text, "soft") for text in _fewer_classes(summary, clean_of, classes)]]))
    gathered: dict[str, list[ShiftPart]] = {}
    for part in found.parts:
        gathered.setdefault(short[part.domain], []).append(part)
    blocks += _plots(cells, summary, by_severity, gathered, model_styles(found.models))
    if len(paired):
        blocks.append(Part("Models compared under shift, on the same images", [*matrices(
            found.shift_questions, [paired_parts(paired)]), Text(
            "Accuracy of a minus b, in points. For one set of images: Newcombe's 95% interval for paired proportions "
            "and McNemar's exact test. For means over cells: Student's 95% interval and a sign-flip test "
            "of the images' differences. Its p has the sign ≤ where no random flip was as extreme as what was "
            "observed. " + FAMILIES, "soft")]))
    blocks += trainings_sections(trainings)
    blocks += [Folded(f"{domain}: every cell", [_cells(group)]) for domain, group in
               cells[cells["corruption"] != ""].groupby("domain", sort=False)]
    blocks += shifted_part(found)
    sizes = cells["n"].unique()
    n = f"{min(sizes):,}" + (f" to {max(sizes):,}" if len(sizes) > 1 else "")
    provenance = [{"heading": f"{model} · {domain}", **shared_origin(group)}
                  for (model, domain), group in groups.items()]
    return Section("Domain shift", f"{number_of(len(titles), 'domain')}; n = {n} images per cell", blocks, provenance)


def mean_of(cells: int) -> str:
    """Return the description of a mean: "mean of 75 cells", or "1 cell"."""
    return number_of(cells, "cell") if cells == 1 else f"mean of {number_of(cells, 'cell')}"


def _note(domain: str, short: str, title: str) -> str:
    """Return a domain's name and its title, without the name that some titles start with."""
    name = domain.partition(" #")[0]  # without the digest
    return f"{short}: {title.removeprefix(name).strip()}."


def _mce_note(found: Findings, summary: pd.DataFrame) -> str:
    if summary["mce"].isna().all():
        return ""
    if found.baseline is None:
        return "mCE: the mean error over the cells. " + found.baseline_reason + (
            " On imagenet-c it is the mean over corruptions of the model's error divided by that of AlexNet, which is "
            "published for the official files (arXiv 1903.12261)." if summary["mce_baseline"].notna().any() else "")
    return (f"mCE: the mean over corruptions of the model's error divided by that of {found.baseline}; relative mCE: "
            "the same for the errors beyond the clean error (arXiv 1903.12261). Below 100% is better than "
            f"{found.baseline}. {found.baseline_reason}")


def _fewer_classes(summary: pd.DataFrame, clean_of: dict[str, str], classes: dict[str, int]) -> list[str]:
    """Return the notes on domains without images of some classes."""
    shifted = summary[(summary["part"] == "all") & summary["clean_accuracy"].notna()].drop_duplicates("domain")
    return [f"{row['domain']} has images of {row['classes']} of the {classes[row['domain']]} classes. Its gap and its "
            f"clean accuracy are over the images of {clean_of[row['domain']]} that belong to these classes "
            f"({row['clean_n']:,.0f})."
            for row in shifted.to_dict("records") if row["classes"] < classes[row["domain"]]]


def _accuracy(summary: pd.DataFrame, columns: list[tuple[str, str]]) -> Table:
    header = [" ".join([domain, *([f"({part})"] if part != "all" else [])]) for domain, part in columns]
    rows: list[list[Cell | str]] = []
    for model, group in summary.groupby("model", sort=False):
        at = {(entry["domain"], entry["part"]): entry for entry in group.to_dict("records")}
        rows.append([str(model), *(_accuracy_cell(at[key]) if key in at else ""
                                   for key in columns)])
    return table("accuracy", ["model", *header], rows, best=dict.fromkeys(header, "high"))


def _accuracy_cell(entry: dict[Hashable, Any]) -> Cell:
    cells = f", {number_of(entry['cells'], 'cell')}" if entry["part"] != "all" else ""
    return rate(entry["accuracy"], entry["ci_low"], entry["ci_high"], f" n = {entry['n']:,}{cells}")


def _cost(summary: pd.DataFrame) -> Table:
    rows: list[list[Cell | str]] = []
    for row in summary.to_dict("records"):
        part = _PARTS[row["part"]].format(cells=mean_of(row["cells"]))
        rows.append([
            row["model"], Cell(row["domain"], part), count(row["n"]), rate(row["clean_accuracy"]),
            rate(row["accuracy"]), points(row["gap"], row["gap_low"], row["gap_high"]),
            *(rate(row[name], row[f"{name}_low"], row[f"{name}_high"]) for name in ("mce", "relative_mce")),
            "–" if pd.isna(row["worst_corruption"]) else
            Cell(row["worst_corruption"], percent(row["worst_corruption_accuracy"])),
            Cell(row["worst_class"], percent(row["worst_class_accuracy"]))])
    return table("shift", ["model", "domain", "n", "clean", "shifted", "gap", "mCE", "relative mCE",
                           "worst corruption", "worst class"], rows, 2, settings=("domain", "n"))


def _plots(cells: pd.DataFrame, summary: pd.DataFrame, by_severity: pd.DataFrame,
           found_parts: Mapping[str, Sequence[ShiftPart]], styles: Mapping[str, Style]) -> list[Block]:
    blocks: list[Block] = []
    for domain, group in by_severity.groupby("domain", sort=False):
        corrupted = cells[(cells["domain"] == domain) & (cells["corruption"] != "")]
        values = "mean over severities that all models have." if corrupted["model"].nunique() > 1 else "by severity."
        blocks.append(Row([
            Plot(f"severity {domain}", f"{domain}: mean accuracy over the benchmark's corruptions against severity; 0 "
                 "stands for the same images without corruption. Bands are 95% intervals over images.",
                 partial(accuracy_curves, group, "severity", styles=styles),
                 charts.accuracy_lines(group, "severity", "accuracy")),
            Plot(f"corruptions {domain}", f"{domain}: accuracy in percent; {values}", partial(heat_map, corrupted),
                 charts.heat(found_parts[str(domain)]))]))
    shifted = summary[summary["clean_accuracy"].notna() & (summary["part"] != "extras")]
    if len(shifted) and shifted["model"].nunique() > 1:
        blocks.append(Plot("clean against shifted", "Shifted against clean accuracy, one point per model and domain, "
                           "with 95% intervals of the former.", partial(clean_against_shifted, shifted, styles),
                           charts.points(shifted)))
    return [Part("Accuracy by corruption and severity", blocks)] if blocks else []


def paired_parts(paired: pd.DataFrame) -> Table:
    """Return a table with one row per pair of models and part of a domain."""
    rows = [[row["model_a"], row["model_b"], row["domain"] + ("" if row["part"] == "all" else f" ({row['part']})"),
             row["test"], count(row["cells"]), count(row["n"]), rate(row["a"]), rate(row["b"]),
             points(row["difference"], row["ci_low"], row["ci_high"], digits=2, sign=True),
             *(Cell(p_value(row[p], row["p_bound"]), value=row[p]) for p in ("p_value", "p_holm"))]
            for row in paired.to_dict("records")]
    return table("shift paired", ["a", "b", "domain", "test", "cells", "n", "a", "b", "a - b, points", "p",
                                  "p (Holm)"], rows, 4, settings=("domain", "test", "cells", "n"))


def _cells(cells: pd.DataFrame) -> Table:
    rows: list[list[Cell | str]] = []
    for (model, corruption), group in cells.groupby(["model", "corruption"], sort=False):
        at = {row["severity"]: row for row in group.to_dict("records")}
        sizes = sorted(group["n"].unique())
        n = f"{sizes[0]:,}" + (f" to {sizes[-1]:,}" if len(sizes) > 1 else "")
        rows.append([str(model), str(corruption), n, rate(group["accuracy"].mean()),
                     *(rate(at[s]["accuracy"], at[s]["ci_low"], at[s]["ci_high"]) if s in at else ""
                       for s in range(1, 6))])
    return table("cells", ["model", "corruption", "n", "mean", *(f"severity {s}" for s in range(1, 6))], rows, 2,
                 settings=("n",))
