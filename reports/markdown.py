"""A report as GitHub-flavoured Markdown."""

from __future__ import annotations

import html
import json
import re
import unicodedata
from collections.abc import Mapping

from framebench.reports.best import RULE, best_cells
from framebench.reports.document import Block, Code, Document, Folded, Markup, Part, Plot, Renderer, Row, Table, Text
from framebench.reports.format import visible

#: Characters with a meaning within a line of Markdown; < and & are escaped as entities.
_SPECIAL = re.compile(r"([\\`*_\[\]|~$])")
#: Starts of a line that make it a list item or a heading.
_START = re.compile(r"^([-+=#]|\d+[.)])")


def escaped(text: str) -> str:
    """Return text escaped for Markdown, in one line."""
    line = isolated(" ".join(text.split()))
    return _START.sub(lambda match: match[0][:-1] + "\\" + match[0][-1],
                      _SPECIAL.sub(r"\\\1", html.escape(line, quote=False)))


def isolated(text: str) -> str:
    """Return a text; one with right-to-left letters is isolated from its surroundings."""
    text = visible(text)
    rightwards = any(unicodedata.bidirectional(c) in ("R", "AL", "AN") for c in text)
    return f"\u2068{text}\u2069" if rightwards else text


def markdown_table(table: Table) -> str:
    """Return a table with right-aligned numbers, the best of a column in bold, and intervals beside the values."""
    table = table.for_readers()
    best = best_cells(table)
    lines = [[escaped(column.title) for column in table.columns],
             ["---" if column.text else "---:" for column in table.columns]]
    for row, bold in zip(table.rows, best, strict=True):
        lines.append([" ".join(filter(None, [f"**{escaped(cell.text)}**" if i in bold else escaped(cell.text),
                                             escaped(cell.below)])) for i, cell in enumerate(row)])
    caption = [escaped(table.caption), ""] if table.caption else []
    rule = ["", escaped(RULE)] if any(best) else []
    return "\n".join([*caption, *(f"| {' | '.join(line)} |" for line in lines), *rule])


def markdown(document: Document, figures: Mapping[str, str]) -> str:
    """Return a report.

    Args:
        document: The report.
        figures: Name of a figure -> path of its file, relative to the report.
    """
    return _Renderer(document, figures).document(document)


class _Renderer(Renderer):
    def __init__(self, document: Document, figures: Mapping[str, str]) -> None:
        self._paths = {id(plot): figures[name] for name, plot in document.plots().items()}
        self._level = 2

    def document(self, document: Document) -> str:
        parts = [f"# {escaped(document.title)}", escaped(document.subtitle)]
        parts += [f"> **Warning:** {escaped(text)}" for text in document.warnings]
        parts.append(self.blocks(document.opening))
        several = len(document.sections) > 1
        for section in document.sections:
            self._level = 3 if several else 2
            if several:
                parts += [f"## {escaped(section.title)}", escaped(section.subtitle)]
            parts.append(self.blocks(section.blocks))
            if section.provenance:
                parts.append(self.block(Part("Where these numbers come from", [
                    Folded(entry["heading"], [Code(json.dumps(entry, indent=1))]) for entry in section.provenance])))
        self._level = 2
        return "\n\n".join(filter(None, [*parts, self.blocks(document.closing)])) + "\n"

    def block(self, block: Block) -> str:
        match block:
            case Text(text, kind):
                return f"> {escaped(text)}" if kind == "warning" else escaped(text)
            case Code(text):
                fence = "`" * (2 + max((len(run) for run in re.findall("`+", text)), default=1))
                return f"{fence}\n{text}\n{fence}"
            case Table():
                return markdown_table(block)
            case Plot():
                caption = escaped(block.caption)
                return f"![{caption}]({self._paths[id(block)]})\n\n{caption}"
            case Row(parts):
                return self.blocks(parts)
            case Folded(summary, parts):
                name = html.escape(isolated(" ".join(summary.split())))
                return f"<details><summary>{name}</summary>\n\n{self.blocks(parts)}\n\n</details>"
            case Part(title, parts):
                return f"{'#' * self._level} {escaped(title)}\n\n{self.blocks(parts)}"
            case Markup():
                return ""
