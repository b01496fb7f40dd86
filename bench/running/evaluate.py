"""The evaluator: images of a domain, through an attack or none and a model, to rows."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from bench.analysis.reporting import Results, write_report
from bench.options.report import ReportSettings
from bench.rows.adversarial import Adversarial
from bench.rows.facts import Facts
from bench.rows.parts import Rows
from bench.rows.pictures import Picture, Pictures
from bench.rows.store import Store
from bench.running.cells import picture_of
from bench.running.prepare import Prepared
from framebench.attacks.base import Attack, Finished, Predict
from framebench.attacks.verdict import judge
from framebench.domains.base import Domain
from framebench.errors import InputError

#: Attacked images that are kept for the report: at most PICTURES, and fewer large ones, with PICTURE_PIXELS together,
#: but PICTURES_AT_LEAST. A page with seven models then has about 10 MB, for images of 32x32 or 224x224.
PICTURES, PICTURE_PIXELS, PICTURES_AT_LEAST = 24, 24 * 96 * 96, 8


def columns(done: Finished) -> dict[str, object]:
    """Return finished images as columns of `bench.rows.parts.SCHEMA`."""
    return {"example": done.ids, "label": done.labels, "goal": done.goals, "clean_prediction": done.clean_prediction,
            "prediction": done.prediction, "success_iteration": done.success_iteration, "queries": done.queries,
            "l2": done.l2, "linf": done.linf, "margin": done.margin, "confidence": done.confidence,
            "steps": [steps.tobytes() for steps in done.steps]}


def pictured(domain: Domain) -> np.ndarray:
    """Return the ids of the images that are kept before and after an attack: the first ones, class-balanced."""
    height, width, _ = domain.shape
    count = min(PICTURES, max(PICTURES_AT_LEAST, PICTURE_PIXELS // (height * width)))
    return domain.first(min(count, len(domain)))


def attack_images(rows: Rows, attack: Attack, predict: Predict, domain: Domain, ids: np.ndarray, *, facts: Facts,
                  batch_size: int, report: Callable[[Finished], None], saved: Adversarial | None = None) -> None:
    """Attack images, and add their rows as they finish; `finish` joins them.

    Args:
        rows: The evaluation's rows; written every few seconds and, even after an error, at the end.
        attack: The attack, prepared for the model.
        predict: Maps images [n, C, H, W] in [0, 1] to logits; differentiable if the attack needs gradients.
        domain: The domain of the images.
        ids: The images, int64 [n]. If an image has a row already, that row counts.
        facts: Facts that hold once this run has added a row, such as the machine.
        batch_size: Images per forward pass.
        report: Called with finished images, for a progress bar.
        saved: Store of all attacked images, or None.
    """
    pictures, shown = Pictures(rows.folder, new=True), pictured(domain)
    attack = attack.watching(shown)

    def write() -> None:
        if saved is not None:
            saved.flush()  # before the rows: an image with a row is never attacked again
        try:
            pictures.flush()
        finally:  # on a full disk the rows, which are smaller, may still fit
            rows.flush()

    try:
        for done in attack.stream(predict, domain.load, ids, seed=rows.evaluation.seed, batch_size=batch_size):
            for i in np.flatnonzero(np.isin(done.ids, shown)):
                clean, _ = domain.load(done.ids[i : i + 1])
                pictures.add(int(done.ids[i]), Picture(clean[0].numpy(), done.x_adv[i].cpu().numpy(),
                                                       float(done.clean_confidence[i]), done.paths[i]))
            if saved is not None:
                saved.add(done.ids, done.labels, done.x_adv)
            rows.note(facts)
            rows.add(columns(done))
            report(done)
            if rows.due:
                write()
    finally:
        write()  # rows whose images can't be saved must not be written either


def finish(rows: Rows) -> None:
    """Join what `attack_images` and `classify_all` have written of an evaluation, here and in other processes."""
    rows.collect()
    rows.finish()
    Pictures(rows.folder).flush()


@contextmanager
def tabled(store: Store, settings: ReportSettings) -> Iterator[None]:
    """Write the report of the rows so far if the body adds some and then fails, as when a model fails on an image."""
    before = store.files()
    try:
        yield
    except Exception:
        if store.files() != before:
            with contextlib.suppress(InputError, OSError):  # the first error is the one to report
                write_report(store.out, settings)
        raise


def report_run(out: Path, settings: ReportSettings) -> Results:
    """Write the report of a run.

    Raises:
        InputError: if images were left out; the report of the others is written first.
    """
    results = write_report(out, settings)
    if settings.left_out:
        raise InputError(f"{len(settings.left_out)} slices were left out, as the report says; give the workers more "
                         "memory, or look into their logs; the same command tries these slices again")
    return results


def classify_all(images: Domain, requests: Sequence[tuple[Rows, Prepared, np.ndarray]], *, batch_size: int,
                 report: Callable[[int], object]) -> None:
    """Let models classify images and add their rows; `finish` joins them. Each image is loaded once for all models.

    Args:
        images: A domain.
        requests: For each model its rows, the prepared model, and the ids of the images to classify, int64 [n].
        batch_size: Images per forward pass.
        report: Called with the number of new rows, for a progress bar.
    """
    picture = picture_of(images)
    for rows, ready, _ in requests:
        rows.note(dataclasses.replace(ready.add_facts(rows.facts), picture=picture))
    try:
        for part, x, labels in images.batches(np.unique(np.concatenate([ids for *_, ids in requests])), batch_size):
            for rows, ready, ids in requests:
                chosen = np.isin(part, ids)
                if chosen.any():
                    classify(rows, ready.predict, _chosen(x, chosen), labels[chosen], part[chosen])
                    report(int(chosen.sum()))
    finally:
        for rows, *_ in requests:
            rows.flush()


def _chosen(x: torch.Tensor, chosen: np.ndarray) -> torch.Tensor:
    """Return the chosen images, in the same memory layout."""
    return x if chosen.all() else x[torch.from_numpy(chosen)].contiguous(memory_format=torch.channels_last)


def classify(rows: Rows, predict: Predict, x: torch.Tensor, labels: np.ndarray, ids: np.ndarray) -> None:
    """Classify images as they are, without an attack, and add their rows.

    Each costs one query; a misclassified image has the success iteration 0.

    Args:
        rows: The evaluation's rows; written every few seconds.
        predict: Maps images [n, C, H, W] in [0, 1] to logits.
        x: Images [n, C, H, W] in [0, 1].
        labels: int64 [n].
        ids: Example ids, int64 [n], none of which has a row.

    Raises:
        InputError: if a logit is not finite.
    """
    scores = predict(x).cpu().numpy()
    if not np.isfinite(scores).all():
        raise InputError(f"the model {rows.evaluation.model} returned logits that are not finite (NaN or infinite) for "
                         f"example {ids[~np.isfinite(scores).all(1)][0]}; its weights or its normalisation are wrong")
    verdict = judge(scores, labels)
    zeros = np.zeros(len(ids))
    rows.add({"example": ids, "label": labels, "goal": labels, "clean_prediction": verdict.prediction,
              "prediction": verdict.prediction,
              "success_iteration": np.where(verdict.prediction == labels, -1, 0),
              "queries": np.ones(len(ids), dtype=np.int64), "l2": zeros, "linf": zeros, "margin": verdict.margin,
              "confidence": verdict.confidence, "steps": [b""] * len(ids)})
    if rows.due:
        rows.flush()
