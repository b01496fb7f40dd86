"""How a flag is written: a sentence that ends with its anchor in the page that says what to do about it."""

from __future__ import annotations

PAGE = "docs/flags.md"


def flag(anchor: str, sentence: str) -> str:
    """Return a flag: the sentence, and where the page says what to do."""
    return f"{sentence} ({PAGE}#{anchor})"
