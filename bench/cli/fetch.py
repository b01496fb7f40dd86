"""Download data sets from their public hosts, verify them, and resume interrupted downloads.

Each set is downloaded, compared with its published size and checksum, unpacked, checked and then moved to its place
under --data-root, so a set in its place is always complete. Without a name, the sets and their sizes are listed.

--archive FILE uses a local archive, and --url a mirror of it. For sets of plain files (svhn, cifar10.1, cifar10.2),
--archive takes their folder or an archive of it, and --url the address of such a folder. These are verified like any
download.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from bench.options.common import WithData, option
from bench.options.kinds import PATH, TEXT, TRUTH
from framebench.errors import InputError, unknown


@dataclass(frozen=True, init=False)
class FetchOptions(WithData):
    """Options of `bench fetch`."""

    command = "fetch"

    names: tuple[str, ...] = option("NAME", (), TEXT, "data sets; without a name, all are listed", many="*",
                                    positional=True)
    list: bool = option("--list", False, TRUTH, "list the data sets and their sizes")
    url: str | None = option("--url", None, TEXT, "a mirror to use instead of the public host")
    archive: Path | None = option("--archive", None, PATH, "a local file or folder to use instead of a download",
                                  metavar="FILE")
    force: bool = option("--force", False, TRUTH, "replace an existing set once the new one is complete; your own "
                         "files in it stay, except images in the set's folders")


OPTIONS = FetchOptions


def run(options: FetchOptions) -> None:
    """List, or fetch one set after the other."""
    from framebench.domains.fetch import fetch
    from framebench.domains.sources import SOURCES

    given = options.data_root or os.environ.get("BENCH_DATA")
    root = Path(os.path.expanduser(given)) if given else None
    if options.list or not options.names:
        if options.url or options.archive:
            raise InputError("--url and --archive need the NAME of the data set that they hold")
        _list(root)
        return
    for name in options.names:
        if name not in SOURCES:
            raise unknown("data set", name, SOURCES)
    if root is None:
        raise InputError("fetch needs --data-root DIR (or BENCH_DATA), the folder to put data sets in")
    if options.url and options.archive:
        raise InputError("--url and --archive exclude each other; give the one to use")
    if len(set(options.names)) > 1 and (options.url or options.archive):
        raise InputError("--url and --archive hold one data set; name one only")
    for name in dict.fromkeys(options.names):
        print(fetch(SOURCES[name], root, url=options.url, archive=options.archive, force=options.force), flush=True)


def _list(root: Path | None) -> None:
    from framebench.domains.fetch import is_there
    from framebench.domains.sources import SOURCES

    print(f"data sets ({f'under {root}' if root else 'no data root is given'}):")
    for name, source in SOURCES.items():
        there = ", there" if root is not None and is_there(source, root) else ""
        print(f"  {name:<15} {source.title}: {_size(source.size)} to download, {_size(source.unpacked)} in "
              f"{source.folder}/{there}")


def _size(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
