"""Open a report in the browser."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bench.options.common import Options, option
from bench.options.kinds import PATH
from framebench.errors import InputError


@dataclass(frozen=True, init=False)
class BrowseOptions(Options):
    """Options of `bench browse`."""

    command = "browse"

    out: Path = option("OUT", Path("runs"), PATH, "output folder", positional=True)


OPTIONS = BrowseOptions


def run(options: BrowseOptions) -> None:
    """Open it; where there is no browser, say where the page is."""
    import webbrowser

    page = options.out / "report" / "index.html"
    if not page.is_file():
        raise InputError(f"there is no report {page}; run bench attack or bench shift with --out {options.out} first")
    if not webbrowser.open(page.resolve().as_uri()):
        print(f"no browser was found; open {page.resolve()}")
