"""Names of data, attacks and metrics in the report."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from bench.analysis.answer import Kind, Question
from framebench.reports.format import number_of

#: Kind of a metric -> its name, in the order of the page.
KINDS: dict[Kind, str] = {"robust": "robust accuracy", "shift": "accuracy", "clean": "clean accuracy"}


def short_names(names: Iterable[str]) -> dict[str, str]:
    """Return the names of domains on a page: the last two folders of a path, or as many as make the names unique."""
    folders = {name: re.split(r"[/\\]", name.partition(":")[2]) for name in names}
    for depth in range(2, max(map(len, folders.values()), default=0)):
        short = {name: f"{name.partition(':')[0]}:{'/'.join(parts[-depth:])}" if len(parts) > depth else name
                 for name, parts in folders.items()}
        if len(set(short.values())) == len(short):
            return short
    return {name: name for name in folders}


class Labels:
    """Names of data and metrics in sentences and figures.

    Args:
        metrics: All metrics of the report.
    """

    def __init__(self, metrics: Sequence[Question]) -> None:
        self.domains = short_names(dict.fromkeys(question.domain for question in metrics))
        self._metrics = metrics

    def place(self, question: Question) -> str:
        """Return what distinguishes a metric from others of its kind: "under simba-pixel at 1,000 iterations"."""
        alike = [other for other in self._metrics if other.kind == question.kind]
        where = self.domains[question.domain]
        if question.kind == "robust":
            on = f" on {where}" if len({other.domain for other in alike}) > 1 else ""
            return f"under {question.attack} at {number_of(question.budget, 'iteration')}{on}"
        parts = sum(other.domain == question.domain for other in alike)
        return f"on {where}" + (f" ({question.part})" if parts > 1 else "")

    def title(self, question: Question) -> str:
        """Return the full title of a metric: "robust accuracy under simba-pixel at 1,000 iterations, cifar10"."""
        place, where = self.place(question), self.domains[question.domain]
        return f"{KINDS[question.kind]} {place}" + ("" if f"on {where}" in place else f", {where}")
