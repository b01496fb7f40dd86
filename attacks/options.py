"""Options of other libraries' attacks: given as KEY=VALUE, checked against the signature of what takes them."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Iterable
from typing import Any

from framebench.errors import InputError, unknown

#: Distance of an attack of foolbox -> its bound that is usual on CIFAR-10; here, since to import foolbox takes seconds.
FOOLBOX_EPSILONS = {"l2": 1.0, "linf": 8 / 255}


def parse(given: Iterable[str]) -> dict[str, Any]:
    """Read options such as ``steps=10``: a value is a Python literal, or text where it is none.

    Raises:
        InputError: for one that does not read KEY=VALUE, or is given twice.
    """
    options: dict[str, Any] = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not equals or not key.isidentifier():
            raise InputError(f"--attack-option '{text}' must read KEY=VALUE, such as steps=10")
        if key in options:
            raise InputError(f"--attack-option {key} is given twice; give it once")
        try:
            options[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            options[key] = value
        if not isinstance(options[key], (bool, int, float, str, type(None))):
            raise InputError(f"--attack-option {key} must be a number, a truth value or a name, not {value}")
    return options


def check(name: str, function: Callable[..., Any], options: dict[str, Any], ours: Iterable[str]) -> None:
    """Check options against a signature.

    Args:
        name: The attack, for the message.
        function: What takes the options.
        options: Their values.
        ours: Parameters that the benchmark sets itself.

    Raises:
        InputError: for an option that the attack does not have, or that is the benchmark's.
    """
    own = set(ours)
    known = [key for key in inspect.signature(function).parameters if key not in own]
    for key in options:
        if key in own:
            raise InputError(f"the benchmark sets {key} of {name} itself, see --epsilon, --budgets and --seed")
        if not known:
            raise InputError(f"{name} takes no --attack-option; leave out {key}")
        if key not in known:
            raise unknown(f"option of {name}", key, known)


def one_of(name: str, value: Any, choices: tuple[str, ...]) -> None:
    """Check that an option's value is one of `choices`.

    Raises:
        InputError: if it is not.
    """
    if value not in choices:
        raise unknown(name, str(value), choices)
