"""Rebuild tables and report from stored rows, joining outputs of several runs if asked.

With one OUT, its tables and report are written anew. With several, what the others hold is copied into the first (rows
and images of the same evaluation are joined, as those of --shard runs), and its tables and report are written.
"""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's options."""
    parser.add_argument("out", nargs="*", type=Path, metavar="OUT", default=[Path("runs")],
                        help="output folders (default: runs)")


def run(arguments: argparse.Namespace) -> None:
    """Join and rebuild."""
    from bench.analysis.reporting import write_report
    from bench.frames.bounds import kept_frames
    from bench.rows.joining import take
    from bench.rows.store import Store
    from framebench.errors import InputError

    first, *others = arguments.out
    for out in others or [first]:  # with others, the first may be new
        if not (out / "examples").is_dir() and not kept_frames(out):
            raise InputError(f"{out} is not the output of a run: it has no folder examples/ or frames/")
    store = Store(first)
    with store.lock():
        for out in others:
            take(first, store, out)
        write_report(first)
    print(f"report: {first / 'report' / 'index.html'}")
