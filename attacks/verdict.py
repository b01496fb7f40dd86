"""Predictions, confidences and margins of images under attack, from a model's logits."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import torch

from framebench.errors import InputError


@dataclass
class Verdict:
    """Results for n images: arrays [n]. A lower score is a better attack."""

    score: np.ndarray
    margin: np.ndarray
    prediction: np.ndarray
    confidence: np.ndarray

    @classmethod
    def empty(cls, n: int) -> Verdict:
        """Return verdicts for n images, all 0."""
        return cls(np.zeros(n), np.zeros(n), np.zeros(n, dtype=np.int64), np.zeros(n))

    def put(self, rows: np.ndarray, source: Verdict, source_rows: np.ndarray | None = None) -> None:
        """Copy verdicts from `source_rows` of another (the same rows by default) into `rows`."""
        for field in fields(self):
            getattr(self, field.name)[rows] = getattr(source, field.name)[rows if source_rows is None else source_rows]


def judge(logits: np.ndarray, goal: np.ndarray, *, objective: str = "margin", targeted: bool = False) -> Verdict:
    """Compute scores, margins, predictions and confidences from logits.

    Args:
        logits: Float [n, classes].
        goal: The classes attacked, int64 [n].
        objective: The score: "margin" for z_goal - logsumexp of the other logits, "probability" for the softmax of the
            goal in the model's own precision, which saturates.
        targeted: Whether the attack moves towards the goal instead of away from it.
    """
    rows = np.arange(len(logits))
    z = logits.astype(np.float64)
    goal_logit = z[rows, goal]
    confidence = 1 / np.exp(z - z.max(1, keepdims=True)).sum(1)
    prediction = z.argmax(1)
    others = z.copy()
    others[rows, goal] = -np.inf
    top = others.max(1)
    margin = goal_logit - top - np.log(np.exp(others - top[:, None]).sum(1))
    score = margin
    if objective == "probability":
        powers = np.exp(logits - logits.max(1, keepdims=True))
        score = (powers[rows, goal] / powers.sum(1)).astype(np.float64)
    return Verdict(-score if targeted else score, margin, prediction, confidence)


def read_logits(logits: torch.Tensor, examples: np.ndarray) -> np.ndarray:
    """Return a model's logits for examples (ids, int64 [n]) as an array [n, classes].

    Raises:
        InputError: if they are not [n, classes] with two or more classes, or not finite.
    """
    if logits.dtype == torch.bfloat16:  # which NumPy lacks
        logits = logits.float()
    scores: np.ndarray = logits.detach().cpu().numpy()
    if scores.ndim != 2 or len(scores) != len(examples) or scores.shape[1] < 2:
        raise InputError(f"the model must return logits [{len(examples)}, classes] for {len(examples)} images, with "
                         f"two or more classes, not {list(scores.shape)}")
    finite = np.isfinite(scores).all(1)
    if not finite.all():
        raise InputError("the model returned logits that are not finite (NaN or infinite) for example "
                         f"{examples[~finite][0]}; its weights or its normalisation are wrong")
    return scores


def check_differentiable(logits: torch.Tensor) -> None:
    """Check that logits can be differentiated with respect to the images.

    Raises:
        InputError: if they can't.
    """
    if not logits.requires_grad:
        raise InputError("the model gives no gradients with respect to its images; choose an attack that needs "
                         "none, such as square")


def check_classes(classes: int, labels: np.ndarray) -> None:
    """Check that labels or targets are among a model's classes.

    Raises:
        InputError: if one is not.
    """
    if labels.max() >= classes:
        raise InputError(f"the model has {classes} classes, but there is a label or target {labels.max()}; it does not "
                         "fit this data set")
