"""One page that needs nothing else: styles, tables and plots inside."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

STYLE = """
:root { color-scheme: light; --ink: #1b1f24; --soft: #57606a; --line: #d8dee4; --tint: #f6f8fa; }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); margin: 2.5rem auto; max-width: 78rem;
       padding: 0 1.25rem; }
h1 { font-size: 1.6rem; margin: 0 0 .3rem } h2 { font-size: 1.15rem; margin: 2.4rem 0 .5rem }
p { max-width: 46rem; margin: .4rem 0 } .soft { color: var(--soft) }
.warning { border-left: 4px solid #d29922; background: #fff8e5; padding: .5rem .8rem; margin: .8rem 0 }
.scroll { overflow-x: auto }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .88rem; margin: .7rem 0 }
th, td { padding: .3rem .7rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap }
th { color: var(--soft); font-weight: 600; background: var(--tint); border-bottom: 2px solid var(--line) }
th.text, td.text { text-align: left }
td small { color: var(--soft); display: block; font-size: .78rem }
.row { display: flex; flex-wrap: wrap; gap: 1rem } .row figure { flex: 1 1 30rem }
figure { margin: .6rem 0 } figure svg { max-width: 100%; height: auto }
figcaption { color: var(--soft); font-size: .86rem; max-width: 40rem }
details { margin: .8rem 0 } summary { cursor: pointer }
pre { font-size: .8rem; overflow-x: auto; background: var(--tint); padding: .8rem }
"""


@dataclass(frozen=True)
class Cell:
    """A table's cell: its text, and a smaller line below it."""

    text: str
    below: str = ""


def table(header: Sequence[str], rows: Iterable[Sequence[Cell | str]], text_columns: int = 1) -> str:
    """Return an HTML table; the first `text_columns` columns are text, the others numbers."""
    def cells(row: Sequence[Cell | str], tag: str) -> str:
        out = []
        for i, entry in enumerate(row):
            cell = entry if isinstance(entry, Cell) else Cell(entry)
            kind = ' class="text"' if i < text_columns else ""
            below = f"<small>{html.escape(cell.below)}</small>" if cell.below else ""
            out.append(f"<{tag}{kind}>{html.escape(cell.text)}{below}</{tag}>")
        return f"<tr>{''.join(out)}</tr>"

    body = "\n".join(cells(row, "td") for row in rows)
    return f'<div class="scroll"><table>\n<thead>{cells(header, "th")}</thead>\n<tbody>\n{body}\n</tbody></table></div>'


def paragraph(text: str, kind: str = "") -> str:
    """Return an escaped paragraph, of class "soft" or "warning" if asked."""
    return f'<p class="{kind}">{html.escape(text)}</p>' if kind else f"<p>{html.escape(text)}</p>"


def figure(svg: str, caption: str) -> str:
    """Return a figure with its caption."""
    return f"<figure>{svg}<figcaption>{html.escape(caption)}</figcaption></figure>"


def section(title: str, *parts: str) -> str:
    """Return a headed section."""
    return f"<section><h2>{html.escape(title)}</h2>\n" + "\n".join(parts) + "</section>"


def details(summary: str, text: str) -> str:
    """Return preformatted text that opens on a click."""
    return f"<details><summary>{html.escape(summary)}</summary><pre>{html.escape(text)}</pre></details>"


def page(title: str, subtitle: str, *parts: str) -> str:
    """Return the whole page."""
    return (f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>\n'
            f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head>\n'
            f'<body><h1>{html.escape(title)}</h1><p class="soft">{html.escape(subtitle)}</p>\n'
            + "\n".join(parts) + "\n</body></html>\n")
