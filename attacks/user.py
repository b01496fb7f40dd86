"""A user's function as an attack, named ``python:FILE.py:FUNCTION`` or given as an object; see docs/attacks.md."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, get_args

import torch
from torch.nn import functional as F  # noqa: N812

from framebench.attacks.base import Needs, Traits, label
from framebench.attacks.options import check_common
from framebench.attacks.queries import NORMS, CountedModel
from framebench.attacks.signatures import check_options, plain
from framebench.attacks.single import SingleImageAttack
from framebench.errors import InputError, unknown
from framebench.identity import fingerprint
from framebench.seeding import generator
from framebench.user_code import UserFunction, load_function, settings_of

#: Attributes of a function that describe the attack.
_ATTRIBUTES = ("needs", "norm", "epsilon")

#: Keyword arguments that the function gets besides its options.
_GIVEN = ("epsilon", "budget", "generator")


class UserAttack(SingleImageAttack):
    """A function as an attack: ``FUNCTION(model, images, labels, *, epsilon, budget, generator) -> images``.

    Args:
        attack: ``python:FILE.py:FUNCTION``, or what `at_hand` returns.
        budget: Queries after the clean image's.
        epsilon: The bound; None for the function's attribute `epsilon`.
        max_queries: Hard limit of forward passes per image, or None.
        options: Further keyword arguments of the function.

    Raises:
        InputError: if the function can't be loaded or called like this, or has invalid attributes.
    """

    def __init__(self, attack: str | UserFunction, budget: int, epsilon: float | None, max_queries: int | None,
                 options: Mapping[str, Any]) -> None:
        name = str(attack)
        user = load_function("python", name.removeprefix("python:")) if isinstance(attack, str) else attack
        self.name, self.max_queries, self._function, self._options = name, max_queries, user.function, dict(options)
        _check_call(name, user.function, options)
        needs, norm, usual = _attributes(name, user.function)
        epsilon = usual if epsilon is None else epsilon
        if norm is not None and epsilon is None:
            raise InputError(f"{name} is bounded in {norm} but has no epsilon; give one, or set the function's "
                             "attribute epsilon")
        self.settings = plain({"options": options, "epsilon": epsilon, "max_queries": max_queries, "budget": budget,
                               "source": hashlib.sha256(user.source).hexdigest()})
        # The function knows the budget, so what it does up to query k may depend on it.
        self.traits = Traits(
            label(f"python:{user.label}", ["white-box"] if needs == "gradients" else [], max_queries=max_queries,
                  schedule=budget, options=options, epsilon=epsilon, usual=usual),
            needs=needs, budget=budget, epsilon=epsilon, norm=norm, bound=None if norm is None else epsilon,
            prefix=False)

    def run(self, model: CountedModel, x: torch.Tensor, y: torch.Tensor, seed: int, example: int) -> None:
        """See `SingleImageAttack.run`. The image that the function returns is forwarded too, if it was not before."""
        checked = _CheckedModel(f"{self.name}, on example {example},", model, x.clone(), self.traits.needs)
        draws = torch.Generator().manual_seed(int(generator(seed, "user-attack", example).integers(2**62)))
        budget = min(self.traits.budget, (self.max_queries or self.traits.budget + 1) - 1)
        result = self._function(checked, x, y, epsilon=self.traits.epsilon, budget=budget, generator=draws,
                                **self._options)
        if result is not None:
            checked.judge(result)


class _CheckedModel:
    """The model that the function gets: it checks images, and returns no more than the function needs."""

    def __init__(self, who: str, model: CountedModel, clean: torch.Tensor, needs: Needs) -> None:
        self._who, self._model, self._clean, self._needs = who, model, clean, needs
        self._seen = {_digest(clean)}

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Map images [m, C, H, W] in [0, 1] to logits [m, classes], or to one-hot rows of the predicted classes.

        Raises:
            InputError: for anything else than such images.
        """
        x = self._checked(images, "asked about")
        self._seen.update(_digest(row) for row in x)
        logits = self._model(x)
        return F.one_hot(logits.argmax(1), logits.shape[1]).to(logits) if self._needs == "labels" else logits

    def judge(self, result: Any) -> None:
        """Forward the image that the function has returned, unless it was forwarded before.

        Raises:
            InputError: if it is not one image of the shape that the function was given.
        """
        x = self._checked(result, "returned").detach()
        if len(x) != 1:
            raise InputError(f"{self._who} returned {len(x)} images for one; return one, or None")
        if _digest(x) not in self._seen:
            self._model(x)

    def _checked(self, images: Any, verb: str) -> torch.Tensor:
        if not isinstance(images, torch.Tensor) or not images.is_floating_point():
            kind = f"a tensor of {images.dtype}" if isinstance(images, torch.Tensor) else f"a {type(images).__name__}"
            raise InputError(f"{self._who} {verb} {kind}; images are floating-point tensors")
        if images.ndim != 4 or images.shape[1:] != self._clean.shape[1:]:
            raise InputError(f"{self._who} {verb} images of the shape {list(images.shape)}; they must be "
                             f"[m, {', '.join(map(str, self._clean.shape[1:]))}]")
        if images.numel() and not (float(images.detach().min()) >= 0 and float(images.detach().max()) <= 1):
            raise InputError(f"{self._who} {verb} an image that is not finite or not in [0, 1]; clamp it to [0, 1]")
        return images.to(self._clean) if self._needs == "gradients" else images.detach().to(self._clean)


