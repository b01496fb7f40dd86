"""A model made ready for the images of a domain: made fast, checked, and looked at for signs of a wrong set-up."""

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

#: Images that a model is made ready with.
_EXAMPLES = 32


@dataclass(frozen=True)
class Prepared:
    """A model ready for use.

    Attributes:
        predict: Maps images [n, C, H, W] in [0, 1] to logits [n, classes].
        kind: Its form, "fused" or "eager", to be stored with results: another form may differ in the last bits.
        flags: What looks wrong with it, besides the notes that it came with.
        provenance: Versions and the machine that it runs on.
        chunk: Images per pass of a thread; None where the model gets batches whole.
    """

    predict: Predict
    kind: str
    flags: tuple[str, ...]
    provenance: dict[str, Any]
    chunk: int | None = None

    def made(self, facts: Facts) -> Facts:
        """Return facts with those that hold once there are rows that this form has made, and not before."""
        return dataclasses.replace(facts, predictor=self.kind, warnings=self.flags, provenance=(self.provenance,))


def prepare(model: LoadedModel, domain: Domain, *, kind: str | None, how: Computing, passes: float,
            gradients: bool = False) -> Prepared:
    """Make a model ready. This takes seconds, and queries that may have to be paid for: once per model is enough.

    Args:
        model: The model.
        domain: The domain on whose images it is to be used.
        kind: The form that its rows so far were made with; None takes the fastest that agrees with the model.
        how: Where and with what to compute.
        passes: Images that it is to be asked about, about as many or more: a timing must repay itself.
        gradients: Whether gradients with respect to the images are needed.

    Raises:
        InputError: if the model does not fit the images, or `kind` can't be had here.
    """
    black_box = isinstance(model.module, BlackBoxModel)  # which is asked for the queries of the attack alone
    model, form = fitted(model, domain), predictor(model, domain, kind=kind, how=how, gradients=gradients)
    predict, (example, _) = WATCH.heard(form), domain.load(domain.order[:_EXAMPLES])
    check_model(model, predict, domain, example)
    flags = () if black_box else tuple(flagged(predict, domain, model))
    if not gradients:
        choose(form, model, example, how=how, passes=passes)
    return Prepared(predict, form.kind, flags, provenance(how.device), form.chunk)


def predictor(model: LoadedModel, domain: Domain, *, kind: str | None, how: Computing, gradients: bool,
              chunk: int | None = None) -> Predictor:
    """Return the fast form of a model `fitted` to a domain; see `prepare`, which also looks whether it is fit for use.

    Of `chunk` images at a time, if one is given and gives the same logits here.

    Raises:
        InputError: if `kind` can't be had here.
    """
    model, (example, _) = fitted(model, domain), domain.load(domain.order[:_EXAMPLES])
    where: dict[str, Any] = {"device": how.device, "threads": how.threads, "name": model.name}
    if gradients:
        return Differentiable(model.module, example, **where)
    made = Predictor(model.module, example, kind=kind, **where)
    if chunk is not None:
        made.take_chunks(chunk, example)
    return made


def fitted(model: LoadedModel, domain: Domain) -> LoadedModel:
    """Return a model that chooses among a domain's classes: of one that knows more, its other logits are left out.

    Raises:
        InputError: if it gives no scores to choose among.
    """
    own = model.classes
    if domain.logits is None or own == domain.classes:
        return model
    if isinstance(model.module, BlackBoxModel) and model.module.labels_only:
        raise InputError(f"the model {model.name} gives labels alone, so it can't choose among the "
                         f"{len(domain.classes)} classes of {domain.title}; use one that gives scores")
    return dataclasses.replace(model, module=_Chosen(model.module, domain.logits).eval(),
                               classes=own and tuple(own[logit] for logit in domain.logits if logit < len(own)))


def facts_of(model: LoadedModel, domain: Domain) -> dict[str, Any]:
    """Return the facts that are kept with a model's rows, whatever is done to the images."""
    return {"title": domain.title, "classes": tuple(domain.classes), "warnings": tuple(model.notes),
            "resizing": resizing(model.module, *domain.shape[:2]),
            "card": None if model.card is None else _plain(dataclasses.asdict(model.card))}


def _plain(value: Any) -> Any:
    """Return tuples as lists, as JSON has them, so that facts are the same before and after they are stored."""
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
