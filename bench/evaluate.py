"""The evaluator: images of a domain, through an attack and a model, to rows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from attacks.simba import Finished, Options, Predict, stream
from bench.store import Pictures, Rows
from domains.base import Domain

#: How many attacked images are kept to be shown.
PICTURES = 8


def columns(done: Finished) -> dict[str, object]:
    """Return finished images as columns of `bench.store.SCHEMA`."""
    return {"example": done.ids, "label": done.labels, "goal": done.goals, "clean_prediction": done.clean_prediction,
            "prediction": done.prediction, "success_iteration": done.success_iteration, "queries": done.queries,
            "l2": done.l2, "linf": done.linf, "margin": done.margin, "confidence": done.confidence,
            "steps": [steps.tobytes() for steps in done.steps]}


def evaluate(rows: Rows, predict: Predict, domain: Domain, ids: np.ndarray, *, batch_size: int,
             report: Callable[[Finished], None]) -> None:
    """Attack those of `ids` that have no row, and add their rows as they finish.

    Args:
        rows: The rows so far and what they are of; written every few seconds and, whatever happens, at the end.
        predict: Maps images [n, C, H, W] in [0, 1] to logits.
        domain: Where the images come from.
        ids: int64 [n].
        batch_size: Images a forward pass.
        report: Called with what has finished, for a progress bar.
    """
    left = ids[~np.isin(ids, rows.ids)]
    if not len(left):
        return
    pictures = Pictures(rows)
    shown = set(domain.first(min(PICTURES, len(domain))).tolist())

    def write() -> None:
        pictures.flush()  # before the rows: an image that has a row is never attacked again
        rows.flush()

    try:
        for done in stream(predict, domain.load, left, Options(**rows.evaluation.options), seed=rows.evaluation.seed,
                           batch_size=batch_size):
            for i in np.flatnonzero(np.isin(done.ids, list(shown))):
                clean, _ = domain.load(done.ids[i : i + 1])
                pictures.add(int(done.ids[i]), clean[0].numpy(), done.x_adv[i].cpu().numpy())
            rows.add(columns(done))
            report(done)
            if rows.due:
                write()
    finally:
        write()