def at_hand(function: Callable[..., Any]) -> UserFunction:
    """Wrap a function object, identified by its code (`framebench.identity`) and its settings."""
    settings = {name: getattr(function, name) for name in _ATTRIBUTES if hasattr(function, name)}
    return UserFunction(function, getattr(function, "__name__", type(function).__name__),
                        fingerprint(function, settings).encode())


def canonical(name: str) -> str:
    """Return ``python:FILE:FUNCTION``, without the folder; the file is not read.

    Raises:
        InputError: if the name has another form.
    """
    where, _, function = name.removeprefix("python:").rpartition(":")
    if not where or not function:
        raise InputError(f"the attack '{name}' must read python:FILE.py:FUNCTION")
    return f"python:{Path(where).name.removesuffix('.py')}:{function}"


def make(name: str | UserFunction, *, budget: int, epsilon: float | None, max_queries: int | None,
         options: Mapping[str, Any]) -> UserAttack:
    """Make the attack; see `framebench.attacks.registry.make`."""
    return UserAttack(name, budget, epsilon, max_queries, options)


def _check_call(name: str, function: Callable[..., Any], options: Mapping[str, Any]) -> None:
    """Check that the function can be called with these options, and names each of them."""
    form = f"{name} must take (model, images, labels, *, epsilon, budget, generator), and its options with defaults"
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        raise InputError(f"{form}; its parameters can't be read") from None
    check_options(name, function, options, (*list(signature.parameters)[:3], *_GIVEN))
    try:
        signature.bind(None, None, None, **dict.fromkeys(_GIVEN), **options)
    except TypeError as error:
        raise InputError(f"{form} ({error})") from None


def _attributes(name: str, function: Callable[..., Any]) -> tuple[Needs, str | None, float | None]:
    """Return the attributes of the function: the access that it needs, its norm, and its default epsilon."""
    settings = settings_of(function, name, _ATTRIBUTES, alike=0.6)  # so that `eps` is recognised
    needs, norm = settings.get("needs", "scores"), settings.get("norm")
    if needs not in get_args(Needs):
        raise unknown(f"needs of {name}", str(needs), get_args(Needs))
    if norm is not None and norm not in NORMS:
        raise unknown(f"norm of {name}", str(norm), NORMS)
    usual = settings.get("epsilon")
    if usual is not None and (isinstance(usual, bool) or not isinstance(usual, (int, float))):
        raise InputError(f"the attribute epsilon of {name} must be a number, not {usual!r}")
    check_common(0, usual, None)
    return needs, norm, usual


def _digest(image: torch.Tensor) -> bytes:
    """Return a hash of an image."""
    return hashlib.blake2b(image.detach().contiguous().numpy().tobytes(), digest_size=16).digest()
