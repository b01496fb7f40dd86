"""One page that needs nothing else: styles, tables and plots inside."""

from __future__ import annotations

import html
import itertools
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

STYLE = """
:root { color-scheme: light; --ink: #1b1f24; --soft: #57606a; --line: #d8dee4; --tint: #f6f8fa; }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); margin: 2.5rem auto; max-width: 82rem;
       padding: 0 1.25rem; }
h1 { font-size: 1.6rem; margin: 0 0 .3rem } h2 { font-size: 1.15rem; margin: 2.4rem 0 .5rem }
p { max-width: 46rem; margin: .4rem 0; overflow-wrap: anywhere } .soft { color: var(--soft) }
.warning { border-left: 4px solid #d29922; background: #fff8e5; padding: .5rem .8rem; margin: .8rem 0 }
h1.part { margin-top: 3.5rem; padding-top: 1.2rem; border-top: 2px solid var(--line) }
.scroll { overflow-x: auto }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .88rem; margin: .7rem 0 }
th, td { padding: .3rem .55rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap }
th { color: var(--soft); font-weight: 600; background: var(--tint); border-bottom: 2px solid var(--line) }
th.text, td.text { text-align: left }
td small { color: var(--soft); display: block; font-size: .78rem }
.row { display: flex; flex-wrap: wrap; gap: 1rem } .row figure { flex: 1 1 30rem }
figure { margin: .6rem 0 } figure svg { max-width: 100%; height: auto }
figcaption { color: var(--soft); font-size: .86rem; max-width: 40rem }
.gallery { display: grid; grid-template-columns: repeat(auto-fill, minmax(17rem, 1fr)); gap: .4rem 1rem }
.gallery figure { margin: 0 } .gallery img { height: 48px; image-rendering: pixelated; margin-right: 2px }
details { margin: .8rem 0 } summary { cursor: pointer }
pre { font-size: .8rem; overflow-x: auto; background: var(--tint); padding: .8rem }
"""


@dataclass(frozen=True)
class Cell:
    """A table's cell: its text, and a smaller line below it."""

    text: str
    below: str = ""


def table(header: Sequence[str], rows: Iterable[Sequence[Cell | str]], text_columns: int = 1) -> str:
    """Return an HTML table; the first `text_columns` columns hold text, the others numbers."""
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


def figure(content: str, caption: str, name: str = "") -> str:
    """Return a figure (an SVG element or images) with its caption; `figures` finds SVGs that have a name."""
    of = f' id="{re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-.")}"' if name else ""
    return f"<figure{of}>{content}<figcaption>{html.escape(caption)}</figcaption></figure>"


def figures(text: str) -> dict[str, str]:
    """Return the named figures of a page: name, fit for a file -> SVG element; repeated names get numbers."""
    found: dict[str, str] = {}
    for name, svg in re.findall(r'<figure id="([^"]+)">(<svg.*?</svg>\s*)<figcaption>', text, flags=re.DOTALL):
        names = itertools.chain([name], (f"{name}-{i}" for i in itertools.count(2)))
        found[next(unused for unused in names if unused not in found)] = svg
    return found


def section(title: str, *parts: str) -> str:
    """Return a headed section."""
    return f"<section><h2>{html.escape(title)}</h2>\n" + "\n".join(parts) + "</section>"


def folded(summary: str, content: str) -> str:
    """Return HTML that opens on a click."""
    return f"<details><summary>{html.escape(summary)}</summary>{content}</details>"


def percent(value: float) -> str:
    """Return a fraction as a percentage, with as many digits as a benchmark needs."""
    return "–" if np.isnan(value) else f"{100 * value:.1f}%"


def number(value: float | None) -> str:
    """Return a number with up to four digits, a dash where there is none."""
    return "–" if value is None or np.isnan(value) else f"{value:.4g}"


def number_of(count: int, one: str, many: str = "") -> str:
    """Return a count with its noun: "1 query", "2 queries"; the plural is `many`, else `one` and an s."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def interval(low: float, high: float) -> str:
    """Return the bounds of an interval of fractions, in percent."""
    return "" if np.isnan(low) else f"[{100 * low:.1f}, {100 * high:.1f}]"


def p_value(value: float, bound: bool = False) -> str:
    """Return a p-value as it is printed; one that is only known to be at most so large with the sign for that."""
    if bound:
        return f"≤ {value:.2g}"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


@dataclass(frozen=True)
class Section:
    """A part of the report, of one kind of evaluation.

    Attributes:
        title: Its heading.
        subtitle: Which data, how many images.
        blocks: HTML.
        provenance: Facts of each evaluation, printed as JSON under their ``heading``.
    """

    title: str
    subtitle: str
    blocks: list[str]
    provenance: list[dict[str, Any]]


def report(warnings: Sequence[str], parts: Sequence[Section], *closing: str) -> str:
    """Return the whole page.

    Args:
        warnings: What the reader must know before the numbers.
        parts: What was measured.
        closing: HTML at the end.
    """
    body = [paragraph(text, "warning") for text in warnings]
    for part in parts:
        if len(parts) > 1:
            body.append(f'<h1 class="part">{html.escape(part.title)}</h1>{paragraph(part.subtitle, "soft")}')
        body += part.blocks
        if part.provenance:
            body.append(section("Where these numbers come from", *[
                folded(entry["heading"], f"<pre>{html.escape(json.dumps(entry, indent=1))}</pre>")
                for entry in part.provenance]))
    title = ", ".join(part.title for part in parts).capitalize()
    return page(title, parts[0].subtitle if len(parts) == 1 else "", *body, *closing)


def page(title: str, subtitle: str, *parts: str) -> str:
    """Return a page that needs nothing else."""
    return (f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>\n'
            f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head>\n'
            f'<body><h1>{html.escape(title)}</h1><p class="soft">{html.escape(subtitle)}</p>\n'
            + "\n".join(parts) + "\n</body></html>\n")
