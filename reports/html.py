"""A report as HTML."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Sequence

from framebench.reports.best import RULE, best_cells
from framebench.reports.document import (
    Block,
    Cell,
    Code,
    Column,
    Document,
    Folded,
    Markup,
    Part,
    Plot,
    Row,
    Section,
    Table,
    Text,
    named,
    walk,
)
from framebench.reports.format import visible
from framebench.reports.plots import to_svg

#: Least number of evaluations whose provenance is folded together.
_FOLDED = 5


def escaped(text: str) -> str:
    """Return a text escaped for HTML, with visible control characters."""
    return html.escape(visible(text))


def drawn(document: Document) -> dict[str, str]:
    """Draw all figures of a report; return name -> SVG element."""
    return {name: to_svg(plot.draw()) for name, plot in document.plots().items()}


def body(document: Document, figures: dict[str, str]) -> str:
    """Return a report without its title.

    Args:
        document: The report.
        figures: Its figures, from `drawn`.
    """
    names = {id(block): name for blocks in (document.plots(), document.tables()) for name, block in blocks.items()}
    return Renderer(names, figures).document(document)


def fragment(*blocks: Block) -> str:
    """Return blocks as HTML, outside of a report."""
    plots, tables = (named(block for block in walk(blocks) if isinstance(block, kind)) for kind in (Plot, Table))
    names = {id(block): name for blocks_of in (plots, tables) for name, block in blocks_of.items()}
    return Renderer(names, {name: to_svg(plot.draw()) for name, plot in plots.items()}).blocks(blocks)


class Renderer:
    """Renders nodes.

    Args:
        names: `id` of a figure or a table -> its name in this report.
        figures: Name of a figure -> its SVG element.
    """

    def __init__(self, names: dict[int, str], figures: dict[str, str]) -> None:
        self._names, self._figures, self._heading, self._title = names, figures, "h2", ""

    def document(self, document: Document) -> str:
        """Return a report without its title."""
        several = len(document.sections) > 1
        parts = [*(self.block(Text(text, "warning")) for text in document.warnings), self.blocks(document.opening)]
        self._heading = "h3" if several else "h2"
        parts += [self.section(section, several) for section in document.sections]
        return "\n".join([*parts, self.blocks(document.closing)])

    def section(self, section: Section, headed: bool) -> str:
        """Return a section, with its heading if `headed`."""
        parts = [f'<h2 class="part">{escaped(section.title)}</h2>{self.block(Text(section.subtitle, "soft"))}'] \
            if headed else []
        parts.append(self.blocks(section.blocks))
        if section.provenance:
            facts = [Folded(entry["heading"], [Code(json.dumps(entry, indent=1))]) for entry in section.provenance]
            parts.append(self.block(Part("Where these numbers come from", facts if len(facts) < _FOLDED else [
                Folded(f"{len(facts):,} evaluations, one by one", facts)])))
        return "\n".join(parts)

    def blocks(self, blocks: Iterable[Block]) -> str:
        """Return blocks as HTML."""
        return "\n".join(map(self.block, blocks))

    def block(self, block: Block) -> str:
        """Return one block."""
        match block:
            case Text(text, kind):
                return f'<p class="{kind}">{escaped(text)}</p>' if kind else f"<p>{escaped(text)}</p>"
            case Code(text):
                return f"<pre>{escaped(text)}</pre>"
            case Table():
                return self._table(block)
            case Plot():
                return self._plot(block)
            case Row(parts):
                return f'<div class="row">{self.blocks(parts)}</div>'
            case Folded(summary, parts):
                return f"<details><summary>{escaped(summary)}</summary>{self.blocks(parts)}</details>"
            case Part(title, parts):
                tag, self._title = self._heading, title
                return f"<section><{tag}>{escaped(title)}</{tag}>\n{self.blocks(parts)}</section>"
            case Markup(text):
                return text

    def _plot(self, plot: Plot) -> str:
        name = self._names[id(plot)]
        chart = f' data-chart="{name}"' if plot.chart else ""
        return (f'<figure id="{name}"{chart}><div class="static">{self._figures[name]}</div>'
                f"<figcaption>{escaped(plot.caption)}</figcaption></figure>")

    def _table(self, table: Table) -> str:
        # A table without a caption gets its heading as one for screen readers alone.
        name, label = self._names[id(table)], escaped(table.caption or self._title or table.name)
        table = table.for_readers()
        kind = "" if table.caption else ' class="aside"'
        caption = f"<caption{kind}>{escaped(table.caption) or label}</caption>"
        head = "".join(f'<th scope="col"{_kind(column)}>{escaped(column.title)}</th>' for column in table.columns)
        best = best_cells(table)
        rows = "\n".join(_row(table.columns, row, best[i]) for i, row in enumerate(table.rows))
        rule = self.block(Text(RULE, "soft")) if any(best) else ""
        return (f'<div class="scroll" tabindex="0" role="region" aria-label="{label}">'
                f'<table data-table="{name}">{caption}\n<thead><tr>{head}</tr></thead>\n<tbody>\n'
                f"{rows}\n</tbody></table></div>{rule}")


def _kind(column: Column) -> str:
    return ' class="text"' if column.text else ""


def _row(columns: Sequence[Column], row: Sequence[Cell], best: set[int]) -> str:
    cells = []
    for i, (column, cell) in enumerate(zip(columns, row, strict=True)):
        tag = 'th scope="row"' if i == 0 and column.text else "td"
        data = "".join(f' data-{name}="{value:.6g}"' for name, value in
                       (("value", cell.value), ("low", cell.low), ("high", cell.high)) if value is not None)
        below = f"<small>{escaped(cell.below)}</small>" if cell.below else ""
        text = f"<strong>{escaped(cell.text)}</strong>" if i in best else escaped(cell.text)
        text = f'<a href="{html.escape(cell.link)}">{text}</a>' if cell.link else text
        kind = ' class="noise"' if cell.faint else _kind(column)
        cells.append(f"<{tag}{kind}{data}>{text}{below}</{tag[:2]}>")
    return f"<tr>{''.join(cells)}</tr>"
