"""Figures for a paper: of a column's width, with letters of 7 to 9 points and embedded fonts."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

import matplotlib
from matplotlib.figure import Figure

#: Width of a paper's figures in inches; None for a page, where each figure has its own width.
_WIDTH: ContextVar[float | None] = ContextVar("width", default=None)
#: Sizes in points. Font type 42 is TrueType, which publishers require.
_STYLE = {"font.size": 8, "axes.labelsize": 8, "axes.titlesize": 8, "xtick.labelsize": 7, "ytick.labelsize": 7,
          "legend.fontsize": 8, "pdf.fonttype": 42, "axes.linewidth": 0.6, "svg.fonttype": "none",
          "svg.hashsalt": "framebench"}
#: No date: the same rows give the same bytes.
_METADATA = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {}}
KINDS = tuple(_METADATA)
_DOTS_PER_INCH = 300


@contextmanager
def paper(width: float) -> Iterator[None]:
    """Draw figures of this width, in inches, in a paper's style within the context; save them there too."""
    token = _WIDTH.set(width)
    try:
        with matplotlib.rc_context(_STYLE):
            yield
    finally:
        _WIDTH.reset(token)


def page_width(usual: float) -> float:
    """Return the width of a figure in inches: `usual` on a page, else that of the paper's figures."""
    width = _WIDTH.get()
    return usual if width is None else width


def fitting(room: float, each: float) -> int:
    """Return how many items of width `each` fit into `room`, at least one."""
    return max(int(room / each), 1)


def apart(ticks: Mapping[int, float], width: float) -> list[int]:
    """Return ticks whose labels do not touch; the first and the last are kept.

    Args:
        ticks: Tick -> its position on the axis, in any unit, ascending.
        width: Width of the figure, in inches.
    """
    first, *others = ticks
    if not others:
        return [first]
    last, span = others[-1], (ticks[others[-1]] - ticks[first]) or 1.0

    def near(one: int, other: int) -> bool:
        letters = (len(f"{one:,}") + len(f"{other:,}")) / 2 + 1
        return abs(ticks[one] - ticks[other]) / span * (width - 0.9) < 0.065 * letters

    kept = [first]
    for tick in others[:-1]:
        if not near(tick, kept[-1]) and not near(tick, last):
            kept.append(tick)
    return [*kept, last]


def shortened(text: str, letters: int) -> str:
    """Return a text of at most `letters` characters (8 or more); a longer one loses its middle."""
    letters = max(letters, 8)
    if len(text) <= letters:
        return text
    return f"{text[:(letters - 1) // 2]}…{text[-(letters // 2):]}"


def saved(figure: Figure, kind: str) -> bytes:
    """Return a figure as the content of a file of a format in `KINDS`."""
    out = io.BytesIO()
    figure.savefig(out, format=kind, metadata=_METADATA[kind], dpi=_DOTS_PER_INCH)
    return out.getvalue()
