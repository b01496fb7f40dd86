"""Rows made by hand."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from bench.analysis.measured import Measured, measure
from bench.rows.evaluation import Evaluation
from bench.rows.facts import Facts
from bench.rows.parts import Rows
from framebench.attacks.base import Traits

CLASSES = tuple("abcdefghij")


def run_of(tmp_path: Path, success: Any, *, model: str = "m", attack: str = "noise", budget: int = 10,
           budgets: Any = (1, 10), caps: Any = (), seed: int = 0, examples: Any = None, domain: str = "d",
           settings: dict[str, Any] | None = None, columns: dict[str, Any] | None = None, facts: Any = None,
           weights: str | None = None, **traits: Any) -> Rows:
    """Return rows of an attack, success iterations as given (0: misclassified from the start, -1: never broken).

    Args:
        tmp_path: Where they would be kept.
        success: int [n].
        settings: The attack's settings, besides epsilon and basis.
        columns: Columns in the place of the usual ones.
        facts: Fields of `Facts` besides the usual ones.
        weights: Digest of the model; None for its name.
        traits: Fields of `Traits` besides the usual ones.
    """
    success = np.array(success)
    n = len(success)
    declared = Traits(**{"label": f"{attack}-pixel", "needs": "scores", "budget": budget, "epsilon": 0.2, **traits})
    own = {"epsilon": declared.epsilon, "basis": "pixel", **(settings or {})}
    evaluation = Evaluation(model, weights or model, domain, f"{domain}-digest", attack, own, budget, seed)
    known = Facts(f"title of {domain}", **{"classes": CLASSES, "traits": declared, "budgets": tuple(budgets),
                                           "l2_caps": tuple(caps), **(facts or {})})
    rows = Rows(tmp_path / f"{model}-{evaluation.key[:12]}", evaluation, known)
    rows.add({
        "example": np.arange(n) if examples is None else examples, "label": [1] * n, "goal": [1] * n,
        "clean_prediction": np.where(success == 0, 0, 1), "prediction": np.where(success >= 0, 0, 1),
        "success_iteration": success, "queries": 1 + np.where(success < 0, budget, success),
        "l2": 0.1 * np.maximum(success, 0), "linf": [0.2] * n, "margin": [0.0] * n, "confidence": [0.5] * n,
        "steps": [b""] * n, **(columns or {})})
    return rows


def cell_of(tmp_path: Path, correct: Any, *, model: str = "m", domain: str = "d", corruption: str = "",
            severity: int = 0, examples: Any = None, labels: Any = None, classes: tuple[str, ...] = ("cat", "dog"),
            **facts: Any) -> Rows:
    """Return rows of images without an attack, of the classes 0, 1, 0, 1, ..., classified correctly or not as told."""
    n = len(correct)
    labels = np.arange(n) % 2 if labels is None else np.asarray(labels)
    predictions = np.where(correct, labels, (labels + 1) % len(classes))
    evaluation = Evaluation(model, model, domain, f"{domain}{corruption}{severity}", corruption=corruption,
                            severity=severity)
    known = Facts(f"title of {domain}", classes, **{"set": domain, **facts})
    rows = Rows(tmp_path / f"{model}-{domain}-{corruption}-{severity}", evaluation, known)
    rows.add({"example": np.arange(n) if examples is None else examples, "label": labels, "goal": labels,
              "clean_prediction": predictions, "prediction": predictions,
              "success_iteration": np.where(correct, -1, 0), "queries": [1] * n, "l2": [0.0] * n, "linf": [0.0] * n,
              "margin": [0.0] * n, "confidence": [1.0] * n, "steps": [b""] * n})
    return rows


def kept(rows: Rows) -> Rows:
    """Write rows, and return them."""
    rows.flush()
    return rows


def one(rows: Rows, **facts: Any) -> Measured:
    """Return a run by itself, with other facts if given."""
    (run,) = measure([rows])
    return dataclasses.replace(run, facts=dataclasses.replace(run.facts, **facts))
