"""Attacks by name. To add an attack, write its file and register it in `ATTACKS`."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from framebench.attacks.options import check_common
from framebench.errors import unknown

if TYPE_CHECKING:
    from framebench.attacks.base import Attack
    from framebench.user_code import UserFunction


class Factory(Protocol):
    """What makes an attack from its options."""

    def __call__(self, name: Any, *, budget: int, epsilon: float | None, max_queries: int | None,
                 options: Mapping[str, Any]) -> Attack:
        """Make the attack; see `make`."""


@dataclass(frozen=True)
class Entry:
    """An attack, or a family of attacks with names of one form.

    Attributes:
        summary: Description in one line.
        factory: Makes the attack.
        canonical: Maps a name to the one that rows are stored under.
    """

    summary: str
    factory: Factory
    canonical: Callable[[str], str] = str


def _in(module: str, function: str = "make") -> Callable[..., Any]:
    """Return a function of a module here, imported at the first call: importing torch and foolbox takes seconds."""
    return lambda *given, **named: getattr(importlib.import_module(f"framebench.attacks.{module}"),
                                           function)(*given, **named)


def _ours_but_l1(module: str) -> Factory:
    """Return the factory of a module; for L1, which it does not support, that of pyautoattack."""
    ours, theirs = _in(module), _in("pyautoattack_attacks")

    def make(name: str, *, options: Mapping[str, Any], **given: Any) -> Attack:
        attack: Attack = (theirs if options.get("norm") == "L1" else ours)(name, options=options, **given)
        return attack

    return make


#: Name of an attack, or form of a name -> what it is and how it is made.
ATTACKS = {
    "simba": Entry("SimBA, score-based", _in("simba")),
    "noise": Entry("random steps along SimBA's directions, the control", _in("noise")),
    "square": Entry("Square, score-based", _ours_but_l1("square")),
    "apgd": Entry("Auto-PGD, white-box", _ours_but_l1("apgd")),
    "autoattack": Entry("AutoAttack: APGD, FAB and Square one after the other, white-box", _in("autoattack")),
    "foolbox:NAME": Entry("any attack of foolbox, such as foolbox:HopSkipJumpAttack", _in("foolbox_attacks"),
                          _in("foolbox_attacks", "canonical")),
    "python:FILE.py:FUNCTION": Entry("a function of your own (docs/attacks.md)", _in("user"), _in("user", "canonical")),
}


def canonical(name: str | UserFunction) -> str:
    """Return the name that rows of an attack are stored under: for an alias of foolbox, that of its class.

    Raises:
        InputError: for an unknown attack.
    """
    return _entry(name).canonical(name) if isinstance(name, str) else str(name)


def make(name: str | UserFunction, *, budget: int, epsilon: float | None = None, max_queries: int | None = None,
         options: Mapping[str, Any] | None = None) -> Attack:
    """Make an attack from its name and options.

    Args:
        name: As the user gives it; see `ATTACKS`. A function at hand is a `UserFunction`.
        budget: The largest number of iterations; for attacks other than SimBA, of queries after the clean image.
        epsilon: The step (simba, noise) or the bound, in [0, 1] pixel units; None for the attack's default.
        max_queries: Hard limit of forward passes per image, or None.
        options: Further options of this attack, by name, as typed values.

    Raises:
        InputError: for an unknown attack, or an invalid option or value.
    """
    check_common(budget, epsilon, max_queries)
    return _entry(str(name)).factory(name, budget=budget, epsilon=epsilon, max_queries=max_queries,
                                     options=options or {})


def _entry(name: str) -> Entry:
    prefix, colon, _ = name.partition(":")
    for form, entry in ATTACKS.items():
        form_prefix, form_colon, _ = form.partition(":")
        if prefix == form_prefix and bool(colon) == bool(form_colon):
            return entry
    raise unknown("attack", name, ATTACKS)
