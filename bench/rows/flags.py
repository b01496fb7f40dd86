"""The form of a flag: a sentence that ends with a link to the page that says what to do."""

from __future__ import annotations

PAGE = "docs/flags.md"


def flag(anchor: str, sentence: str) -> str:
    """Return a flag: the sentence, with the anchor of the page."""
    return f"{sentence} ({PAGE}#{anchor})"
