"""The facts that are stored with rows besides their evaluation: one declared schema, with a version."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from framebench.attacks.base import Traits

#: Raised when the fields of `Facts`, of an evaluation, or the columns of a row change.
VERSION = 1


@dataclass(frozen=True)
class Facts:
    """Facts about the rows of an evaluation.

    Attributes:
        title: Title of the data.
        classes: Classes of the data.
        traits: Traits of the attack; None without an attack.
        budgets: Budgets to be tabled, in iterations, ascending.
        l2_caps: Caps on L2 under which successes are tabled too, ascending.
        predictor: The form of the model that made the rows, "fused" or "eager"; None without rows.
        provenance: Versions, commit and machine of every run that made rows.
        warnings: Flags of the model on these images, and notes of its source.
        resizing: How the model resizes these images, such as "224x224 to 299x299 (bicubic)"; empty if it does not.
        card: The card of the model's checkpoint, if it has one.
        protocol: Name, text and overridden options of the protocol, if any.
        set: Digest of the set that a cell of corrupted images belongs to; else the domain's digest.
        clean: Digest of the same images without corruption, or empty.
        picture: The first images of a shifted domain side by side, as a data URI whose parameter ``ids`` names them;
            or empty.
    """

    title: str
    classes: tuple[str, ...]
    traits: Traits | None = None
    budgets: tuple[int, ...] = ()
    l2_caps: tuple[float, ...] = ()
    predictor: str | None = None
    provenance: tuple[dict[str, Any], ...] = ()
    warnings: tuple[str, ...] = ()
    resizing: str = ""
    card: dict[str, Any] | None = None
    protocol: dict[str, Any] | None = None
    set: str = ""
    clean: str = ""
    picture: str = ""

    def joined(self, other: Facts) -> Facts:
        """Return these facts joined with newer ones of the same rows. Single values are kept, except the protocol."""
        return dataclasses.replace(
            self, budgets=tuple(sorted({*self.budgets, *other.budgets})),
            l2_caps=tuple(sorted({*self.l2_caps, *other.l2_caps})),
            provenance=_union(self.provenance, other.provenance), warnings=_union(self.warnings, other.warnings),
            protocol=other.protocol or self.protocol,
            **{name: getattr(self, name) or getattr(other, name)
               for name in ("traits", "predictor", "resizing", "card", "set", "clean", "picture")})


def _union(first: tuple[Any, ...], second: tuple[Any, ...]) -> tuple[Any, ...]:
    return (*first, *(entry for entry in second if entry not in first))


T = typing.TypeVar("T")


def from_json(kind: type[T], values: Any) -> T:
    """Return a frozen dataclass from its JSON form, with all fields of their declared types.

    Raises:
        ValueError: for fields that are missing, unknown, or of another type.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"{kind.__name__} is no object")
    hints = typing.get_type_hints(kind)
    needed = {f.name for f in dataclasses.fields(kind) if f.default is dataclasses.MISSING  # type: ignore[arg-type]
              and f.default_factory is dataclasses.MISSING}
    if not needed <= set(values) <= set(hints):
        raise ValueError(f"{kind.__name__} has the fields {sorted(values)}")
    return kind(**{name: _read(hints[name], value, name) for name, value in values.items()})


def _read(hint: Any, value: Any, name: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        return _read(next(option for option in arguments if option is not type(None)), value, name)
    if origin is typing.Literal:
        if value in arguments:
            return value
    elif origin is tuple:
        if isinstance(value, list):
            return tuple(_read(arguments[0], entry, name) for entry in value)
    elif dataclasses.is_dataclass(hint):
        return from_json(typing.cast(type[Any], hint), value)
    elif origin is dict:
        if isinstance(value, dict):
            return value
    elif hint is float and type(value) in (int, float):
        return float(value)
    elif type(value) is hint:
        return value
    raise ValueError(f"{name} is a {type(value).__name__}")
