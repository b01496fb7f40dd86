"""Data of the interactive charts, as plain values.

Every function returns the data of one chart; its ``kind`` names the function in `reports/web/app` that draws it.
Fractions are in [0, 1]; nan becomes null (`framebench.reports.page`).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from bench.analysis.measured import Measured
from bench.analysis.outcomes import robust
from bench.analysis.shift_tables import Part
from bench.analysis.stats import paired_proportions, shares_interval

#: Name of the mean over severities in a heat map.
_MEAN = "mean"
#: Most classes of a chart by class.
MOST_CLASSES = 100

_SHARE = {"percent": True, "log": False}


def _values(frame: pd.DataFrame, *names: str) -> list[list[float]]:
    return [frame[name].round(4).tolist() for name in names]


def success_curves(curves: Mapping[tuple[str, str], pd.DataFrame], labels: Mapping[tuple[str, str], str],
                   sizes: Mapping[tuple[str, str], tuple[int, int]], unit: str, budgets: Sequence[int],
                   lines: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Attack success rate and robust accuracy against a budget.

    Args:
        curves: (model, attack) -> what `bench.analysis.attack_tables.curve` returns.
        labels: (model, attack) -> label of the curve.
        sizes: (model, attack) -> number of images in ASR's denominator, and of all images.
        unit: The budget's unit.
        budgets: Budgets to mark on the axis.
        lines: Published numbers: series (a key), label, x, y and measure.
    """
    attacks = list(dict.fromkeys(attack for _, attack in curves))
    series = [{"key": f"{model}|{attack}", "label": labels[model, attack], "model": model, "place": place,
               "attack": attacks.index(attack), "n": list(sizes[model, attack]), "x": curve["budget"].tolist(),
               "values": {"asr": _values(curve, "asr", "ci_low", "ci_high"),
                          "robust": _values(curve, "robust", "robust_low", "robust_high")}}
              for place, ((model, attack), curve) in enumerate(curves.items()) if curve["asr"].notna().all()]
    return {"kind": "curves", "step": True, "series": series, "lines": list(lines),
            "x": {"label": f"budget ({unit} per image)", "unit": unit, "log": True, "ticks": sorted({0, *budgets})},
            "measures": [{"key": "asr", "label": "attack success rate", **_SHARE},
                         {"key": "robust", "label": "robust accuracy", **_SHARE}]}


def accuracy_lines(frame: pd.DataFrame, against: str, label: str, lines: Sequence[dict[str, Any]] = ()
                   ) -> dict[str, Any]:
    """Accuracy against severity or epsilon; see `framebench.reports.plots.accuracy_curves`."""
    series = []
    for place, (model, group) in enumerate(frame.groupby("model", sort=False)):
        line = group.sort_values(against)
        series.append({"key": str(model), "label": str(model), "model": str(model), "place": place, "attack": 0,
                       "x": line[against].tolist(),
                       "values": {"accuracy": _values(line, "accuracy", "ci_low", "ci_high")}})
    return {"kind": "curves", "step": False, "series": series, "lines": list(lines),
            "x": {"label": against, "unit": against, "log": False, "ticks": sorted(frame[against].unique().tolist())},
            "measures": [{"key": "accuracy", "label": label, **_SHARE}]}


def training_lines(logs: Mapping[str, pd.DataFrame]) -> dict[str, Any]:
    """Accuracy, loss and penalty of several trainings by epoch."""
    measures: list[dict[str, Any]] = [{"key": "validation_accuracy", "label": "accuracy on held-out images", **_SHARE},
                {"key": "train_accuracy", "label": "accuracy on training images, augmented", **_SHARE},
                {"key": "train_loss", "label": "training loss, without the penalty", "percent": False, "log": False},
                {"key": "penalty", "label": "penalty", "percent": False, "log": True}]
    series: list[dict[str, Any]] = [
        {"key": name, "label": name, "model": name, "place": place, "attack": 0, "x": log["epoch"].tolist(),
         "values": {measure["key"]: _values(log, str(measure["key"])) for measure in measures
                    if measure["key"] != "penalty" or (log["penalty"] > 0).all()}}
        for place, (name, log) in enumerate(logs.items())]
    shown = [measure for measure in measures if any(measure["key"] in line["values"] for line in series)]
    return {"kind": "curves", "step": False, "series": series, "measures": shown,
            "x": {"label": "epoch", "unit": "epochs", "log": False}}


