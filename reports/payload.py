"""Data for the scripts of a report's page."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from framebench.reports.colors import PALETTE, model_styles
from framebench.reports.document import Document
from framebench.reports.gallery import gallery_payload

if TYPE_CHECKING:
    from bench.analysis.findings import Findings


def payload(found: Findings, document: Document, refresh: float | None = None) -> dict[str, Any]:
    """Return the data of a page.

    Args:
        found: The results.
        document: The report, whose figures have the data of their charts.
        refresh: Seconds after which the page reloads itself; None for never.
    """
    names = [*found.models, *found.logs.epochs, *found.logs.bounds]
    return {
        "models": found.models,
        "styles": {model: dataclasses.asdict(style) for model, style in model_styles(names).items()},
        "palette": PALETTE,
        "reference": found.reference,
        "charts": {name: plot.chart for name, plot in document.plots().items() if plot.chart},
        "pictures": gallery_payload(found),
        "refresh": refresh,
    }
