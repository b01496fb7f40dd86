"""The report of an attack: curves, tables, pictures."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np
import pandas as pd

from framebench.reports.page import Cell, Section, figure, folded, interval, p_value, paragraph, percent, section, table
from framebench.reports.plots import asr_curves, attacked_images, coinciding, curve_labels
from framebench.reports.seeds import attack_seeds_sections, trainings_sections


def attack_section(results: pd.DataFrame, paired: pd.DataFrame, seeds: pd.DataFrame, trainings: pd.DataFrame,
                   transfers: pd.DataFrame, curves: dict[str, dict[tuple[str, str], pd.DataFrame]],
                   pictures: dict[str, list[tuple[str, np.ndarray, np.ndarray, str]]],
                   titles: dict[str, str], provenance: list[dict[str, Any]]) -> Section:
    """Return the attack's part of the report.

    Args:
        results: The table of ``attack.csv``.
        paired: Paired comparisons, see ``paired.csv``; may be empty.
        seeds: The table of ``attack_seeds.csv``; may be empty.
        trainings: The entries of ``trainings.csv`` that are of attacks; may be empty.
        transfers: The table of ``transfer.csv``; may be empty.
        curves: unit -> (model, attack) -> frame with budget, asr, ci_low, ci_high.
        pictures: Heading -> pictures for `framebench.reports.plots.attacked_images`.
        titles: domain -> what its data are.
        provenance: Facts of each evaluation, printed as JSON under their ``heading``.
    """
    data = "; ".join(f"{titles[name]}" for name in results["domain"].unique())
    sizes = " or ".join(f"{n:,}" for n in sorted(results["n"].unique()))
    iterations = results[results["unit"] == "iterations"]
    budgets = sorted(int(b) for b in results["budget"].unique())
    blocks = [section(
        "Attack success rate", _success(iterations),
        paragraph("In brackets: 95% Wilson intervals. ASR is over the images that the model classifies right; the "
                  "column 0 is the control, which must be 0 (under normalised-clip it is what the clip alone breaks). "
                  "Clean and robust accuracy are over all n images. An iteration of SimBA and of noise is one "
                  "direction, of other attacks one query after the clean image's.", "soft"),
        '<div class="row">' + "".join(
            figure(asr_curves(by_model, unit, budgets), f"ASR against {unit}; bands are 95% Wilson intervals."
                   + _unseen(by_model), f"asr {unit}")
            for unit, by_model in curves.items()) + "</div>"),
        *attack_seeds_sections(seeds), *trainings_sections(trainings),
        section("Cost of the attack", _cost(iterations), paragraph(
            "Queries are forward passes of an image, the first one included, over the images in ASR's denominator, "
            "whether broken or not. L2 is the median over the images broken within the budget.", "soft"))]
    if len(paired):
        blocks.append(section("Models compared under attack, on the same images", *_comparisons(paired), paragraph(
            "Difference a - b with Newcombe's 95% interval for paired proportions; p of McNemar's exact test. Holm's "
            "adjustment is over the budgets of one pair of models and one rate, not over pairs. Robust accuracy over "
            "all common images, ASR over those that both models get right.", "soft")))
    if len(transfers):
        blocks += [section(f"Transfer: {name}, epsilon {epsilon:g}, on {domain}", _transfer(group), paragraph(
            "ASR on one model (column) of images that another (row) was attacked with, over those that the former gets "
            "right and the attack has changed, with 95% Wilson intervals.", "soft"))
            for (domain, name, epsilon), group in transfers.groupby(["domain", "attack", "epsilon"], sort=False)]
    for heading, columns in pictures.items():
        blocks.append(section(heading, figure(
            attacked_images(columns, _scale(columns)),
            "Images from the head of the common order, those that are right before the attack first. Below each: "
            "prediction, iterations and queries spent.",
            heading)))
    return Section("Black-box attack", f"{data}; n = {sizes} images a model", blocks, provenance)


def _unseen(curves: dict[tuple[str, str], pd.DataFrame]) -> str:
    """Return what a caption says of curves that lie on each other, and of those that there can't be."""
    labels, groups = curve_labels(curves), coinciding(curves)
    notes = [f" The curves of {', '.join(labels[key] for key in group)} coincide; their colours alternate."
             for group in groups if len(group) > 1]
    missing = [label for key, label in labels.items() if not any(key in group for group in groups)]
    if missing:
        notes.append(f" {', '.join(missing)} can have no curve: no image is right before the attack.")
    return "".join(notes)


