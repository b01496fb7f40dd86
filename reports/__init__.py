"""The report: one page with everything in it, its plots, and the sections that it is made of.

A section is a function of what was found (`bench.analysis.findings.Findings`), which returns a part of the page, or
None where there is nothing to show. To add one, write it into a file of its own and name it in `SECTIONS`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from framebench.reports.answer import opening
from framebench.reports.attack import attack_section
from framebench.reports.classes import classes_section
from framebench.reports.document import Document, Part, Section, Text
from framebench.reports.frames import frames_section
from framebench.reports.methods import methods_part
from framebench.reports.published import published_section
from framebench.reports.shift import shift_section

if TYPE_CHECKING:
    from bench.analysis.findings import Findings

#: In the order of the page.
SECTIONS: list[Callable[[Findings], Section | None]] = [
    attack_section, shift_section, classes_section, published_section, frames_section]


def document_of(found: Findings) -> Document:
    """Return the whole report."""
    return Document(found.warnings, [part for make in SECTIONS if (part := make(found)) is not None],
                    [*([paper] if (paper := methods_part(found)) else []), _made_with(found)], opening(found))


def _made_with(found: Findings) -> Part:
    """Return the part that says what the report was made with, besides the results themselves."""
    settings, said = found.settings, []
    if settings.command:
        said.append(f"This report was made by: {settings.command}")
    if found.shifts:
        said += [found.baseline_reason, *settings.matched]
    if settings.logs:
        said.append(f"Logs of trainings, named by --log: {', '.join(map(str, settings.logs))}.")
    return Part("How this report was made", [Text(text) for text in [
        *said, "All tables and figures are made from the results in this folder, whatever was run before."]])
