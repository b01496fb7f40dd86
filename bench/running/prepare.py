"""A model made ready for the images of a domain: made fast, checked, and looked at for signs of a wrong set-up."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from bench.running.checks import check_model
from bench.running.computing import Computing
from bench.running.flags import flagged
from framebench.attacks.base import Predict
from framebench.domains import Domain
from framebench.models.blackbox import BlackBoxModel
from framebench.models.differentiable import Differentiable
from framebench.models.predictor import Predictor
from framebench.models.registry import LoadedModel


@dataclass(frozen=True)
class Prepared:
    """A model ready for use.

    Attributes:
        predict: Maps images [n, C, H, W] in [0, 1] to logits [n, classes].
        kind: Its form, "fused" or "eager", to be stored with results: another form may differ in the last bits.
        flags: What looks wrong with it, besides the notes that it came with.
    """

    predict: Predict
    kind: str
    flags: list[str]


def prepare(model: LoadedModel, domain: Domain, *, kind: str | None, how: Computing,
            gradients: bool = False) -> Prepared:
    """Make a model ready. This takes seconds, and queries that may have to be paid for: once per model is enough.

    Args:
        model: The model.
        domain: The domain on whose images it is to be used.
        kind: The form that its rows so far were made with; None takes the fastest that agrees with the model.
        how: Where and with what to compute.
        gradients: Whether gradients with respect to the images are needed.

    Raises:
        InputError: if the model does not fit the images, or `kind` can't be had here.
    """
    example, _ = domain.load(domain.order[:32])
    predict = Differentiable(model.module, example, device=how.device, threads=how.threads) if gradients else \
        Predictor(model.module, example, device=how.device, threads=how.threads, kind=kind)
    check_model(model, predict, domain, example)
    black_box = isinstance(model.module, BlackBoxModel)  # which is asked for the queries of the attack alone
    return Prepared(predict, predict.kind, [] if black_box else flagged(predict, domain, model))


def facts_of(model: LoadedModel, domain: Domain) -> dict[str, Any]:
    """Return the facts that are kept with a model's rows, whatever is done to the images."""
    return {"title": domain.title, "classes": tuple(domain.classes), "warnings": tuple(model.notes),
            "card": None if model.card is None else _plain(dataclasses.asdict(model.card))}


def _plain(value: Any) -> Any:
    """Return tuples as lists, as JSON has them, so that facts are the same before and after they are stored."""
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    return [_plain(entry) for entry in value] if isinstance(value, (list, tuple)) else value