def points(summary: pd.DataFrame) -> dict[str, Any]:
    """Shifted against clean accuracy; see `framebench.reports.plots.clean_against_shifted`."""
    return {"kind": "points", "points": [
        {"model": row["model"], "domain": row["domain"], "clean": row["clean_accuracy"], "accuracy": row["accuracy"],
         "low": row["ci_low"], "high": row["ci_high"], "n": int(row["n"])} for row in summary.to_dict("records")]}


def bounds(models: Mapping[str, pd.DataFrame], floor: float) -> dict[str, Any]:
    """Frame bounds by layer of models with the same layers, clipped below at `floor` times the largest bound."""
    least = floor * max(float(frame["upper"].max()) for frame in models.values())
    return {"kind": "bounds", "layers": next(iter(models.values()))["layer"].tolist(), "models": {
        model: [[max(low, least), max(high, least)] for low, high in zip(frame["lower"], frame["upper"], strict=True)]
        for model, frame in models.items()}}


def by_class(attacks: Iterable[Measured], shifted: Iterable[Part], names: Mapping[str, str]) -> dict[str, Any] | None:
    """Accuracy by class: clean and under each attack at its largest budget, and on every domain.

    Args:
        attacks: The runs.
        shifted: The parts.
        names: Domain -> its name on the page.

    Returns:
        The data; None if there are more than `MOST_CLASSES` classes, or the lists of classes differ.
    """
    measures: dict[tuple[str, str], dict[str, list[list[float] | None]]] = {}
    lists = set()
    for run in attacks:
        frame, classes = run.frame(), run.facts.classes
        lists.add(classes)
        labels = frame["label"].to_numpy()
        for budget, label in ((0, f"clean accuracy, {run.domain}"),
                              (run.length, f"robust accuracy, {run.name}, {run.domain}")):
            held = robust(frame, run.traits, "iterations", budget)
            measures.setdefault((f"{label}|{budget}", label), {})[run.model] = [
                _share(held[labels == place], 1) for place in range(len(classes))]
    for part in shifted:
        lists.add(part.classes)
        label = f"accuracy, {names[part.domain]}" + ("" if part.name == "all" else f" ({part.name})")
        measures.setdefault((label, label), {})[part.model] = [
            _share(part.scores[part.labels == place], len(part.cells)) for place in range(len(part.classes))]
    if len(lists) != 1 or len(next(iter(lists))) > MOST_CLASSES:
        return None
    return {"kind": "classes", "classes": list(lists.pop()), "measures": [
        {"key": key, "label": label, "models": models} for (key, label), models in measures.items()]}


def _share(scores: np.ndarray, outcomes: int) -> list[float] | None:
    """Return mean, lower and upper end of its 95% interval, and number of scores; None without scores.

    Each score is a share of `outcomes`.
    """
    if not len(scores):
        return None
    return [round(float(value), 4) for value in (scores.mean(), *shares_interval(scores, outcomes))] + [len(scores)]


