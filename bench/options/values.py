"""Values of options, as Python and TOML give them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from typing import TYPE_CHECKING, Any

from bench.options.kinds import PAIRS, resolve
from framebench.errors import InputError, unknown
from framebench.keyvalue import parse_pairs

if TYPE_CHECKING:
    from bench.options.common import Option


def convert(how: Option, value: Any, what: str) -> Any:
    """Return an option's value, given from Python or TOML: several as a tuple, KEY=VALUE pairs as a dict.

    Args:
        how: The option.
        value: The value.
        what: What messages call it.

    Raises:
        InputError: for what the option does not take.
    """
    value = value.tolist() if hasattr(value, "tolist") else value  # numpy's
    if how.kind is PAIRS:
        return _pairs(value, what)
    if not how.many:
        return _single(how, value, what)
    values = _listed(value)
    if not values and how.many == "+":
        raise InputError(f"{what} needs one or more values")
    converted = tuple(_single(how, entry, what) for entry in values)
    if how.distinct and len(set(converted)) != len(converted):
        raise InputError(f"{what} {' '.join(map(str, converted))}: give each value once")
    return converted


def _listed(value: Any) -> list[Any]:
    """Return the values of an option that takes several. A module can be iterated too, but is one value."""
    if isinstance(value, Set):
        try:
            return sorted(value)  # a set of texts has another order in every process
        except TypeError:
            return list(value)
    return list(value) if isinstance(value, list | tuple | range | Iterator) else [value]


def _single(how: Option, value: Any, what: str) -> Any:
    if isinstance(value, str) and not value:  # as of an unset variable of the shell
        raise InputError(f"{what} is empty; give a value, or leave it out")
    try:
        converted = how.kind.take(value.tolist() if hasattr(value, "tolist") else value)
    except InputError:
        raise
    except (TypeError, ValueError):
        raise InputError(f"{what} must be {how.kind.word}, not {_shown(value)}") from None
    if how.choices and converted not in (choices := resolve(how.choices)):
        raise unknown(f"value of {what}", str(converted), map(str, choices))
    if how.rule is not None and not how.rule.holds(converted):
        raise InputError(f"{what} {how.rule.words}, not {converted}")
    return converted


def _pairs(value: Any, what: str) -> dict[str, Any]:
    if isinstance(value, Mapping):
        return {str(key).replace("-", "_"): tuple(entry) if isinstance(entry, list) else entry
                for key, entry in value.items()}
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
        raise InputError(f"{what} must be {PAIRS.word}, not {_shown(value)}")
    return parse_pairs(texts, what)


def _shown(value: Any) -> str:
    """Return a value for a message: in one line, whatever it is."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else f"{text[:80]}..."
