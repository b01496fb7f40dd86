"""One colour, dash pattern and marker per model, the same in every figure of a report."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

# (on white, on dark): Okabe & Ito's palette, which colour-blind readers can distinguish, without its yellow, too faint
# on white, and with a purple and a grey. All have a contrast of at least 3:1 to their background (WCAG 2.2, 1.4.11).
PALETTE = (
    ("#0072B2", "#4FA8DE"), ("#D55E00", "#F0864A"), ("#00805F", "#2DB892"), ("#BA5D92", "#D98DB8"),
    ("#2A8CC4", "#7CC4EE"), ("#AD7400", "#E6A938"), ("#7F3C8D", "#B586C2"), ("#444444", "#C8C8C8"))
#: Colours on white.
COLORS = tuple(light for light, _ in PALETTE)
#: Matplotlib's names of dash patterns.
DASHES = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")


@dataclass(frozen=True)
class Style:
    """The style of a model.

    Attributes:
        color: Colour on a light background, "#rrggbb".
        dark: Colour on a dark background.
        dashes: Matplotlib's name of a dash pattern.
        marker: Matplotlib's name of a marker.
    """

    color: str
    dark: str
    dashes: str
    marker: str


def model_styles(models: Iterable[str]) -> dict[str, Style]:
    """Return a style per model; the first 8 differ in colour, and the first 32 in colour or dashes."""
    styles = {}
    for place, model in enumerate(dict.fromkeys(models)):
        round_, color = divmod(place, len(PALETTE))
        styles[model] = Style(*PALETTE[color], DASHES[round_ % len(DASHES)], MARKERS[(color + round_) % len(MARKERS)])
    return styles