def heat(parts: Sequence[Part]) -> dict[str, Any]:
    """Accuracy by corruption, severity and model on one domain, and the pairs of models without a shown difference.

    A mean is over the severities that all models have. A difference is not shown if its 95% interval, over the images
    that all models have, contains zero. The interval is Newcombe's for one cell and Student's for a mean.
    """
    models = list(dict.fromkeys(part.model for part in parts))
    rows = list(dict.fromkeys(corruption for part in parts for corruption, _ in part.cells))
    slices = [_MEAN, *map(str, sorted({severity for part in parts for _, severity in part.cells}))]
    common = parts[0].examples
    for part in parts[1:]:
        common = np.intersect1d(common, part.examples)
    correct: dict[tuple[str, str], dict[int, np.ndarray]] = {}  # corruption, model -> severity -> outcomes of images
    for part in parts:
        outcomes = part.correct[np.isin(part.examples, common)].astype(np.float32)
        for (row, severity), column in zip(part.cells, outcomes.T, strict=True):
            correct.setdefault((row, part.model), {})[severity] = column
    cells: dict[str, dict[str, list[Any]]] = {key: {model: [] for model in models} for key in slices}
    noise: dict[str, dict[str, list[str]]] = {key: {model: [] for model in models} for key in slices}
    for key in slices:
        for row in rows:
            by_model = [correct.get((row, model), {}) for model in models]
            severities = [int(key)] if key != _MEAN else [
                severity for severity in by_model[0] if all(severity in columns for columns in by_model)]
            scores = {model: np.mean([columns[severity] for severity in severities], axis=0)
                      for model, columns in zip(models, by_model, strict=True)
                      if severities and all(severity in columns for severity in severities)}
            quiet = _noise(scores, len(severities))
            for model in models:
                share = _share(scores[model], len(severities)) if model in scores else None
                cells[key][model].append(share and share[:3])
                noise[key][model].append("".join("1" if (model, other) in quiet else "0" for other in models))
    return {"kind": "heat", "rows": rows, "models": models, "slices": slices, "n": len(common), "cells": cells,
            "noise": noise if len(models) > 1 else None}


def _noise(scores: Mapping[str, np.ndarray], outcomes: int) -> set[tuple[str, str]]:
    """Return the pairs of models, in both orders, whose difference has an interval that contains zero.

    With one image, these are all pairs.

    Args:
        scores: Model -> shares of the same images, [n].
        outcomes: Number of outcomes per share.
    """
    models, quiet = list(scores), set[tuple[str, str]]()
    n = min(map(len, scores.values()), default=0)
    if n < 2:
        return {(a, b) for a in models for b in models if a != b}
    matrix = np.stack(list(scores.values())).astype(float)
    spread, quantile = np.cov(matrix), stats.t.ppf(0.975, n - 1)
    for i, a in enumerate(models):
        for j, b in enumerate(models[:i]):
            difference = matrix[i].mean() - matrix[j].mean()
            # As in `paired_difference`, from one covariance matrix: there can be thousands of pairs.
            variance = max(spread[i, i] + spread[j, j] - 2 * spread[i, j], 0.0)
            error = quantile * ((variance + (outcomes > 1) / outcomes / (n - 1)) / n) ** 0.5
            if outcomes == 1 and 0.5 * error < abs(difference) < 2 * error:  # else Newcombe's agrees with it
                _, low, high = paired_proportions(matrix[i] > 0.5, matrix[j] > 0.5)
                within = low <= 0 <= high
            else:
                within = abs(difference) <= error
            if within:
                quiet |= {(a, b), (b, a)}
    return quiet


def diamonds(lines: Sequence[dict[str, Any]]) -> str:
    """Return the note on published numbers in a caption; empty if there are none."""
    return " Diamonds: published for a network of the model's kind, not measured here." if lines else ""


def published_lines(published: pd.DataFrame | None, threat: str, x: str, y: str, measure: str,
                    keys: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return the published numbers of a chart, with their positions.

    Args:
        published: ``published.csv``, or None.
        threat: The threat model of the chart.
        x: Column of the position on the horizontal axis.
        y: Column of the number.
        measure: Key of the chart's measure.
        keys: Model -> key of its series.
    """
    lines: list[dict[str, Any]] = []
    rows: list[dict[Hashable, Any]] = [] if published is None else published.to_dict("records")
    for row in rows:
        if row["threat"] == threat and row["model"] in keys and not pd.isna(row[x]) and not pd.isna(row[y]):
            line = {"series": keys[row["model"]], "x": float(row[x]), "y": float(row[y]), "measure": measure,
                    "model": row["model"],
                    "label": f"published: {row['network']}, {row['published_attack']} ({row['source']})"}
            if line not in lines:  # there is a row per measured attack
                lines.append(line)
    return lines
