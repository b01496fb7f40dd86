"""What models and domains are called in tables and on the page: labels that are unique."""

from __future__ import annotations

import copy
import dataclasses
from collections import Counter
from collections.abc import Iterable, Sequence

from bench.rows.store import Rows


def unique_names(pairs: Iterable[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """Return what to call each name and digest: the name, with the start of the digest where it stands for several."""
    pairs = set(pairs)
    count = Counter(name for name, _ in pairs)
    return {(name, digest): name if count[name] == 1 else with_digest(name, digest) for name, digest in pairs}


def with_digest(name: str, digest: str) -> str:
    """Return a name that is told from others like it by the start of a digest."""
    return f"{name} #{digest[:6]}"


def named(labels: Sequence[str], name: str | None) -> str | None:
    """Return the one of unique labels that is of this name; None where none is, or several are."""
    found = [label for label in labels if name in (label, label.rpartition(" #")[0])]
    return found[0] if len(found) == 1 else None


def unique_labels(stored: Sequence[Rows], models: dict[tuple[str, str], str]) -> list[Rows]:
    """Return views of rows whose labels of models and domains are unique.

    A label that stands for several weights or several sets of images (a file that was edited, another seed of
    generated corruptions, official and generated files) gets the start of their digests.

    Args:
        stored: The rows.
        models: Label and digest of every model -> its unique label.
    """
    domains = unique_names((rows.evaluation.domain, _set_of(rows)) for rows in stored)
    views = []
    for rows in stored:
        view, old = copy.copy(rows), rows.evaluation
        view.evaluation = dataclasses.replace(old, model=models[old.model, old.model_digest],
                                              domain=domains[old.domain, _set_of(rows)])
        views.append(view)
    return views


def _set_of(rows: Rows) -> str:
    return str(rows.facts.get("set", rows.evaluation.domain_digest))
