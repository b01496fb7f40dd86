"""Text from data, such as names of models, whose direction of writing must not reach what stands around it."""

from __future__ import annotations

import re
import unicodedata

#: Invisible characters that change the direction of what follows them (UAX #9).
_DIRECTING = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def plain(text: str) -> str:
    """Return a text without characters that change the direction of writing, and without control characters."""
    return "".join(c for c in _DIRECTING.sub("", text) if unicodedata.category(c) != "Cc" or c in "\n\t")


def isolated(text: str) -> str:
    """Return a text; one with letters that are written from right to left is isolated from what stands around it."""
    text = plain(text)
    rightwards = any(unicodedata.bidirectional(c) in ("R", "AL", "AN") for c in text)
    return f"\u2068{text}\u2069" if rightwards else text