def _scale(columns: list[tuple[str, np.ndarray, np.ndarray, str]]) -> float:
    largest = max(float(np.abs(attacked - clean).max()) for _, clean, attacked, _ in columns)
    return max(round(largest, 2), 0.01)


def _success(results: pd.DataFrame) -> str:
    budgets = sorted(int(b) for b in results["budget"].unique())
    rows: list[list[Cell | str]] = []
    for names, group in results.groupby(["model", "domain", "attack"], sort=False):
        at = {entry["budget"]: entry for entry in group.to_dict("records")}
        first, last = at[0], at[max(at)]
        asr = [_asr(at[b]) if b in at else "" for b in budgets]
        counts = "any distance" if pd.isna(last["bound"]) else f"{last['norm'].capitalize()} ≤ {last['bound']:.4g}"
        rows.append([*map(str, names), Cell(f"{last['epsilon']:.4g}", counts), f"{last['n']:,}",
                     Cell(percent(first["clean_accuracy"]),
                     f"{first['n_correct']:,} right"), *asr,
                     Cell(percent(last["robust_accuracy"]), interval(last["robust_low"], last["robust_high"]))
                     if budgets[-1] in at else ""])
    return table(["model", "data", "attack", "epsilon", "n", "clean accuracy", *(f"ASR at {b:,}" for b in budgets),
                  f"robust at {budgets[-1]:,}"], rows, text_columns=3)


def _asr(entry: dict[Hashable, Any], below: str = "") -> Cell:
    """Return ASR over its interval and more, a dash alone where there is no image to attack."""
    if np.isnan(entry["asr"]):
        return Cell("–", below)
    return Cell(percent(entry["asr"]), interval(entry["ci_low"], entry["ci_high"]) + below)


def _cost(results: pd.DataFrame) -> str:
    rows = [[row["model"], row["domain"], row["attack"], f"{row['budget']:,}",
             _number(row["queries_mean"], 1), _number(row["queries_median"], 0), _number(row["l2_median"], 2),
             percent(row["robust_accuracy"])]
            for row in results.to_dict("records") if row["budget"] > 0]
    return table(["model", "data", "attack", "iterations", "mean queries", "median queries", "median L2",
                  "robust accuracy"], rows, text_columns=3)


def _number(value: float, digits: int) -> str:
    """Return a number with so many decimals, a dash where there is none."""
    return "–" if np.isnan(value) else f"{value:.{digits}f}"


def _transfer(transfers: pd.DataFrame) -> str:
    targets = list(dict.fromkeys(transfers["target"]))
    rows: list[list[Cell | str]] = []
    for source, group in transfers.groupby("source", sort=False):
        at = {row["target"]: row for row in group.to_dict("records")}
        rows.append([str(source), *(_asr(at[t], f" n = {at[t]['n_correct']:,}") if t in at else "" for t in targets)])
    return table(["attacked", *targets], rows)


def _comparisons(paired: pd.DataFrame) -> list[str]:
    """Return the comparisons at the largest budget that two models share, and, folded, those at smaller ones."""
    last = paired.groupby(["model_a", "model_b", "domain", "attack"])["budget"].transform("max") == paired["budget"]
    if last.all():
        return [_paired(paired)]
    return [_paired(paired[last]), folded(f"The same at smaller budgets: {(~last).sum():,} comparisons",
                                          _paired(paired[~last]))]


def _paired(paired: pd.DataFrame) -> str:
    names = {"robust_accuracy": "robust accuracy", "asr": "ASR"}
    rows = [[row["model_a"], row["model_b"], row["domain"], row["attack"], names[row["metric"]],
             f"{row['budget']:,}", f"{row['n']:,}", percent(row["a"]), percent(row["b"]),
             Cell(f"{100 * row['difference']:+.1f}", interval(row["ci_low"], row["ci_high"])),
             f"{row['only_a']} / {row['only_b']}", p_value(row["p_value"]), p_value(row["p_holm"])]
            for row in paired.to_dict("records")]
    return table(["a", "b", "data", "attack", "of", "iterations", "n", "a", "b", "a - b, points", "only a / only b",
                  "p", "p (Holm)"], rows, text_columns=5)
