"""The page: one file that needs nothing else, with styles, tables and plots inside."""

from __future__ import annotations

import html

from framebench.reports.document import Document
from framebench.reports.html import body

STYLE = """
:root { color-scheme: light; --ink: #1b1f24; --soft: #57606a; --line: #d8dee4; --tint: #f6f8fa; }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); margin: 2.5rem auto; max-width: 82rem;
       padding: 0 1.25rem; }
h1 { font-size: 1.6rem; margin: 0 0 .3rem } h2, h3 { font-size: 1.15rem; margin: 2.4rem 0 .5rem }
p { max-width: 46rem; margin: .4rem 0; overflow-wrap: anywhere } .soft { color: var(--soft) }
.warning { border-left: 4px solid #d29922; background: #fff8e5; padding: .5rem .8rem; margin: .8rem 0 }
h2.part { font-size: 1.6rem; margin-top: 3.5rem; padding-top: 1.2rem; border-top: 2px solid var(--line) }
.scroll { overflow-x: auto }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .88rem; margin: .7rem 0 }
th, td { padding: .3rem .55rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap }
thead th { color: var(--soft); font-weight: 600; background: var(--tint); border-bottom: 2px solid var(--line) }
tbody th { font-weight: inherit }
th.text, td.text { text-align: left }
td small, th small { color: var(--soft); display: block; font-size: .78rem }
.row { display: flex; flex-wrap: wrap; gap: 1rem } .row figure { flex: 1 1 30rem }
figure { margin: .6rem 0 } figure svg { max-width: 100%; height: auto }
figcaption { color: var(--soft); font-size: .86rem; max-width: 40rem }
.gallery { display: grid; grid-template-columns: repeat(auto-fill, minmax(17rem, 1fr)); gap: .4rem 1rem }
.gallery figure { margin: 0 } .gallery img { height: 48px; image-rendering: pixelated; margin-right: 2px }
.aside { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%) }
details { margin: .8rem 0 } summary { cursor: pointer }
pre { font-size: .8rem; overflow-x: auto; background: var(--tint); padding: .8rem }
"""


def page_of(document: Document, figures: dict[str, str]) -> str:
    """Return the whole page of a report.

    Args:
        document: The report.
        figures: Its figures, as `framebench.reports.html.drawn` draws them.
    """
    title = ", ".join(part.title for part in document.sections).capitalize()
    return page(title, document.sections[0].subtitle if len(document.sections) == 1 else "", body(document, figures))


def page(title: str, subtitle: str, content: str) -> str:
    """Return a page of this content, which is HTML; title and subtitle are text."""
    return (f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>\n'
            f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head>\n'
            f'<body><h1>{html.escape(title)}</h1><p class="soft">{html.escape(subtitle)}</p>\n{content}\n'
            "</body></html>\n")
