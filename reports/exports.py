"""Exports of a report: Markdown, LaTeX, PDF, and its figures and tables as files for a paper."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

from framebench.files import atomic
from framebench.reports.document import Document, Table
from framebench.reports.latex import latex, latex_table
from framebench.reports.markdown import markdown, markdown_table
from framebench.reports.paper import KINDS, paper, saved
from framebench.reports.printing import find_browser, print_page

#: Formats of a report besides the page.
MARKDOWN, LATEX, PDF = "md", "tex", "pdf"
_TABLES = ("csv", "md", "tex")


def write_exports(folder: Path, document: Document, formats: tuple[str, ...], width: float) -> None:
    """Write a report in some formats beside its page; remove the exports of earlier reports.

    Args:
        folder: Folder of the page.
        document: The report.
        formats: "md", "tex", "pdf"; other values, such as "html", are ignored.
        width: Width of the figures, in inches.

    Raises:
        InputError: if a PDF is requested and no browser is found, or the browser fails.
    """
    written: set[Path] = set()

    def write(name: str, content: bytes) -> None:
        with atomic(folder / name) as temporary:
            temporary.write_bytes(content)
        written.add(folder / name)

    if {MARKDOWN, LATEX} & set(formats):
        for name, table in document.tables().items():
            for kind, text in zip(_TABLES, (csv_table(table), markdown_table(table) + "\n", latex_table(table)),
                                  strict=True):
                write(f"tables/{name}.{kind}", text.encode())
        for path, content in _figures(document, width):
            write(path, content)
    plots = document.plots()
    if MARKDOWN in formats:
        write("report.md", markdown(document, {name: f"figures/{name}.png" for name in plots}).encode())
    if LATEX in formats:
        write("report.tex", latex(document, {name: f"figures/{name}.pdf" for name in plots}, width).encode())
    if PDF in formats:
        with atomic(folder / "report.pdf") as temporary:
            print_page(find_browser(), folder / "index.html", temporary)
        written.add(folder / "report.pdf")
    for earlier in _earlier(folder):
        if earlier not in written:
            earlier.unlink()


def csv_table(table: Table) -> str:
    """Return a table as CSV: each column as printed, then its notes, and values and intervals in full precision."""
    columns: list[list[str]] = []
    titles: dict[str, int] = {}
    for i, column in enumerate(table.columns):
        cells = [row[i] for row in table.rows]
        titles[column.title] = titles.get(column.title, 0) + 1  # titles may repeat
        title = column.title + (f" ({titles[column.title]})" if titles[column.title] > 1 else "")
        columns.append([title, *(cell.text for cell in cells)])
        if any(cell.below for cell in cells):
            columns.append([f"{title}: note", *(cell.below for cell in cells)])
        for name in ("value", "low", "high"):
            values = [getattr(cell, name) for cell in cells]
            if any(value is not None for value in values):
                columns.append([f"{title}: {name}", *("" if value is None else repr(float(value)) for value in values)])
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(zip(*columns, strict=True))
    return out.getvalue()


def _figures(document: Document, width: float) -> Iterator[tuple[str, bytes]]:
    """Draw the figures; yield path and content of each file."""
    with paper(width):
        for name, plot in document.plots().items():
            figure = plot.draw()
            for kind in KINDS:
                yield f"figures/{name}.{kind}", saved(figure, kind)


def _earlier(folder: Path) -> list[Path]:
    """Return the existing exports in a folder."""
    paths = [folder / f"report.{kind}" for kind in (MARKDOWN, LATEX, PDF)]
    for name, kinds in (("figures", KINDS), ("tables", _TABLES)):
        paths += [path for kind in kinds for path in (folder / name).glob(f"*.{kind}")]
    return [path for path in paths if path.is_file()]
