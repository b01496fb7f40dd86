"""What a report is besides its page: Markdown, LaTeX, PDF, and its figures and tables as files for a paper."""

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

#: Formats that a report can have besides the page.
MARKDOWN, LATEX, PDF = "md", "tex", "pdf"
_TABLES = ("csv", "md", "tex")


def write_exports(folder: Path, document: Document, formats: tuple[str, ...], width: float) -> None:
    """Write a report in some formats, beside its page; remove what earlier reports have written in others.

    Args:
        folder: Where the page is.
        document: The report.
        formats: "md", "tex", "pdf"; others, such as "html", are left to others.
        width: Width of the figures, in inches.

    Raises:
        InputError: if a PDF is asked for and no browser is found, or it fails.
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
    """Return a table as CSV: each column as it is printed, and beside it what its cells have of the rest.

    That is the smaller line below, and of numbers the value and the ends of its interval, all digits of them.
    """
    columns: list[list[str]] = []
    titles: dict[str, int] = {}
    for i, column in enumerate(table.columns):
        cells = [row[i] for row in table.rows]
        titles[column.title] = titles.get(column.title, 0) + 1  # there may be two of one title
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
    """Draw the figures: path and content of each file."""
    with paper(width):
        for name, plot in document.plots().items():
            figure = plot.draw()
            for kind in KINDS:
                yield f"figures/{name}.{kind}", saved(figure, kind)


def _earlier(folder: Path) -> list[Path]:
    """Return the files that reports write besides their page."""
    found = [folder / f"report.{kind}" for kind in (MARKDOWN, LATEX, PDF)]
    for name, kinds in (("figures", KINDS), ("tables", _TABLES)):
        found += [path for kind in kinds for path in (folder / name).glob(f"*.{kind}")]
    return [path for path in found if path.is_file()]
