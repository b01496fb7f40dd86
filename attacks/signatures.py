"""Options of an attack, checked against the signature of the class or function that takes them."""

from __future__ import annotations

import dataclasses
import inspect
import numbers
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from framebench.attacks.options import SimBAOptions
from framebench.errors import InputError, unknown

#: Options that every attack is given by name.
COMMON = ("budget", "epsilon", "max_queries")

_SIMBA = {field.name for field in dataclasses.fields(SimBAOptions)} - set(COMMON)


def check_options(name: str, function: Callable[..., Any], options: Mapping[str, Any],
                  ours: Iterable[str] = COMMON) -> None:
    """Check that a function takes options: by name, and by type if it has an annotation or a default.

    Args:
        name: The attack, for messages.
        function: The function or class that takes the options.
        options: Their values.
        ours: Parameters that the benchmark sets itself.

    Raises:
        InputError: for an option that does not exist or is set by the benchmark, or a value of another type.
    """
    named = {key: parameter for key, parameter in inspect.signature(function).parameters.items()
             if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY)}
    known = [key for key in named if key not in set(ours)]
    for key, value in options.items():
        if key not in known:
            raise _misplaced(name, key, known, key in named)
        expected = _expected(function, named[key])
        if value is not named[key].default and not _fits(value, expected):
            raise InputError(f"{key} of {name} must be {_words(expected)}, not {value!r}")


def changed(options: Any, *without: str) -> dict[str, Any]:
    """Return the fields of an options dataclass that are not at their defaults, except those named in `without`."""
    return {field.name: value for field in dataclasses.fields(options)
            if field.name not in without and (value := getattr(options, field.name)) != field.default}


def plain(value: Any) -> Any:
    """Convert the value of an option to JSON types: tuples to lists, NumPy's numbers to Python's."""
    if isinstance(value, (list, tuple)):
        return [plain(entry) for entry in value]
    if isinstance(value, Mapping):
        return {key: plain(entry) for key, entry in value.items()}
    return value.item() if hasattr(value, "item") else value


def _misplaced(name: str, key: str, known: list[str], ours: bool) -> InputError:
    if key in _SIMBA:
        owners = "simba and noise" if key == "basis" else "simba"
        return InputError(f"{key} is an option of {owners}, not of {name}; leave it out")
    if ours:
        return InputError(f"the benchmark sets {key} of {name} itself, from epsilon, the budgets and the seed; leave "
                          "it out")
    if not known:
        return InputError(f"{name} has no options of its own; leave out {key}")
    return unknown(f"option of {name}", key, known)


def _expected(function: Callable[..., Any], parameter: inspect.Parameter) -> Any:
    """Return the type of a parameter: its annotation, or the type of its default, or Any."""
    if parameter.annotation is not parameter.empty:
        owner = function.__init__ if inspect.isclass(function) else function
        try:
            return typing.get_type_hints(owner)[parameter.name]
        except Exception:  # a name that only a type checker knows
            return Any
    default = parameter.default
    if default is None or default is parameter.empty:
        return Any
    # Integer defaults are common for parameters that take any number.
    return float if isinstance(default, int) and not isinstance(default, bool) else type(default)


def _fits(value: Any, expected: Any) -> bool:
    """Return whether a value is of a type; types that options don't use accept anything."""
    origin = typing.get_origin(expected)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, part) for part in typing.get_args(expected))
    if origin is typing.Literal:
        return any(type(value) is type(choice) and value == choice for choice in typing.get_args(expected))
    for kind, accepted in ((bool, bool), (int, numbers.Integral), (float, numbers.Real), (str, str),
                           (types.NoneType, types.NoneType)):
        if expected is kind:
            return isinstance(value, accepted) and isinstance(value, bool) <= (kind is bool)
    return isinstance(value, (list, tuple)) if (origin or expected) in (list, tuple) else True


def _words(expected: Any) -> str:
    origin = typing.get_origin(expected)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_words(part) for part in typing.get_args(expected))
    if origin is typing.Literal:
        return " or ".join(repr(choice) for choice in typing.get_args(expected))
    return {bool: "true or false", int: "a whole number", float: "a number", str: "text",
            types.NoneType: "none"}.get(expected, "a list, with commas")
