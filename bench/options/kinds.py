"""Kinds of option values, as given on the command line, in a protocol or in Python."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, get_args

from framebench.errors import InputError
from framebench.keyvalue import parse_number


@dataclass(frozen=True)
class Kind:
    """The kind of an option's values.

    Attributes:
        word: Its description in messages.
        take: Converts a value from Python or TOML; raises TypeError or ValueError if it is invalid.
        read: Parses a text from the command line; raises ValueError if it is invalid.
    """

    word: str
    take: Callable[[Any], Any]
    read: Callable[[str], Any] = str


@dataclass(frozen=True)
class Rule:
    """A condition on a value besides its kind.

    Attributes:
        holds: Tells whether a value meets it.
        words: The message about an invalid value, after the option's name.
    """

    holds: Callable[[Any], bool]
    words: str


def _exactly(kind: type) -> Callable[[Any], Any]:
    def take(value: Any) -> Any:
        if type(value) is not kind:  # a bool is an int in Python, but not here
            raise TypeError
        return value
    return take


def _number(value: Any) -> float:
    if isinstance(value, str) and "/" in value:  # a fraction; TOML has none
        return parse_number(value)
    if type(value) not in (int, float):
        raise TypeError
    return float(value)


def _text(value: Any) -> str:
    text = os.fspath(value)
    if not isinstance(text, str) or "\0" in text:  # no path can contain it
        raise TypeError
    return text


def _model(value: Any) -> Any:
    """Return a name or path as text, and wrap a module as a `framebench.models.registry.LoadedModel`."""
    if isinstance(value, str | os.PathLike):
        return os.path.expanduser(_text(value))
    from torch import nn

    from framebench.models.registry import LoadedModel, wrap

    if isinstance(value, LoadedModel):
        return value
    name, module = value if isinstance(value, tuple) and len(value) == 2 else (type(value).__name__, value)
    if callable(module) and not isinstance(module, nn.Module):
        raise InputError("a function is not a model by itself; give framebench.black_box(FUNCTION), whose function "
                         "gets arrays [n, H, W, C], or a torch.nn.Module")
    if not isinstance(name, str) or not isinstance(module, nn.Module):
        raise TypeError
    return wrap(module, name)


def _attack(value: Any) -> Any:
    """Return a name as it is, and wrap a function as a `framebench.user_code.UserFunction`."""
    if isinstance(value, str):
        return _text(value)
    from framebench.attacks.user import at_hand
    from framebench.user_code import UserFunction

    if not callable(value) and not isinstance(value, UserFunction):
        raise TypeError
    return value if isinstance(value, UserFunction) else at_hand(value)


def _domain(value: Any) -> Any:
    """Return a name or a domain as it is, and a path as the name of a folder domain."""
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, os.PathLike):
        return f"folder:{_text(value)}"
    from framebench.domains import Domain

    return _instance(Domain)(value)


def _dataset(value: Any) -> str:
    """Return the name of a set with training images, and a path as the name of a folder of them."""
    from framebench.domains import check_training

    name = _text(_domain(value))
    check_training(name)
    return name


def _instance(kind: type) -> Callable[[Any], Any]:
    def take(value: Any) -> Any:
        if not isinstance(value, kind):
            raise TypeError
        return value
    return take


def _device(value: Any) -> str:
    if isinstance(value, str):
        return _text(value)
    import torch

    return str(_instance(torch.device)(value))


class Shard(NamedTuple):
    """The I-th of N parts, with 1 <= I <= N."""

    part: int
    parts: int

    def __str__(self) -> str:
        return f"{self.part}/{self.parts}"


def _shard(value: Any) -> Shard:
    part, parts = map(int, value.split("/")) if isinstance(value, str) else map(_exactly(int), value)
    if not 1 <= part <= parts:
        raise ValueError
    return Shard(part, parts)


INTEGER = Kind("an integer", _exactly(int), int)
NUMBER = Kind("a number, or a fraction such as 8/255", _number, parse_number)
TEXT = Kind("a string", _text)
PATH = Kind("a path", lambda value: Path(os.path.expanduser(_text(value))))
DEVICE = Kind("a device, such as cpu or cuda:1", _device)
TRUTH = Kind("true or false", _exactly(bool))
MODEL = Kind("a name, a torch.nn.Module, or a pair (name, torch.nn.Module)", _model)
ATTACK = Kind("a name or a function", _attack)
DOMAIN = Kind("a name or a framebench.domains.Domain", _domain)
DATASET = Kind("a name or a path", _dataset)
SHARD = Kind("I/N with 1 <= I <= N, such as 1/4", _shard)
#: KEY=VALUE texts (`framebench.keyvalue`), or a mapping; converted as a whole.
PAIRS = Kind("KEY=VALUE pairs", _instance(Mapping))

AT_LEAST_ONE = Rule(lambda value: value >= 1, "must be at least 1")
POSITIVE = Rule(lambda value: 0 < value <= 1e6, "must be above 0 and finite, at most 1e6")
#: OpenMP ends the process if the system can't start the threads.
THREADS = Rule(lambda value: 1 <= value <= 1024, "must be at least 1 and at most 1024")
PIXELS = Rule(lambda value: 1 <= value <= 16384, "must be at least 1 and at most 16384")
SEED = Rule(lambda value: 0 <= value < 2**63, "must lie between 0 and 2^63 - 1")
SHARE = Rule(lambda value: 0 < value < 1, "must lie between 0 and 1, both excluded")


def resolve(choices: tuple[str, ...] | str) -> tuple[Any, ...]:
    """Return choices. A text MODULE:NAME names an iterable or a Literal that is slow to import."""
    if isinstance(choices, str):
        module, _, name = choices.partition(":")
        values = getattr(importlib.import_module(module), name)
        return get_args(values) or tuple(values)
    return choices
