"""Open a report in the browser."""

from __future__ import annotations

import argparse
import webbrowser
from pathlib import Path

from framebench.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's options."""
    parser.add_argument("out", nargs="?", type=Path, metavar="OUT", default=Path("runs"),
                        help="output folder (default: runs)")


def run(arguments: argparse.Namespace) -> None:
    """Open it; where there is no browser, say where the page is."""
    page = arguments.out / "report" / "index.html"
    if not page.is_file():
        raise InputError(f"there is no report {page}; run bench attack or bench shift with --out {arguments.out} first")
    if not webbrowser.open(page.resolve().as_uri()):
        print(f"no browser was found; open {page.resolve()}")
