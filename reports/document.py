"""The nodes of a report, which `framebench.reports.html`, `markdown` and `latex` render."""

from __future__ import annotations

import itertools
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from matplotlib.figure import Figure


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        text: What is printed.
        below: A smaller line below it.
        value: The printed number, by which a column is sorted; None for text or a missing number.
        low: Lower end of its interval; None if it has none.
        high: Upper end; None if it has none.
        faint: Whether it is printed in grey, as a difference that is not shown.
        link: Target of a link on the text; empty for none.
    """

    text: str
    below: str = ""
    value: float | None = None
    low: float | None = None
    high: float | None = None
    faint: bool = False
    link: str = ""


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        title: Its heading.
        text: Whether it holds text, not numbers.
        best: "high" or "low" if the highest or lowest value is printed in bold (`framebench.reports.best`), else empty.
        setting: Whether it is a setting of the measurement, such as the attack, not a result.
    """

    title: str
    text: bool = False
    best: str = ""
    setting: bool = False


@dataclass(frozen=True)
class Table:
    """A table; `named` makes a file name of its name."""

    name: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""

    def for_readers(self) -> Table:
        """Return the table with settings that all rows share in the caption instead of columns."""
        shared = {i: self.rows[0][i] for i, column in enumerate(self.columns)
                  if column.setting and len({(row[i].text, row[i].below) for row in self.rows}) == 1}
        settings = "; ".join(f"{self.columns[i].title}: {cell.text}" + (f" ({cell.below})" if cell.below else "")
                             for i, cell in shared.items() if cell.text)
        return Table(self.name, [column for i, column in enumerate(self.columns) if i not in shared],
                     [[cell for i, cell in enumerate(row) if i not in shared] for row in self.rows],
                     ". ".join(filter(None, [self.caption.rstrip("."), settings])))


@dataclass(frozen=True)
class Text:
    """A paragraph; its kind is empty, "soft" (an explanation), "warning", or "answer"."""

    text: str
    kind: str = ""


@dataclass(frozen=True)
class Plot:
    """A figure.

    Attributes:
        name: Its name, of which `named` makes a file name.
        caption: Its caption.
        draw: Function that draws it.
        chart: Data of the interactive chart that replaces it in the page (`framebench.reports.charts`); None for none.
    """

    name: str
    caption: str
    draw: Callable[[], Figure]
    chart: dict[str, Any] | None = None


@dataclass(frozen=True)
class Code:
    """Preformatted text."""

    text: str


@dataclass(frozen=True)
class Row:
    """Figures side by side."""

    parts: Sequence[Block]


@dataclass(frozen=True)
class Folded:
    """Blocks that open on a click."""

    summary: str
    parts: Sequence[Block]


@dataclass(frozen=True)
class Part:
    """Blocks under one heading."""

    title: str
    parts: Sequence[Block]


@dataclass(frozen=True)
class Markup:
    """HTML, left out of other formats."""

    html: str


Block: TypeAlias = Table | Text | Code | Plot | Row | Folded | Part | Markup


@dataclass(frozen=True)
class Section:
    """A part of the report, of one kind of evaluation.

    Attributes:
        title: Its heading.
        subtitle: Its data and number of images.
        blocks: Its content.
        provenance: Facts of each evaluation, printed as JSON under its ``heading``.
    """

    title: str
    subtitle: str
    blocks: Sequence[Block]
    provenance: Sequence[dict[str, Any]] = ()


@dataclass(frozen=True)
class Document:
    """A whole report.

    Attributes:
        warnings: Warnings, printed first.
        sections: One section per kind of evaluation.
        closing: Blocks after the sections.
        opening: Blocks before the sections.
    """

    warnings: Sequence[str]
    sections: Sequence[Section]
    closing: Sequence[Block] = ()
    opening: Sequence[Block] = ()

    @property
    def title(self) -> str:
        """The titles of its sections."""
        measured = [part for part in self.sections if part.provenance] or self.sections
        return ", ".join(part.title for part in measured).capitalize()

    @property
    def subtitle(self) -> str:
        """The subtitle of its only section; empty if there are several."""
        return self.sections[0].subtitle if len(self.sections) == 1 else ""

    @property
    def blocks(self) -> Iterator[Block]:
        """All its blocks in order, including nested ones."""
        sections = itertools.chain.from_iterable(section.blocks for section in self.sections)
        return walk([*self.opening, *sections, *self.closing])

    def plots(self) -> dict[str, Plot]:
        """Return its figures by name."""
        return named(block for block in self.blocks if isinstance(block, Plot))

    def tables(self) -> dict[str, Table]:
        """Return its tables by name."""
        return named(block for block in self.blocks if isinstance(block, Table))


class Renderer(ABC):
    """Writes a report as text, block by block."""

    @abstractmethod
    def block(self, block: Block) -> str:
        """Return a block as text; empty if this format can't show it."""

    def blocks(self, blocks: Iterable[Block]) -> str:
        """Return blocks as text, separated by empty lines."""
        return "\n\n".join(filter(None, map(self.block, blocks)))


def walk(blocks: Iterable[Block]) -> Iterator[Block]:
    """Yield blocks and all blocks nested in them."""
    for block in blocks:
        yield block
        if isinstance(block, Row | Folded | Part):
            yield from walk(block.parts)


def named(blocks: Iterable[Any]) -> dict[str, Any]:
    """Return figures or tables by their names as file names; repeated names get numbers."""
    by_name: dict[str, Any] = {}
    for block in blocks:
        name = re.sub(r"[^a-z0-9.]+", "-", block.name.lower()).strip("-.")
        names = itertools.chain([name], (f"{name}-{i}" for i in itertools.count(2)))
        by_name[next(unused for unused in names if unused not in by_name)] = block
    return by_name


def table(name: str, header: Sequence[str], rows: Iterable[Sequence[Cell | str]], text_columns: int = 1, *,
          best: Mapping[str, str] | None = None, settings: Collection[str] = (), caption: str = "") -> Table:
    """Return a table; the first `text_columns` columns hold text, the others numbers.

    Args:
        name: Its name.
        header: The titles of its columns.
        rows: Its cells.
        text_columns: Number of text columns.
        best: Title of a column -> "high" or "low", see `Column.best`.
        settings: Titles of the columns that are settings, see `Column.setting`.
        caption: Its caption.
    """
    columns = [Column(title, i < text_columns, (best or {}).get(title, ""), title in settings)
               for i, title in enumerate(header)]
    return Table(name, columns, [[entry if isinstance(entry, Cell) else Cell(entry) for entry in row] for row in rows],
                 caption)
