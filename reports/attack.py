"""The section on attacks: curves, tables, pictures."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import pandas as pd

from bench.analysis.attack_tables import curve
from bench.analysis.comparisons import FAMILIES
from bench.analysis.labels import unique_names
from bench.analysis.measured import Measured
from bench.analysis.outcomes import attacked, units
from framebench.reports import charts
from framebench.reports.colors import model_styles
from framebench.reports.document import Block, Cell, Folded, Part, Plot, Row, Section, Table, Text, table
from framebench.reports.format import count, decimals, distance, number_of, p_value, points, rate
from framebench.reports.gallery import attacked_part
from framebench.reports.matrix import matrices
from framebench.reports.origin import origin, resized
from framebench.reports.parts import epsilon_sections, parts_sections
from framebench.reports.plots import asr_curves, coinciding, curve_labels
from framebench.reports.seeds import attack_seeds_sections, trainings_sections

if TYPE_CHECKING:
    from bench.analysis.findings import Findings

#: Columns that identify a comparison, besides the budget.
_PAIR = ["model_a", "model_b", "domain", "attack"]
#: Metric of ``paired.csv`` -> its name on the page.
_METRICS = {"robust_accuracy": "robust accuracy", "asr": "ASR"}


def attack_section(found: Findings) -> Section | None:
    """Return the section on attacks; None if there are none."""
    if not found.attacks:
        return None
    runs = found.attacks
    results, paired, seeds = (found.tables[name] for name in ("attack", "paired", "attack_seeds"))
    titles = {run.domain: run.facts.title for run in runs}
    sizes = " or ".join(f"{n:,}" for n in sorted(results["n"].unique()))
    iterations = results[results["unit"] == "iterations"]
    blocks: list[Block] = [
        Part("Attack success rate", [_success(iterations), Text(
            "In brackets: 95% Wilson intervals. ASR is over the images that the model classifies correctly before the "
            "attack. The column 0 is the control, which must be 0 (under normalised-clip it is what the clip alone "
            "breaks). Clean and robust accuracy are over all n images. An iteration of SimBA and of noise is one "
            "direction; an iteration of other attacks is one query after the clean image's.", "soft"), *resized(runs),
            _curves(found)]),
        *parts_sections(found.tables.get("autoattack", pd.DataFrame())),
        *epsilon_sections(found),
        *attack_seeds_sections(seeds), *trainings_sections(found.attack_trainings),
        Part("Cost of the attack", [*_costs(iterations), Text(
            "Queries are forward passes per image, the first one included, over the images in ASR's denominator, "
            "whether broken or not. L2 is the median over the images broken within the budget.", "soft")])]
    if len(paired):
        blocks.append(Part("Models compared under attack, on the same images", [*matrices(
            found.attack_questions, _comparisons(paired)), Text(
            "Robust accuracy is over all images that both models have rows for, ASR over those of them that both "
            "models classify correctly before the attack. Difference: a - b, with Newcombe's 95% interval for paired "
            "proportions; after it, the numbers of images that count for a alone and for b alone. p: McNemar's exact "
            "test. " + FAMILIES, "soft")]))
    blocks += _transfers(found.transfers)
    blocks += attacked_part(runs, lambda run: _name(run, runs))
    provenance = [{"heading": f"{run.model} · {run.domain} · {_name(run, runs)}", **origin(run)} for run in runs]
    seeing = [run.traits.needs == "gradients" for run in runs]
    title = "White-box attack" if all(seeing) else "Attacks" if any(seeing) else "Black-box attack"
    return Section(title, f"{'; '.join(titles.values())}; n = {sizes} images per model", blocks, provenance)


def _name(run: Measured, among: Sequence[Measured]) -> str:
    """Return the attack's name, with the domain if there are several."""
    return f"{run.name}, {run.domain}" if len({other.domain for other in among}) > 1 else run.name


def _curves(found: Findings) -> Row:
    budgets = sorted(int(budget) for budget in found.tables["attack"]["budget"].unique())
    drawn: list[Plot] = []
    for unit in ("iterations", "queries"):
        runs = {(run.model, _name(run, found.attacks)): run for run in found.attacks if unit in units(run.traits)}
        if runs:
            curves = {key: curve(run, unit) for key, run in runs.items()}
            sizes = {key: (int(attacked(run.frame(), run.traits).sum()), len(run.frame())) for key, run in runs.items()}
            simba = {model: f"{model}|{attack}" for model, attack in runs if attack.startswith("simba")}
            lines = charts.published_lines(found.tables.get("published"), "SimBA", "published_budget", "published_asr",
                                           "asr", simba) if unit == "iterations" else []
            caption = f"ASR against {unit}; bands are 95% Wilson intervals." + _unseen(curves) + charts.diamonds(lines)
            drawn.append(Plot(
                f"asr {unit}", caption, partial(asr_curves, curves, unit, budgets, model_styles(found.models), lines),
                charts.success_curves(curves, curve_labels(curves), sizes, unit, budgets, lines)))
    return Row(drawn)


def _unseen(curves: dict[tuple[str, str], pd.DataFrame]) -> str:
    """Return the notes of a caption on coinciding curves and on runs without a curve."""
    labels, groups = curve_labels(curves), coinciding(curves)
    notes = [f" The curves of {', '.join(labels[key] for key in group)} coincide; their colours alternate."
             for group in groups if len(group) > 1]
    missing = [label for key, label in labels.items() if not any(key in group for group in groups)]
    if missing:
        notes.append(f" {', '.join(missing)} can have no curve: no image is classified correctly before the attack.")
    return "".join(notes)


