"""Formats of numbers and text in the report."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from framebench.errors import printable
from framebench.reports.document import Cell


def visible(text: str) -> str:
    """Return a text with escaped control characters, such as those that change the direction of writing."""
    if text.isprintable():
        return text
    return "".join(letter if letter in "\n\t" else printable(letter) for letter in text)


def percent(value: float) -> str:
    """Return a fraction in percent with one decimal; a dash for nan."""
    return "–" if np.isnan(value) else f"{100 * value:.1f}%"


def number(value: float | None) -> str:
    """Return a number with up to four significant digits; a dash for None or nan."""
    return "–" if value is None or np.isnan(value) else f"{value:.4g}"


def distance(value: float | None) -> str:
    """Return an epsilon or a bound in [0, 1] pixel units, as a fraction of 255 if that is shorter: 8/255, but 0.2."""
    text = number(value)
    if value is None or np.isnan(value):
        return text
    steps = value * 255
    levels = f"{round(steps)}/255"
    return levels if abs(steps - round(steps)) < 1e-6 and 0 < len(levels) < len(text) else text


def number_of(count: int, one: str, many: str = "") -> str:
    """Return a count with its noun: "1 query", "2 queries". The plural is `many`, by default `one` with an s."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def from_to(counts: Collection[int]) -> str:
    """Return the range of some counts: "20", "20 to 1,000"."""
    least, most = min(counts), max(counts)
    return f"{least:,}" + (f" to {most:,}" if most > least else "")


def interval(low: float, high: float) -> str:
    """Return an interval of fractions in percent; empty for nan."""
    return "" if np.isnan(low) else f"[{100 * low:.1f}, {100 * high:.1f}]"


def p_value(value: float, bound: bool = False) -> str:
    """Return a p-value; with a ≤ sign if it is an upper bound."""
    if bound:
        return f"≤ {value:.2g}"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def rate(value: float | None, low: float = np.nan, high: float = np.nan, below: str = "") -> Cell:
    """Return a fraction in percent above its interval and `below`; a dash above `below` for None or nan."""
    if value is None or np.isnan(value):
        return Cell("–", below.strip())
    return _valued(percent(value), interval(low, high), below, value, low, high)


def points(value: float, low: float = np.nan, high: float = np.nan, below: str = "", *, digits: int = 1,
           sign: bool = False) -> Cell:
    """Return a difference of fractions in percentage points above its interval and `below`; a dash for nan."""
    if np.isnan(value):
        return Cell("–", below.strip())
    return _valued(f"{100 * value:{'+' if sign else ''}.{digits}f}", interval(low, high), below, value, low, high)


def count(value: int) -> Cell:
    """Return a count, with thousands separators."""
    return Cell(f"{value:,}", value=float(value))


def decimals(value: float, digits: int) -> Cell:
    """Return a number with `digits` decimals; a dash for nan."""
    return Cell("–") if np.isnan(value) else Cell(f"{value:.{digits}f}", value=float(value))


def _valued(text: str, bounds: str, below: str, value: float, low: float, high: float) -> Cell:
    has = not np.isnan(low)
    return Cell(text, (bounds + below).strip(), float(value), float(low) if has else None, float(high) if has else None)
