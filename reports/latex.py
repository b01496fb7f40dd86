"""A report as LaTeX, for pdflatex with booktabs, graphicx and hyperref."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from framebench.reports.best import RULE, best_cells
from framebench.reports.document import (
    Block,
    Cell,
    Code,
    Document,
    Folded,
    Markup,
    Part,
    Plot,
    Renderer,
    Row,
    Table,
    Text,
)
from framebench.reports.format import visible

_COMMANDS = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "^": r"\textasciicircum{}",
    "_": r"\_", "~": r"\textasciitilde{}", "%": r"\%", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"\textquotedbl{}", "'": "'", "`": r"\textasciigrave{}", "[": "{[}", "]": "{]}",
    "*": "{*}", "–": "--", "—": "---", "−": r"\ensuremath{-}", "≤": r"\ensuremath{\leq}", "≥": r"\ensuremath{\geq}",
    "∞": r"\ensuremath{\infty}", "·": r"\ensuremath{\cdot}", "→": r"\ensuremath{\to}", "×": r"\ensuremath{\times}",
    "±": r"\ensuremath{\pm}", "√": r"\ensuremath{\surd}", "½": r"\ensuremath{\frac{1}{2}}", "ᵀ": r"\textsuperscript{T}",
    "²": r"\textsuperscript{2}", "…": r"\ldots{}", "‖": r"\ensuremath{\|}", "°": r"\ensuremath{^\circ}", "\u00a0": "~"}
#: Letters in pdflatex's default fonts.
_LETTERS = set("ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÑÒÓÔÕÖØÙÚÛÜÝßàáâãäåæçèéêëìíîïñòóôõöøùúûüýÿŁłŒœŠšŽž")
#: Longest text of a cell without line breaks, in characters.
_LONG = 40
#: Longest word without line breaks, in characters.
_WORD = 24
#: Most rows of a table; longer ones are split.
_ROWS = 32

_PREAMBLE = r"""\documentclass[10pt]{article}
\usepackage[margin=1in]{geometry}
\usepackage{booktabs}
\usepackage{graphicx}
\usepackage[hidelinks]{hyperref}
\setlength{\parindent}{0pt}\setlength{\parskip}{6pt}
\setlength{\emergencystretch}{3em}
\providecommand{\textquotedbl}{''}
% A table that is wider than the text is made smaller; a narrower one stays as it is.
\newsavebox{\tablebox}
\newcommand{\fitted}[1]{\sbox{\tablebox}{#1}\begin{center}%
  \ifdim\wd\tablebox>\linewidth\resizebox{\linewidth}{!}{\usebox{\tablebox}}\else\usebox{\tablebox}\fi\end{center}}
"""


def escaped(text: str) -> str:
    """Return text escaped for LaTeX: letters unknown to pdflatex become code points, and long words can break."""
    return " ".join(r"\allowbreak{}".join(map(_word, re.findall(".{1,12}", word) if len(word) > _WORD else [word]))
                    for word in visible(text).split())


def _word(text: str) -> str:
    return "-{}".join("".join(map(_character, part)) for part in re.split("-(?=-)", text))  # not a dash


def _character(c: str) -> str:
    if c in _COMMANDS:
        return _COMMANDS[c]
    return c if c.isascii() or c in _LETTERS else rf"{{[}}U+{ord(c):04X}{{]}}"


def _cell(text: str) -> str:
    """Return the text of a cell, with line breaks if it is long."""
    return escaped(text) if len(text) <= _LONG else rf"\parbox[t]{{5cm}}{{\raggedright {escaped(text)}\strut}}"


def tabular(table: Table, rows: slice = slice(None)) -> str:
    r"""Return a table as a ``tabular``, which needs booktabs; intervals are in a smaller line below the values.

    Args:
        table: The table.
        rows: The rows to include.
    """
    best = best_cells(table)
    lines = [rf"\begin{{tabular}}{{@{{}}{''.join('l' if column.text else 'r' for column in table.columns)}@{{}}}}",
             r"\toprule", _line(escaped(column.title) for column in table.columns), r"\midrule"]
    for row, bold in list(zip(table.rows, best, strict=True))[rows]:
        lines.append(_line(rf"\textbf{{{_cell(cell.text)}}}" if i in bold else _cell(cell.text)
                           for i, cell in enumerate(row)))
        if any(cell.below for cell in row):
            lines.append(_line(_below(cell) for cell in row))
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"])


def _line(cells: Iterable[str]) -> str:
    return f"{' & '.join(cells)} \\\\"


def _below(cell: Cell) -> str:
    return rf"{{\scriptsize {_cell(cell.below)}}}" if cell.below else ""


def latex_table(table: Table) -> str:
    """Return a table as a file to include in a paper."""
    table = table.for_readers()
    notes = [f"% {line}" for line in (visible(" ".join(table.caption.split())),
                                      RULE if any(best_cells(table)) else "") if line]
    return "\n".join(["% Needs \\usepackage{booktabs}.", *notes, tabular(table), ""])


def latex(document: Document, figures: Mapping[str, str], width: float) -> str:
    """Return a report.

    Args:
        document: The report.
        figures: Name of a figure -> path of its file, relative to the report.
        width: Width of the figures, in inches.
    """
    return _Renderer(document, figures, width).document(document)


class _Renderer(Renderer):
    def __init__(self, document: Document, figures: Mapping[str, str], width: float) -> None:
        self._paths = {id(plot): figures[name] for name, plot in document.plots().items()}
        self._width, self._heading = width, "section"

    def document(self, document: Document) -> str:
        parts = [rf"\section*{{\LARGE {escaped(document.title)}}}", escaped(document.subtitle)]
        parts += [self.block(Text(text, "warning")) for text in document.warnings]
        parts.append(self.blocks(document.opening))
        several = len(document.sections) > 1
        for section in document.sections:
            self._heading = "subsection" if several else "section"
            if several:
                parts += [rf"\section*{{{escaped(section.title)}}}", escaped(section.subtitle)]
            parts.append(self.blocks(section.blocks))
        self._heading = "section"
        parts.append(self.blocks(document.closing))
        body = "\n\n".join(filter(None, parts))
        return f"{_PREAMBLE}\\begin{{document}}\n{body}\n\\end{{document}}\n"

    def block(self, block: Block) -> str:
        match block:
            case Text(text, kind):
                return {"soft": rf"{{\small {escaped(text)}\par}}",
                        "warning": rf"\textbf{{Warning:}} {escaped(text)}"}.get(kind, escaped(text))
            case Code(text):
                return _verbatim(text)
            case Table():
                return self._table(block)
            case Plot():
                return (rf"\begin{{center}}\includegraphics[width=\ifdim{self._width:g}in>\linewidth\linewidth\else "
                        rf"{self._width:g}in\fi]{{{self._paths[id(block)]}}}\par\smallskip"
                        "\n" rf"\begin{{minipage}}{{0.9\linewidth}}\small {escaped(block.caption)}\end{{minipage}}"
                        r"\end{center}")
            case Row(parts):
                return self.blocks(parts)
            case Folded(summary, parts):
                return rf"\paragraph{{{escaped(summary)}}}~\par" + "\n\n" + self.blocks(parts)
            case Part(title, parts):
                return rf"\{self._heading}*{{{escaped(title)}}}" + "\n\n" + self.blocks(parts)
            case Markup():
                return ""

    def _table(self, table: Table) -> str:
        table = table.for_readers()
        starts: Sequence[int] = range(0, len(table.rows), _ROWS) or [0]
        parts = [rf"{{\small\textbf{{{escaped(table.caption)}}}\par}}"] if table.caption else []
        parts += [rf"\fitted{{\footnotesize {tabular(table, slice(i, i + _ROWS))}}}" for i in starts]
        if any(best_cells(table)):
            parts.append(self.block(Text(RULE, "soft")))
        return "\n\n".join(parts)


def _verbatim(text: str) -> str:
    """Return preformatted text; unlike a verbatim environment, nothing in it can end it."""
    shown = [rf"\hspace*{{{(len(line) - len(line.lstrip())) / 2:g}em}}{escaped(line)}"
             for line in visible(text).splitlines()]
    return "{\\ttfamily\\scriptsize\\raggedright\n" + "\\\\\n".join(shown) + "\\par}"
