"""The pages of the browser: the index, a comparison of two runs, and the report of a run that has none yet."""

from __future__ import annotations

import dataclasses
import html
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from bench.analysis.comparisons import FAMILIES
from bench.analysis.findings import find
from bench.browsing.comparing import Change, Comparison
from bench.browsing.folders import Search
from bench.browsing.listing import Rate, Run
from bench.options.report import ReportSettings
from framebench.reports import document_of
from framebench.reports.attack import paired_rows
from framebench.reports.document import Block, Cell, Markup, Part, Text, table
from framebench.reports.format import interval, number_of, percent, rate
from framebench.reports.html import drawn, fragment
from framebench.reports.page import page, page_of
from framebench.reports.payload import payload
from framebench.reports.shift import paired_parts

#: Path of the server's own pages. Files with such names are hidden, and so never shown.
OWN = ".bench"
#: Seconds after which a page of a running command reloads.
REFRESH = 10.0
#: Number of rates of a run that the index shows besides the best one.
OTHERS = 3

SCRIPTS = ("app/core.js", "app/tables.js", "app/index.js")
_STYLES = ("page.css", "index.css")


def index_page(title: str, runs: Sequence[Run], searched: Search, *, served: bool) -> str:
    """Return the index.

    Args:
        title: Name of the folder.
        runs: Its runs, in order.
        searched: The result of the search for runs.
        served: Whether the page is served, with comparisons and live reports; otherwise it is a file.
    """
    blocks: list[Block] = []
    if not searched.complete:
        blocks.append(Text("The folder has too many entries to look at all of them, so runs may be missing; browse a "
                           "folder that holds runs alone.", "warning"))
    blocks += [Text(f"{_text(name)} can't be read: {why}.", "warning") for name, why in searched.closed.items()]
    if not runs:
        blocks.append(Text("There are no runs below this folder. bench attack, shift and frames write one into the "
                           "folder that --out names."))
    elif served:
        blocks.append(Markup(_choice(runs)))
    else:
        blocks.append(Text("This index is a file, as it was when it was written. bench browse shows one that "
                           "follows its runs, and compares any two of them.", "soft"))
    if runs:
        blocks.append(table("runs", ["run", "date", "data", "models", "attacks", "n", "robust accuracy",
                                     "shift accuracy", "warnings"], [_row(run, served) for run in runs], 5))
        blocks.append(Text(
            "Robust accuracy: of each model under the attack that leaves least of it, at this attack's largest budget. "
            "Shift accuracy: the mean over the corruptions of a set, or on another shifted set. In brackets: 95% "
            "intervals. The best model of a run comes first; it is not compared with the others here.", "soft"))
    refresh = REFRESH if served and any(run.running for run in runs) else None
    return _page(f"Runs in {title}", number_of(len(runs), "run"), blocks, refresh, index=bool(runs))


def comparison_page(first: Run, second: Run, comparison: Comparison) -> str:
    """Return the comparison of two runs."""
    links = " ".join(f'{which}: <a href="{html.escape(_beside(run))}">{html.escape(_text(run.name))}</a>.'
                     for which, run in (("First", first), ("Second", second)))
    blocks: list[Block] = [Markup(f'<p>{links} <a href="../">All runs</a></p>')]
    blocks += [Text(text, "warning") for text in comparison.apart]
    if comparison.changes:
        blocks.append(Part("The same model in both runs", [
            table("changes", ["model", "on", "what changed", "in the first", "in the second"],
                  [_change(change) for change in comparison.changes], 3),
            Text("Robust accuracy at the largest budget that both runs have, else accuracy, with 95% intervals. Where "
                 "settings, images or weights differ, so does what is measured. Models that differ are compared on the "
                 "images that both runs have, below.", "soft")]))
    if len(comparison.paired):
        last = comparison.paired.groupby(["model_a", "model_b", "domain", "attack"])["budget"].transform("max")
        blocks.append(Part("Models compared under attack, on the same images", [
            paired_rows(comparison.paired[comparison.paired["budget"] == last]), Text(
                "One model of each run, at the largest budget that both have. Numbers, intervals and p-values are "
                "those that bench report writes of the two runs joined. " + FAMILIES, "soft")]))
    if len(comparison.shift_paired):
        blocks.append(Part("Models compared under shift, on the same images", [paired_parts(comparison.shift_paired)]))
    if not len(comparison.paired) and not len(comparison.shift_paired):
        blocks.append(Text("There are no two models, one of each run, with rows for the same images under the same "
                           "attack or shift."))
    return _page("Two runs compared", "", blocks, None)


