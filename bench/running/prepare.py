"""A model made ready for the images of a domain: made fast, checked, and looked at for signs of a wrong set-up."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from bench.running.checks import check_model
from bench.running.flags import flagged
from framebench.attacks.simba import Predict
from framebench.domains import Domain
from framebench.models.blackbox import BlackBoxModel
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


def prepare(model: LoadedModel, domain: Domain, *, kind: str | None, device: torch.device, threads: int,
            say: Callable[[str], object], white_box: bool = False) -> Prepared:
    """Make a model ready, which takes seconds, and queries that may have to be paid for: once a model is enough.

    Args:
        model: The model.
        domain: Whose images it is to be used on.
        kind: The form that its rows so far were made with; None takes the fastest that agrees with the model.
        device: Where to compute.
        threads: CPU threads.
        say: Told every flag.
        white_box: Whether gradients with respect to the images are needed.

    Raises:
        InputError: if the model does not fit the images, or `kind` can't be had here.
    """
    example, _ = domain.load(domain.order[:32])
    predict: Predict
    if white_box:
        predict, kind = _Differentiable(model.module, device), "eager"
    else:
        predict = Predictor(model.module, example, device=device, threads=threads, kind=kind)
        kind = predict.kind
    check_model(model, predict, domain, example)
    black_box = isinstance(model.module, BlackBoxModel)  # only the queries of the attack, then
    return Prepared(predict, kind, [] if black_box else flagged(predict, domain, model, say))


def facts_of(model: LoadedModel, title: str, classes: Sequence[str], made: dict[str, Any]) -> dict[str, Any]:
    """Return the facts that are kept with a model's rows, whatever was done to the images.

    Args:
        model: The model.
        title: What the data are.
        classes: Their classes.
        made: Where the rows come from, `bench.running.provenance.provenance`.
    """
    return {"title": title, "classes": list(classes), "provenance": [made], "warnings": list(model.notes),
            "card": None if model.card is None else dataclasses.asdict(model.card)}


class _Differentiable:
    """A model as it is, for attacks that take gradients with respect to the images."""

    def __init__(self, module: torch.nn.Module, where: torch.device) -> None:
        self._module, self._device = module.to(where).eval().requires_grad_(False), where

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self._module(x.to(self._device))
        return logits
