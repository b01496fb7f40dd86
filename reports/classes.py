"""Accuracy by class."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from framebench.reports import charts
from framebench.reports.document import Plot, Section
from framebench.reports.maps import class_map
from framebench.reports.names import short_names

if TYPE_CHECKING:
    from bench.analysis.findings import Findings


def classes_section(found: Findings) -> Section | None:
    """Return the section on classes; None if they can't be compared."""
    chart = charts.by_class(found.attacks, found.parts, short_names(part.domain for part in found.parts))
    if chart is None:
        return None
    return Section("Accuracy by class", "the images of each class by themselves", [Plot(
        "classes", "Accuracy of every model on the images of each class. Intervals are Wilson's; means over "
        "cells have an effective number of outcomes. The accuracy of the worst class is biased downwards, because the "
        "class was selected for being the worst.", partial(class_map, chart), chart)])
