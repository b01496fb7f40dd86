"""Unique names of models and domains in tables and in the report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence


def unique_names(pairs: Iterable[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """Return (name, digest) -> unique name: the name, with the start of the digest if several digests have it."""
    pairs = set(pairs)
    count = Counter(name for name, _ in pairs)
    return {(name, digest): name if count[name] == 1 else with_digest(name, digest) for name, digest in pairs}


def with_digest(name: str, digest: str) -> str:
    """Return a name with the start of a digest."""
    return f"{name} #{digest[:6]}"


def meant(labels: Sequence[str], name: str) -> list[str]:
    """Return the labels that a name can mean: itself, else those equal without digest, else without epoch."""
    plain = [label.rpartition(" #")[0] or label for label in labels]
    for meanings in (labels, plain, [label.partition("@")[0] for label in plain]):
        if matches := [label for label, meaning in zip(labels, meanings, strict=True) if meaning == name]:
            return matches
    return []
