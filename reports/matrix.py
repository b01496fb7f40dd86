"""Differences between all models, as a matrix instead of one row per pair."""

from __future__ import annotations

from collections.abc import Sequence

from bench.analysis.answer import Difference, Question
from framebench.reports.document import Block, Cell, Folded, Table, Text, table
from framebench.reports.format import points
from framebench.reports.names import Labels

#: Least number of models for a matrix.
_MANY = 3


def matrices(metrics: Sequence[Question], pairs: Sequence[Block]) -> list[Block]:
    """Return the comparisons of models: one matrix per metric and, folded, all pairs; `pairs` alone for two models.

    Args:
        metrics: The metrics.
        pairs: All pairs in full.
    """
    several = [question for question in metrics if question.differences and len(question.values) >= _MANY]
    if not several:
        return list(pairs)
    labels = Labels(metrics)
    return [*(matrix(question, labels.title(question)) for question in several), Text(
        "Model of the row minus model of the column, in points, on the images that both have. In brackets and grey: "
        "the data do not show a difference.", "soft"), Folded("All pairs, with intervals and p-values", pairs)]


def matrix(question: Question, title: str) -> Table:
    """Return the differences between all models in one metric.

    Args:
        question: The metric, with several models.
        title: Its title.
    """
    models = list(question.values)
    rows = [[Cell(model), *(_cell(question.differences.get((model, other))) for other in models)] for model in models]
    return table(f"matrix {title}", ["minus", *models], rows, caption=title[:1].upper() + title[1:])


def _cell(pair: Difference | None) -> Cell:
    if pair is None or not pair.n:
        return Cell("")
    text = points(pair.difference, sign=True).text
    return Cell(text if pair.shown else f"({text})", "", pair.difference, pair.low, pair.high, faint=not pair.shown)
