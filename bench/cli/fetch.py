"""Fetch data sets from their public hosts, checked and resumable.

Each set is downloaded, compared with its published size and checksum, unpacked, checked and put in its place under
--data-root, in this order; what is there under its name is always whole. An interrupted fetch goes on where it was.
Without a name, the sets and their sizes are listed.

A set of one archive takes its file with --archive FILE, or its address with --url. The sets of plain files (svhn,
cifar10.1, cifar10.2) take the folder that holds them, or an archive of it, with --archive, and the address of such a
folder with --url. All of it is checked as a download from the public host is.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from framebench.errors import InputError, unknown


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's options."""
    add = parser.add_argument
    add("names", nargs="*", metavar="NAME", help="data sets; without one, list what there is")
    add("--list", action="store_true", help="list the data sets and their sizes")
    add("--data-root", metavar="DIR", default=None, help="where to put them, made if need be (default: $BENCH_DATA)")
    add("--url", default=None, help="a mirror to use instead of the public host")
    add("--archive", type=Path, metavar="FILE", default=None, help="a file or folder that is here already, instead of "
        "the net")
    add("--force", action="store_true", help="replace the set that is there, once the new one is complete; "
        "your own files in it stay, except images in the set's folders")


def run(arguments: argparse.Namespace) -> None:
    """List, or fetch one set after the other."""
    from framebench.domains.fetch import fetch
    from framebench.domains.sources import SOURCES

    given = arguments.data_root or os.environ.get("BENCH_DATA")
    root = Path(given).expanduser() if given else None
    if arguments.list or not arguments.names:
        if arguments.url or arguments.archive:
            raise InputError("--url and --archive need the NAME of the data set that they hold")
        _list(root)
        return
    for name in arguments.names:
        if name not in SOURCES:
            raise unknown("data set", name, SOURCES)
    if root is None:
        raise InputError("fetch needs --data-root DIR (or BENCH_DATA), the folder to put data sets in")
    if arguments.url and arguments.archive:
        raise InputError("--url and --archive exclude each other; give the one to use")
    if len(set(arguments.names)) > 1 and (arguments.url or arguments.archive):
        raise InputError("--url and --archive hold one data set; name one only")
    for name in dict.fromkeys(arguments.names):
        print(fetch(SOURCES[name], root, url=arguments.url, archive=arguments.archive, force=arguments.force),
              flush=True)


def _list(root: Path | None) -> None:
    from framebench.domains.fetch import is_there
    from framebench.domains.sources import SOURCES

    print(f"data sets ({f'under {root}' if root else 'no data root is given'}):")
    for name, source in SOURCES.items():
        there = ", there" if root is not None and is_there(source, root) else ""
        print(f"  {name:<11} {source.title}: {_size(source.size)} to download, {_size(source.unpacked)} in "
              f"{source.folder}/{there}")


def _size(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
