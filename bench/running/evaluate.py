"""The evaluator: images of a domain, through an attack or none and a model, to rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch

from bench.rows.adversarial import Adversarial
from bench.rows.store import Pictures, Rows
from framebench.attacks.convention import NormalisedClip
from framebench.attacks.registry import stream
from framebench.attacks.simba import Finished, Options, Predict
from framebench.attacks.slots import judge
from framebench.domains.base import Domain
from framebench.errors import InputError

#: How many attacked images are kept; the report shows some of them, those that are right before the attack first.
PICTURES = 24


def columns(done: Finished) -> dict[str, object]:
    """Return finished images as columns of `bench.rows.store.SCHEMA`."""
    return {"example": done.ids, "label": done.labels, "goal": done.goals, "clean_prediction": done.clean_prediction,
            "prediction": done.prediction, "success_iteration": done.success_iteration, "queries": done.queries,
            "l2": done.l2, "linf": done.linf, "margin": done.margin, "confidence": done.confidence,
            "steps": [steps.tobytes() for steps in done.steps]}


def evaluate(rows: Rows, predict: Predict, domain: Domain, ids: np.ndarray, *, batch_size: int,
             report: Callable[[Finished], None], convention: NormalisedClip | None = None,
             saved: Adversarial | None = None) -> None:
    """Attack those of `ids` that have no row, and add their rows as they finish.

    Args:
        rows: The rows so far and what they are of; written every few seconds and, whatever happens, at the end.
        predict: Maps images [n, C, H, W] in [0, 1] to logits; differentiable if the attack is white-box.
        domain: Where the images come from.
        ids: int64 [n].
        batch_size: Images a forward pass.
        report: Called with what has finished, for a progress bar.
        convention: Where the attack clips, if not in [0, 1] pixel space.
        saved: Where to keep all attacked images, or None.
    """
    left = ids[~np.isin(ids, rows.ids)]
    if not len(left):
        return
    pictures = Pictures(rows)
    shown = set(domain.first(min(PICTURES, len(domain))).tolist())

    def write() -> None:
        pictures.flush()  # before the rows: an image that has a row is never attacked again
        if saved is not None:
            saved.flush()
        rows.flush()

    try:
        for done in _attacked(rows, predict, domain, left, batch_size, convention):
            for i in np.flatnonzero(np.isin(done.ids, list(shown))):
                clean, _ = domain.load(done.ids[i : i + 1])
                pictures.add(int(done.ids[i]), clean[0].numpy(), done.x_adv[i].cpu().numpy())
            if saved is not None:
                saved.add(done.ids, done.labels, done.x_adv)
            rows.add(columns(done))
            report(done)
            if rows.due:
                write()
    finally:
        write()


def _attacked(rows: Rows, predict: Predict, domain: Domain, ids: np.ndarray, batch_size: int,
              convention: NormalisedClip | None) -> Iterator[Finished]:
    evaluation = rows.evaluation
    if convention is None:
        return stream(evaluation.attack, evaluation.options, predict, domain.load, ids, seed=evaluation.seed,
                      batch_size=batch_size)
    options = {name: value for name, value in evaluation.options.items() if name != "convention"}
    return convention.stream(predict, domain.load, ids, Options(**options), seed=evaluation.seed,
                             batch_size=batch_size)


def classify(rows: Rows, predict: Predict, images: np.ndarray, labels: np.ndarray, ids: np.ndarray, *,
             batch_size: int, report: Callable[[int], None]) -> None:
    """Classify images as they are, no attack, and write their rows: a query each, success iteration 0 where wrong.

    Args:
        rows: The rows so far and what they are of; those of `ids` must be missing.
        predict: Maps images [n, C, H, W] in [0, 1] to logits.
        images: uint8 [n, H, W, C].
        labels: int64 [n].
        ids: Example ids, int64 [n].
        batch_size: Images a forward pass.
        report: Called with the number of images done.

    Raises:
        InputError: if a logit is not finite.
    """
    logits = []
    for start in range(0, len(ids), batch_size):
        x = torch.from_numpy(images[start : start + batch_size]).permute(0, 3, 1, 2).float().div_(255)
        logits.append(predict(x).cpu().numpy())
        report(len(x))
    scores = np.concatenate(logits)
    if not np.isfinite(scores).all():
        raise InputError(f"the model {rows.evaluation.model} returned logits that are not finite (NaN or infinite) for "
                       f"example {ids[~np.isfinite(scores).all(1)][0]}; its weights or its normalisation are wrong")
    verdict = judge(scores, labels, Options())
    nothing = np.zeros(len(ids))
    rows.add({"example": ids, "label": labels, "goal": labels, "clean_prediction": verdict.prediction,
              "prediction": verdict.prediction,
              "success_iteration": np.where(verdict.prediction == labels, -1, 0),
              "queries": np.ones(len(ids), dtype=np.int64), "l2": nothing, "linf": nothing, "margin": verdict.margin,
              "confidence": verdict.confidence, "steps": [b""] * len(ids)})
    rows.flush()
