"""Values of options, as Python and TOML give them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from typing import TYPE_CHECKING, Any

from bench.options.kinds import PAIRS, resolve
from framebench.errors import InputError, unknown
from framebench.keyvalue import parse_pairs

if TYPE_CHECKING:
    from bench.options.common import Option


def convert(option: Option, value: Any, name: str) -> Any:
    """Convert an option's value from Python or TOML: several values to a tuple, KEY=VALUE pairs to a dict.

    Args:
        option: The option.
        value: The value.
        name: Its name in messages.

    Raises:
        InputError: for an invalid value.
    """
    value = value.tolist() if hasattr(value, "tolist") else value  # numpy's
    if option.kind is PAIRS:
        return _pairs(value, name)
    if not option.many:
        return _single(option, value, name)
    values = _listed(value)
    if not values and option.many == "+":
        raise InputError(f"{name} needs one or more values")
    converted = tuple(_single(option, entry, name) for entry in values)
    if option.distinct and len(set(converted)) != len(converted):
        raise InputError(f"{name} {' '.join(map(str, converted))}: give each value once")
    return converted


def _listed(value: Any) -> list[Any]:
    """Return several values as a list. A module can be iterated too, but is one value."""
    if isinstance(value, Set):
        try:
            return sorted(value)  # the order of a set of texts differs between processes
        except TypeError:
            return list(value)
    return list(value) if isinstance(value, list | tuple | range | Iterator) else [value]


def _single(option: Option, value: Any, name: str) -> Any:
    if isinstance(value, str) and not value:  # as from an unset shell variable
        raise InputError(f"{name} is empty; give a value, or leave it out")
    try:
        converted = option.kind.take(value.tolist() if hasattr(value, "tolist") else value)
    except InputError:
        raise
    except (TypeError, ValueError):
        raise InputError(f"{name} must be {option.kind.word}, not {_shown(value)}") from None
    if option.choices and converted not in (choices := resolve(option.choices)):
        raise unknown(f"value of {name}", str(converted), map(str, choices))
    if option.rule is not None and not option.rule.holds(converted):
        raise InputError(f"{name} {option.rule.words}, not {converted}")
    return converted


def _pairs(value: Any, name: str) -> dict[str, Any]:
    if isinstance(value, Mapping):
        return {str(key).replace("-", "_"): tuple(entry) if isinstance(entry, list) else entry
                for key, entry in value.items()}
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
        raise InputError(f"{name} must be {PAIRS.word}, not {_shown(value)}")
    return parse_pairs(texts, name)


def _shown(value: Any) -> str:
    """Return a value as one line, for a message."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else f"{text[:80]}..."
