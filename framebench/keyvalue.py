"""KEY=VALUE options: one grammar for attacks, trainings and ``state:`` names.

A value is ``true``, ``false`` or ``none`` (in any case), an integer, a number, a fraction such as ``8/255``, a list
with commas between its entries, or else text.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from framebench.errors import InputError

_WORDS = {"true": True, "false": False, "none": None}


def parse_pairs(texts: Iterable[str], flag: str) -> dict[str, Any]:
    """Read options such as ``steps=10`` into a dict; dashes in a key become underscores.

    Args:
        texts: The options.
        flag: What messages call them, such as ``--option``.

    Raises:
        InputError: for one that does not read KEY=VALUE, or is given twice.
    """
    options: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        key = key.strip().replace("-", "_")
        if not equals or not key.isidentifier():
            raise InputError(f"{flag} {text} must read KEY=VALUE, such as steps=10")
        if key in options:
            raise InputError(f"{flag} gives {key} twice; give it once")
        options[key] = parse_value(value.strip())
    return options


def parse_value(text: str) -> Any:
    """Read one value; a list becomes a tuple."""
    if "," in text:
        return tuple(parse_value(part.strip()) for part in text.split(",") if part.strip())
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    for kind in (int, parse_number):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def parse_number(text: str) -> float:
    """Read a number, which may be a fraction such as ``8/255``.

    Raises:
        ValueError: if it is neither.
    """
    numerator, slash, denominator = text.partition("/")
    if not slash:
        return float(text)
    if float(denominator) == 0:
        raise ValueError(f"{text} divides by zero")
    return float(numerator) / float(denominator)
