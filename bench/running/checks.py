"""Loads models, and checks that they fit each other and a domain."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence

import torch

from bench.options.common import WithImages
from framebench.domains import Domain, Reading
from framebench.errors import InputError
from framebench.models.blackbox import BlackBoxModel
from framebench.models.registry import LoadedModel, default_models, in_bfloat16, load, without_weights
from framebench.user_code import foreign, reason


def load_models(models: Sequence[str | LoadedModel], precision: str = "fp32", *,
                spread: bool = False) -> list[LoadedModel]:
    """Load models by name, or the default ones if none is given. Loaded models are taken as they are.

    Args:
        models: Names, or loaded models.
        precision: "fp32", or "bf16" for models that compute in bfloat16.
        spread: Whether workers compute, so that this process needs no weights. Then it keeps only those of the first
            model, which `reading_for` may run, and a thousand models fit into memory.

    Raises:
        InputError: for names that can't be loaded, and for models that tables could not tell apart.
    """
    names = list(models) or default_models()
    if not names:
        raise InputError("no checkpoint is shipped with this version; name models with --models")
    loaded: list[LoadedModel] = []
    for name in names:
        model = name if isinstance(name, LoadedModel) else load(name)
        model = in_bfloat16(model) if precision == "bf16" else model
        loaded.append(without_weights(model) if spread and loaded else model)
    _check_distinct(loaded)
    return loaded


def reading_for(options: WithImages, models: Sequence[LoadedModel], domains: Sequence[str | Domain]) -> Reading:
    """Return how image files are read. The models' classes tell the labels of a user's class folders."""
    classes = tuple(dict.fromkeys(model.classes for model in models if model.classes is not None))
    folders = any(isinstance(name, str) and name.startswith("folder") for name in domains)
    return reading(options, classes, _logits(models[0]) if folders and not classes else None)


def reading(options: WithImages, classes: tuple[tuple[str, ...], ...] = (), logits: int | None = None) -> Reading:
    """Return how image files are read, with what is known about their classes (`Reading`)."""
    return Reading(options.image_size, options.resize, options.interpolation, options.skip_broken, classes, logits)


@torch.inference_mode()
def _logits(model: LoadedModel) -> int | None:
    """Return the number of a model's logits; None if it takes no small image, or is a black box with costly queries."""
    if isinstance(model.module, BlackBoxModel):
        return None
    for size in (32, 224):
        with contextlib.suppress(InputError), foreign(lambda error: InputError(reason(error))):
            return int(model.module(torch.zeros(2, 3, size, size)).shape[1])
    return None


def _check_distinct(models: Sequence[LoadedModel]) -> None:
    """Check that no two models have the same name or digest, since tables and rows could not tell them apart."""
    for i, model in enumerate(models):
        for other in models[:i]:
            if model.name == other.name:
                remedy = "" if model.given and other.given else "; give each as (name, module)"
                raise InputError(f"two models have the same name {model.name}; tables could not tell them "
                                 f"apart{remedy}")
            if model.digest == other.digest:
                raise InputError(f"{other.name} and {model.name} are the same model; name it once")


def check_classes(model: LoadedModel, domain: Domain) -> None:
    """Check that a model was trained for the classes of a domain, if it tells its classes.

    Raises:
        InputError: if the domain has one class, or the model was trained for other classes, or in another order.
    """
    if len(domain.classes) < 2:
        raise InputError(f"{domain.title} has one class, {domain.classes[0]}; a classifier needs two or more: name all "
                         "classes of the model in a classes.txt, or add their folders")
    classes = model.classes
    if classes is None or classes == domain.classes:
        return
    if domain.logits is None or max(domain.logits) >= len(classes) \
            or tuple(classes[logit] for logit in domain.logits) != domain.classes:
        raise InputError(f"the model {model.name} was trained for other classes ({', '.join(classes[:3])}, "
                         f"...) than those of {domain.title} ({', '.join(domain.classes[:3])}, ...), or for another "
                         "order of them; name a data set with the model's classes")


def check_model(model: LoadedModel, predict: Callable[[torch.Tensor], torch.Tensor], domain: Domain,
                example: torch.Tensor) -> None:
    """Check that a model fits the classes and the images of a domain.

    Args:
        model: The model.
        predict: The model as it is used: maps images [n, C, H, W] in [0, 1] to logits.
        domain: The domain.
        example: Some of its images.

    Raises:
        InputError: if the outputs are not finite logits [n, classes], or the model was trained for other classes; and
            whatever `predict` raises.
    """
    check_classes(model, domain)
    logits = predict(example)
    if logits.ndim != 2 or logits.shape[1] != len(domain.classes):
        raise InputError(f"the model {model.name} returns {list(logits.shape[1:])} values per image, but the data have "
                         f"{len(domain.classes)} classes ({', '.join(domain.classes[:3])}, ...); name a model with "
                         "these classes, or a data set with the model's")
    if not torch.isfinite(logits).all():
        raise InputError(f"the model {model.name} returns logits that are not finite (NaN or infinite); its weights or "
                         "its normalisation are wrong")
