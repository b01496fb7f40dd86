"""The page: one self-contained file with styles, scripts, tables and figures."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from framebench.reports.document import Document
from framebench.reports.format import visible
from framebench.reports.html import body, escaped

_WEB = Path(__file__).parent / "web"
#: Inlined scripts, in order: libraries, shared code, and charts.
SCRIPTS = ("vendor/d3.min.js", "vendor/plot.min.js", "app/core.js", "app/tables.js", "app/chart.js", "app/curves.js",
           "app/heat.js", "app/forest.js", "app/others.js", "app/gallery.js", "app/shifted.js")
STYLES = ("page.css", "gallery.css")
#: Nothing is loaded from outside the file.
POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:"


def page_of(document: Document, figures: dict[str, str], payload: dict[str, Any]) -> str:
    """Return the whole page of a report.

    Args:
        document: The report.
        figures: Its figures, from `framebench.reports.html.drawn`.
        payload: Data for the scripts, from `framebench.reports.payload.payload`.
    """
    return page(document.title, document.subtitle, body(document, figures), payload)


def page(title: str, subtitle: str, content: str, payload: dict[str, Any] | None = None, *,
         scripts: Sequence[str] = SCRIPTS, styles: Sequence[str] = STYLES) -> str:
    """Return a page.

    Args:
        title: Text.
        subtitle: Text, may be empty.
        content: HTML.
        payload: Data for the scripts, from `framebench.reports.payload.payload`; None for a page without scripts.
        scripts: Files in ``web/`` to inline.
        styles: Style sheets in ``web/`` to inline.
    """
    code, bar = "", ""
    if payload is not None:
        code = f'<script type="application/json" id="data">{_embedded(payload)}</script>\n' + "\n".join(
            f"<script>{_asset(name)}</script>" for name in scripts)
        bar = '<nav class="bar" aria-label="Page"><div></div></nav>'
    below = f'<p class="soft">{escaped(subtitle)}</p>' if subtitle else ""
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{escaped(title)}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{POLICY}"><style>{"".join(map(_asset, styles))}</style></head>
<body><a class="aside skip" href="#content">Skip to the content</a>{bar}
<header class="top"><h1>{escaped(title)}</h1>{below}</header>
<main id="content">
{content}
</main>
{code}</body></html>
"""


@cache
def _asset(name: str) -> str:
    return (_WEB / name).read_text(encoding="utf-8").strip()


def _embedded(payload: Any) -> str:
    """Return JSON that is safe inside a script element."""
    text = json.dumps(_plain(payload), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _plain(value: Any) -> Any:
    """Return a value as plain JSON types: non-finite numbers become null, and control characters visible."""
    if isinstance(value, dict):
        return {visible(str(key)): _plain(item) for key, item in value.items()}
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
