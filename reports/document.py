"""What a report is made of: plain nodes, which `framebench.reports.html` and others render."""

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
        value: The number that is printed, by which a column is sorted; None for text, and where there is no number.
        low: Lower end of its interval, if it has one.
        high: Upper end.
        faint: Whether it is to stand back: a difference that is not shown.
        link: Where a click on the text leads; empty for nowhere.
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
        best: "high" or "low" where the best value is to stand out, and which of them is best; else empty. See
            `framebench.reports.best`.
        setting: Whether it says how a row was measured, as the attack does, not what was measured.
    """

    title: str
    text: bool = False
    best: str = ""
    setting: bool = False


@dataclass(frozen=True)
class Table:
    """A table; its name is fit for a file, see `named`."""

    name: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""

    def for_readers(self) -> Table:
        """Return it with the settings that all rows share said once, in the caption, and not in columns."""
        shared = {i: self.rows[0][i] for i, column in enumerate(self.columns)
                  if column.setting and len({(row[i].text, row[i].below) for row in self.rows}) == 1}
        said = "; ".join(f"{self.columns[i].title}: {cell.text}" + (f" ({cell.below})" if cell.below else "")
                         for i, cell in shared.items() if cell.text)
        return Table(self.name, [column for i, column in enumerate(self.columns) if i not in shared],
                     [[cell for i, cell in enumerate(row) if i not in shared] for row in self.rows],
                     ". ".join(filter(None, [self.caption.rstrip("."), said])))


@dataclass(frozen=True)
class Text:
    """A paragraph; its kind is empty, "soft" (an explanation), "warning", or "answer"."""

    text: str
    kind: str = ""


@dataclass(frozen=True)
class Plot:
    """A figure.

    Attributes:
        name: Fit for a file, see `named`.
        caption: What it shows.
        draw: Draws it.
        chart: What the interactive chart that stands in its place where scripts run is made from
            (`framebench.reports.charts`); None for none.
    """

    name: str
    caption: str
    draw: Callable[[], Figure]
    chart: dict[str, Any] | None = None


@dataclass(frozen=True)
class Code:
    """Text whose lines and spaces stay as they are."""

    text: str


@dataclass(frozen=True)
class Row:
    """Figures side by side."""

    parts: Sequence[Block]


@dataclass(frozen=True)
class Folded:
    """What opens on a click."""

    summary: str
    parts: Sequence[Block]


@dataclass(frozen=True)
class Part:
    """What stands under one heading."""

    title: str
    parts: Sequence[Block]


@dataclass(frozen=True)
class Markup:
    """HTML, which no other format shows."""

    html: str


Block: TypeAlias = Table | Text | Code | Plot | Row | Folded | Part | Markup


@dataclass(frozen=True)
class Section:
    """A part of the report, of one kind of evaluation.

    Attributes:
        title: Its heading.
        subtitle: Which data, how many images.
        blocks: What it consists of.
        provenance: Facts of each evaluation, printed as JSON under their ``heading``.
    """

    title: str
    subtitle: str
    blocks: Sequence[Block]
    provenance: Sequence[dict[str, Any]] = ()


@dataclass(frozen=True)
class Document:
    """A whole report.

    Attributes:
        warnings: What the reader must know before the numbers.
        sections: What was measured.
        closing: What stands at the end.
        opening: What stands before the sections.
    """

    warnings: Sequence[str]
    sections: Sequence[Section]
    closing: Sequence[Block] = ()
    opening: Sequence[Block] = ()

    @property
    def title(self) -> str:
        """What was measured."""
        measured = [part for part in self.sections if part.provenance] or self.sections
        return ", ".join(part.title for part in measured).capitalize()

    @property
    def subtitle(self) -> str:
        """Which data, where there is one section; several have theirs."""
        return self.sections[0].subtitle if len(self.sections) == 1 else ""

    @property
    def blocks(self) -> Iterator[Block]:
        """Everything in it, in its order, the parts of a part after it."""
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
        """Return a block, empty where it has no place in such a text."""

    def blocks(self, blocks: Iterable[Block]) -> str:
        """Return blocks with an empty line between two."""
        return "\n\n".join(filter(None, map(self.block, blocks)))


def walk(blocks: Iterable[Block]) -> Iterator[Block]:
    """Yield blocks and all that is in them."""
    for block in blocks:
        yield block
        if isinstance(block, Row | Folded | Part):
            yield from walk(block.parts)


def named(blocks: Iterable[Any]) -> dict[str, Any]:
    """Return figures or tables by their names, made fit for a file; repeated names get numbers."""
    found: dict[str, Any] = {}
    for block in blocks:
        name = re.sub(r"[^a-z0-9.]+", "-", block.name.lower()).strip("-.")
        names = itertools.chain([name], (f"{name}-{i}" for i in itertools.count(2)))
        found[next(unused for unused in names if unused not in found)] = block
    return found


def table(name: str, header: Sequence[str], rows: Iterable[Sequence[Cell | str]], text_columns: int = 1, *,
          best: Mapping[str, str] | None = None, settings: Collection[str] = (), caption: str = "") -> Table:
    """Return a table; the first `text_columns` columns hold text, the others numbers.

    Args:
        name: Its name.
        header: The titles of its columns.
        rows: Its cells.
        text_columns: How many columns hold text.
        best: Title of a column -> "high" or "low", where the best value is to stand out.
        settings: Titles of the columns that say how a row was measured.
        caption: What it shows.
    """
    columns = [Column(title, i < text_columns, (best or {}).get(title, ""), title in settings)
               for i, title in enumerate(header)]
    return Table(name, columns, [[entry if isinstance(entry, Cell) else Cell(entry) for entry in row] for row in rows],
                 caption)
