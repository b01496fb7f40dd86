"""The opening of a report: the answer in sentences, and every model minus the reference model."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from bench.analysis.answer import Difference, Question, questions
from framebench.reports.colors import model_styles
from framebench.reports.document import Block, Part, Plot, Text
from framebench.reports.forest import forest_plot
from framebench.reports.names import Labels
from framebench.reports.sentences import RULE, answer

if TYPE_CHECKING:
    from bench.analysis.findings import Findings


def sentences(found: Findings) -> list[str]:
    """Return the answer, sentence by sentence."""
    return [text for paragraph in answer(found, questions(found)) for text in (*paragraph.leads, *paragraph.details)]


def opening(found: Findings) -> list[Block]:
    """Return the opening of a report; [] if nothing was measured."""
    metrics = questions(found)
    paragraphs = answer(found, metrics)
    if not paragraphs:
        return []
    blocks: list[Block] = []
    for paragraph in paragraphs:
        blocks.append(Text(" ".join(paragraph.leads), "answer"))
        blocks += [Text(" ".join(paragraph.details), "soft")] if paragraph.details else []
    if any(question.differences for question in metrics):
        blocks.append(Text(RULE, "soft"))
    labels = Labels(metrics)
    against = {labels.title(question): pairs for question in metrics if (pairs := question.to(found.reference))}
    if against and found.reference is not None:
        blocks.append(Plot(
            "forest", f"Every model minus {found.reference} on the images that both have, in points, with 95% "
            "intervals. Grey: the data do not show a difference.",
            partial(forest_plot, against, found.reference, model_styles(found.models)),
            forest_payload(found.reference, metrics)))
    return [Part("The answer", blocks)]


def forest_payload(reference: str | None, metrics: Sequence[Question]) -> dict[str, Any]:
    """Return the data of the forest plot: for every metric, the differences of all pairs of models, as fractions.

    Args:
        reference: The reference model that is selected first.
        metrics: The metrics.
    """
    labels = Labels(metrics)
    return {"kind": "forest", "reference": reference, "metrics": [
        {"key": question.key, "title": labels.title(question), "unit": "points", "pairs": pairs}
        for question in metrics if (pairs := _pairs(question))]}


def _pairs(question: Question) -> list[dict[str, Any]]:
    """Return each pair of models once, since the other order only changes the sign."""
    models = list(question.values)
    return [_pair(pair) for i, b in enumerate(models) for a in models[i + 1:]
            if (pair := question.differences.get((a, b))) is not None and pair.n]


def _pair(pair: Difference) -> dict[str, Any]:
    return {"a": pair.a, "b": pair.b, "difference": round(pair.difference, 5), "low": round(pair.low, 5),
            "high": round(pair.high, 5), "p": float(f"{pair.p:.3g}"), "n": pair.n, "shown": pair.shown}
