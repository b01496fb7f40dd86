"""The report: one self-contained page, its plots and its sections.

A section is a function of the results (`bench.analysis.findings.Findings`). It returns a part of the page, or None if
there is nothing to show. To add a section, write it in its own file and add it to `SECTIONS`.
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
    """Return the part on the command, logs and reference models of the report."""
    settings, sentences = found.settings, list[str]()
    if settings.command:
        sentences.append(f"This report was made by: {settings.command}")
    if found.shifts:
        sentences += [found.baseline_reason, *settings.matched]
    if settings.logs:
        sentences.append(f"Logs of trainings, named by --log: {', '.join(map(str, settings.logs))}.")
    return Part("How this report was made", [Text(text) for text in [
        *sentences, "All tables and figures are made from the results in this folder, whatever was run before."]])