def live_page(out: Path, running: bool) -> str:
    """Return the report of a run from its rows so far. Nothing is written.

    Raises:
        InputError: see `bench.analysis.findings.find`.
    """
    started = time.monotonic()
    found = find(out, ReportSettings())
    document = document_of(found)
    figures = drawn(document)
    note = ("This run goes on: the page shows the rows so far, and loads itself again." if running else
            "This run has no report yet: the page shows the rows that there are.")
    if found.attacks:
        note += (" Until an attack has finished, its success rates are too high: images that are broken early get "
                 "their rows first.")
    document = dataclasses.replace(document, warnings=[note, *document.warnings])
    # A page that takes long to make reloads less often.
    refresh = max(REFRESH, 5 * (time.monotonic() - started)) if running else None
    return page_of(document, figures, payload(found, document, refresh))


def message_page(title: str, text: str) -> str:
    """Return a page with a title and one text."""
    return _page(title, "", [Text(text), Markup('<p><a href="/">All runs</a></p>')], None)


def _page(title: str, subtitle: str, blocks: Sequence[Block], refresh: float | None, *, index: bool = False) -> str:
    data: dict[str, Any] = {"models": [], "styles": {}, "reference": None, "charts": {}, "refresh": refresh}
    return page(title, subtitle, fragment(*blocks), data, scripts=SCRIPTS if index else SCRIPTS[:2],
                styles=_STYLES)


def _choice(runs: Sequence[Run]) -> str:
    """Return the form that chooses two runs; buttons that scripts add to the rows fill it."""
    options = "".join(f'<option value="{html.escape(_address(run.name))}">{html.escape(_text(run.name))}</option>'
                      for run in runs if not run.problem)
    lists = "".join(f'<label>{label}<select name="{name}"><option value="">a run</option>{options}</select></label>'
                    for name, label in (("a", "Compare"), ("b", "with")))
    return f'<form class="compare" action="{OWN}/compare" method="get">{lists}<button>Compare</button></form>'


def _row(run: Run, served: bool) -> list[Cell | str]:
    date = Cell(time.strftime("%Y-%m-%d %H:%M", time.localtime(run.changed))) if run.changed else Cell("–")
    if run.problem:
        return [Cell(_text(run.name), run.problem), date, *[""] * 7]
    n = " to ".join(f"{size:,}" for size in dict.fromkeys([*run.sizes[:1], *run.sizes[-1:]]))
    warnings = Cell(str(len(run.warnings)), " ".join(run.warnings), float(len(run.warnings)))
    return [Cell(_text(run.name), _state(run), link=_link(run, served)), date, *map(_list, (
        run.data, run.models, run.attacks)), Cell(n, value=float(run.sizes[-1]) if run.sizes else None),
        _rates(run.robust), _rates(run.shifted), warnings]


def _state(run: Run) -> str:
    if run.running and run.done is not None:
        return f"running: {run.done[0]:,} of {run.done[1]:,} new rows"
    if run.running:
        return "running"
    return "" if run.report else "no report yet"


def _link(run: Run, served: bool) -> str:
    if run.report and not (run.running and served):
        return ("" if run.name == "." else _address(run.name) + "/") + "report/index.html"
    return f"{OWN}/run?at={_address(run.name)}" if served else ""


def _beside(run: Run) -> str:
    """Return the link to a run from one of the server's own pages."""
    return f"../{_link(run, served=True)}"


def _list(names: Sequence[str], most: int = 6) -> Cell:
    """Return names as a cell: the first ones, and the number of others."""
    shown = ", ".join(map(_text, names[:most]))
    return Cell(shown + (f" and {len(names) - most:,} more" if len(names) > most else ""))


def _rates(rates: Sequence[Rate]) -> Cell:
    if not rates:
        return Cell("–")
    best, *others = rates
    below = [f"{interval(best.low, best.high)} {best.model}, {best.of}",
             *(f"{percent(other.value)} {other.model}" + ("" if other.of == best.of else f", {other.of}")
               for other in others[:OTHERS])]
    if len(others) > OTHERS:
        below.append(f"{len(others) - OTHERS:,} more")
    return Cell(percent(best.value), "; ".join(below), best.value, best.low, best.high)


def _change(change: Change) -> list[Cell | str]:
    return [change.model, change.what, "; ".join(change.changed) or "nothing: the same outcomes",
            *(rate(*values) for values in change.values)]


def _address(name: str) -> str:
    return quote(os.fsencode(name))


def _text(name: str) -> str:
    """Return a path as text, even if its bytes are not valid UTF-8."""
    return name.encode("utf-8", "replace").decode("utf-8")