def _success(results: pd.DataFrame) -> Table:
    budgets = sorted(int(b) for b in results["budget"].unique())
    rows: list[list[Cell | str]] = []
    for names, group in results.groupby(["model", "domain", "attack"], sort=False):
        at = {entry["budget"]: entry for entry in group.to_dict("records")}
        first, last = at[0], at[max(at)]
        asr = [_asr(at[b]) if b in at else "" for b in budgets]
        norm = str(last["norm"]).capitalize()
        counts = "any distance" if pd.isna(last["bound"]) else f"{norm} ≤ {distance(last['bound'])}"
        rows.append([*map(str, names), Cell(distance(last["epsilon"]), counts, last["epsilon"]), count(last["n"]),
                     rate(first["clean_accuracy"], below=f"{first['n_correct']:,} attacked"), *asr,
                     rate(last["robust_accuracy"], last["robust_low"], last["robust_high"])
                     if budgets[-1] in at else ""])
    broken, left = [f"ASR at {b:,}" for b in budgets], f"robust at {budgets[-1]:,}"
    return table("asr", ["model", "data", "attack", "epsilon", "n", "clean accuracy", *broken, left], rows, 3,
                 best={"clean accuracy": "high", **dict.fromkeys(broken, "low"), left: "high"},
                 settings=("data", "attack", "epsilon", "n"))


def _asr(entry: dict[Hashable, Any], below: str = "") -> Cell:
    return rate(entry["asr"], entry["ci_low"], entry["ci_high"], below)


def _costs(results: pd.DataFrame) -> list[Block]:
    """Return the cost of each attack at its largest budget and, folded, at smaller ones."""
    results = results[results["budget"] > 0]
    last = results.groupby(["model", "domain", "attack"])["budget"].transform("max") == results["budget"]
    smaller = [] if last.all() else [Folded("The same at smaller budgets", [_cost(results[~last])])]
    return [_cost(results[last]), *smaller]


def _cost(results: pd.DataFrame) -> Table:
    rows = [[row["model"], row["domain"], row["attack"], count(row["budget"]),
             decimals(row["queries_mean"], 1), decimals(row["queries_median"], 0), decimals(row["l2_median"], 2),
             rate(row["robust_accuracy"])]
            for row in results.to_dict("records")]
    return table("cost", ["model", "data", "attack", "iterations", "mean queries", "median queries", "median L2",
                          "robust accuracy"], rows, 3, settings=("data", "attack", "iterations"))


def _transfers(transfers: pd.DataFrame) -> list[Part]:
    """Return a part for each attack of ``transfer.csv``."""
    targets = list(zip(transfers["target"], transfers["target_digest"], strict=True))
    names = unique_names(targets)
    transfers = transfers.assign(target=[names[target] for target in targets])
    parts = []
    for (domain, name, epsilon, budget), group in transfers.groupby(["domain", "attack", "epsilon", "budget"],
                                                                    sort=False, dropna=False):
        heading = f"Transfer: {name}, epsilon {distance(float(str(epsilon)))}, {budget:,} iterations, on {domain}"
        parts.append(Part(heading, [_transfer(group), Text(
            "Images attacked on one model (row), classified by another (column). ASR is over the images that the "
            "column's model classifies correctly before the attack and that the attack changed, with 95% Wilson "
            "intervals.", "soft")]))
    return parts


def _transfer(transfers: pd.DataFrame) -> Table:
    targets = list(dict.fromkeys(transfers["target"]))
    rows: list[list[Cell | str]] = []
    for (source, _), group in transfers.groupby(["source", "evaluation"], sort=False):
        at = {row["target"]: row for row in group.to_dict("records")}
        rows.append([str(source), *(_asr(at[t], f" n = {at[t]['n_correct']:,}") if t in at else "" for t in targets)])
    return table("transfer", ["attacked", *targets], rows)


def _comparisons(paired: pd.DataFrame) -> list[Block]:
    """Return the comparisons at the largest budget that two models share, and, folded, those at smaller ones."""
    last = paired.groupby(_PAIR)["budget"].transform("max") == paired["budget"]
    if last.all():
        return [paired_rows(paired)]
    smaller = number_of(len(paired[~last][[*_PAIR, "budget"]].drop_duplicates()), "comparison")
    return [paired_rows(paired[last]), Folded(f"The same at smaller budgets: {smaller}", [paired_rows(paired[~last])])]


def paired_rows(paired: pd.DataFrame) -> Table:
    """Return a table with one row per pair of models and budget, robust accuracy beside ASR."""
    rows: list[list[Cell | str]] = []
    for key, group in paired.groupby([*_PAIR, "budget"], sort=False):
        *names, budget = key
        at = {entry["metric"]: entry for entry in group.to_dict("records")}
        rows.append([*map(str, names), count(int(str(budget))),
                     *(cell for metric in _METRICS for cell in _difference(at[metric]))])
    header = [f"{name} {of}" for name in _METRICS.values() for of in ("of a", "of b")]
    return table("paired", ["a", "b", "data", "attack", "iterations", *header[:2], "a - b, points", "p (Holm)",
                            *header[2:], "a - b, points", "p (Holm)"], rows, 4,
                 settings=("data", "attack", "iterations"))


def _difference(entry: dict[Hashable, Any]) -> list[Cell]:
    """Return the cells of one metric: both values, their difference, and p."""
    if not entry["n"]:
        return [Cell("–", "n = 0"), Cell("–"), Cell("–"), Cell("–")]
    return [rate(entry["a"], below=f"n = {entry['n']:,}"), rate(entry["b"]),
            points(entry["difference"], entry["ci_low"], entry["ci_high"], f" {entry['only_a']} / {entry['only_b']}",
                   sign=True),
            Cell(p_value(entry["p_holm"]), f"unadjusted {p_value(entry['p_value'])}", entry["p_holm"])]
