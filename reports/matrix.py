"""Who differs from whom: a table of models x models in the place of one with a row for every pair."""

from __future__ import annotations

from collections.abc import Sequence

from bench.analysis.answer import Difference, Question
from framebench.reports.document import Block, Cell, Folded, Table, Text, table
from framebench.reports.format import points
from framebench.reports.names import Labels

#: Models from which on pairs are many.
_MANY = 3


def matrices(asked: Sequence[Question], pairs: Sequence[Block]) -> list[Block]:
    """Return the comparisons of models: one matrix per metric and, folded, all pairs; of two models the pair alone.

    Args:
        asked: The metrics.
        pairs: What shows all pairs in full.
    """
    several = [question for question in asked if question.differences and len(question.values) >= _MANY]
    if not several:
        return list(pairs)
    labels = Labels(asked)
    return [*(matrix(question, labels.title(question)) for question in several), Text(
        "Model of the row minus model of the column, in points, on the images that both have. In brackets and grey: "
        "the data do not show a difference.", "soft"), Folded("All pairs, with intervals and p-values", pairs)]


def matrix(question: Question, title: str) -> Table:
    """Return the differences between all models in one metric.

    Args:
        question: The metric, with several models.
        title: What it is called.
    """
    models = list(question.values)
    rows = [[Cell(model), *(_cell(question.differences.get((model, other))) for other in models)] for model in models]
    return table(f"matrix {title}", ["minus", *models], rows, caption=title[:1].upper() + title[1:])


def _cell(pair: Difference | None) -> Cell:
    if pair is None or not pair.n:
        return Cell("")
    text = points(pair.difference, sign=True).text
    return Cell(text if pair.shown else f"({text})", "", pair.difference, pair.low, pair.high, faint=not pair.shown)
