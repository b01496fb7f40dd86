"""Prepares a model for the images of a domain: makes it fast, checks it, and looks for signs of a wrong set-up."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from bench.rows.facts import Facts
from bench.running.checks import check_model
from bench.running.computing import Computing
from bench.running.flags import flagged
from bench.running.provenance import provenance
from bench.running.timing import choose
from bench.running.watch import WATCH
from framebench.attacks.base import Predict
from framebench.domains import Domain
from framebench.errors import InputError
from framebench.models.blackbox import BlackBoxModel
from framebench.models.differentiable import Differentiable
from framebench.models.foreign import resizing
from framebench.models.predictor import Predictor
from framebench.models.registry import LoadedModel

#: Images with which a model is prepared.
_EXAMPLES = 32


@dataclass(frozen=True)
class Prepared:
    """A model ready for use.

    Attributes:
        predict: Maps images [n, C, H, W] in [0, 1] to logits [n, classes].
        kind: Its form, "fused" or "eager", which is stored with rows: another form may differ in the last bits.
        flags: What looks wrong with it, besides the notes of its source.
        provenance: Versions and machine.
        chunk: Images per pass of a thread; None if the model gets whole batches.
    """

    predict: Predict
    kind: str
    flags: tuple[str, ...]
    provenance: dict[str, Any]
    chunk: int | None = None

    def add_facts(self, facts: Facts) -> Facts:
        """Return facts with those that hold once this form has made rows."""
        return dataclasses.replace(facts, predictor=self.kind, warnings=self.flags, provenance=(self.provenance,))


def prepare(model: LoadedModel, domain: Domain, *, kind: str | None, setup: Computing, passes: float,
            gradients: bool = False) -> Prepared:
    """Prepare a model. This takes seconds, and queries that may be costly, so it is done once per model.

    Args:
        model: The model.
        domain: The domain of its images.
        kind: The form that made its rows so far; None for the fastest that agrees with the model.
        setup: Device, threads and batch size.
        passes: Roughly how many images it will classify, at least: a timing must pay off.
        gradients: Whether gradients with respect to the images are needed.

    Raises:
        InputError: if the model does not fit the images, or `kind` can't be had here.
    """
    black_box = isinstance(model.module, BlackBoxModel)  # its flags would cost queries
    model, form = fitted(model, domain), predictor(model, domain, kind=kind, setup=setup, gradients=gradients)
    predict, (example, _) = WATCH.heard(form), domain.load(domain.order[:_EXAMPLES])
    check_model(model, predict, domain, example)
    flags = () if black_box else tuple(flagged(predict, domain, model))
    if not gradients:
        choose(form, model, example, setup=setup, passes=passes)
    return Prepared(predict, form.kind, flags, provenance(setup.device), form.chunk)


def predictor(model: LoadedModel, domain: Domain, *, kind: str | None, setup: Computing, gradients: bool,
              chunk: int | None = None) -> Predictor:
    """Return the fast form of a model for a domain, without the checks of `prepare`.

    If `chunk` is given and does not change the logits, the form takes this number of images at a time.

    Raises:
        InputError: if `kind` can't be had here.
    """
    model, (example, _) = fitted(model, domain), domain.load(domain.order[:_EXAMPLES])
    settings: dict[str, Any] = {"device": setup.device, "threads": setup.threads, "name": model.name}
    if gradients:
        return Differentiable(model.module, example, **settings)
    form = Predictor(model.module, example, kind=kind, **settings)
    if chunk is not None:
        form.take_chunks(chunk, example)
    return form


def fitted(model: LoadedModel, domain: Domain) -> LoadedModel:
    """Return a model with the logits of a domain's classes only.

    Raises:
        InputError: if the model has more classes than the domain and returns labels only.
    """
    classes = model.classes
    if domain.logits is None or classes == domain.classes:
        return model
    if isinstance(model.module, BlackBoxModel) and model.module.labels_only:
        raise InputError(f"the model {model.name} gives labels alone, so it can't choose among the "
                         f"{len(domain.classes)} classes of {domain.title}; use one that gives scores")
    return dataclasses.replace(model, module=_Chosen(model.module, domain.logits).eval(),
                               classes=classes and tuple(classes[i] for i in domain.logits if i < len(classes)))


def facts_of(model: LoadedModel, domain: Domain) -> dict[str, Any]:
    """Return the facts of a model's rows that depend on model and domain only."""
    return {"title": domain.title, "classes": tuple(domain.classes), "warnings": tuple(model.notes),
            "resizing": resizing(model.module, *domain.shape[:2]),
            "card": None if model.card is None else _plain(dataclasses.asdict(model.card))}


def _plain(value: Any) -> Any:
    """Return tuples as lists, like JSON, so that storing does not change facts."""
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    return [_plain(entry) for entry in value] if isinstance(value, (list, tuple)) else value


class _Chosen(nn.Module):
    """Some of a model's logits."""

    index: torch.Tensor

    def __init__(self, model: nn.Module, logits: tuple[int, ...]) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("index", torch.tensor(logits), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.model(x)
        return logits[:, self.index]
