"""Show all runs below a folder in the browser, with their reports, and compare any two of them.

Runs a local server until Ctrl-C. Only this machine can reach it, and it shows only tables and reports. If no browser is
found, the address is printed. If FOLDER is a single run, its report opens. With --static, the index is written to
FOLDER/index.html instead, without comparisons. FOLDER is runs/ by default, or the current folder if there is no runs/.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.options.common import Options, option
from bench.options.kinds import INTEGER, PATH, TRUTH, Rule
from framebench.errors import InputError

if TYPE_CHECKING:
    from http.server import ThreadingHTTPServer

#: The start of an index page. A file without it is not overwritten.
_MARK = '<html lang="en"><head><meta charset="utf-8"><title>Runs in '


@dataclass(frozen=True, init=False)
class BrowseOptions(Options):
    """Options of `bench browse`."""

    command = "browse"

    folder: Path | None = option("FOLDER", None, PATH, "an output folder, or a folder that contains output folders "
                                 "at any depth", positional=True, known_as="runs, else the current folder")
    port: int | None = option("--port", None, INTEGER, "port of the server", known_as="a free one",
                              rule=Rule(lambda value: 1 <= value <= 65535, "must lie between 1 and 65535"))
    static: bool = option("--static", False, TRUTH, "write FOLDER/index.html and exit")

    def _check(self) -> None:
        if self.static and self.port is not None:
            raise InputError("--static serves nothing, so it has no --port; give one of them")


OPTIONS = BrowseOptions


def run(options: BrowseOptions) -> None:
    """Serve, or write the index."""
    folder = options.folder or (Path("runs") if Path("runs").is_dir() else Path())
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; name the one that holds runs, as bench attack --out wrote them")
    if options.static:
        print(f"index: {_write(folder)}")
        return
    from bench.browsing.folders import search
    from bench.browsing.server import serve

    report = Path("report") / "index.html"
    alone = search(folder).runs == ["."] and (folder / report).is_file()  # the index would have one line
    logger = logging.getLogger("bench.analysis")  # the pages show its warnings
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with serve(folder, options.port or 0) as server:
            _serve(server, folder, report.as_posix() if alone else "")
    finally:
        logger.setLevel(level)


def _serve(server: ThreadingHTTPServer, folder: Path, page: str) -> None:
    """Open a page in the browser, and serve until Ctrl-C."""
    import threading
    import webbrowser

    address = f"http://127.0.0.1:{server.server_address[1]}/{page}"
    print(f"{folder}: {address}  (Ctrl-C ends it)", flush=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        if not webbrowser.open(address):
            print("no browser was found; open this address in one", flush=True)
        thread.join()
    except KeyboardInterrupt:
        print()
    finally:
        server.shutdown()


def _write(folder: Path) -> Path:
    from bench.browsing.server import Site
    from framebench.files import atomic

    path = folder / "index.html"
    if path.is_symlink() or (path.exists() and not (path.is_file() and _MARK in path.read_text("utf-8", "replace"))):
        raise InputError(f"{path} exists and is not an index of runs; move it, or browse another folder")
    try:
        with atomic(path) as temporary:
            temporary.write_text(Site(folder).index(served=False), encoding="utf-8", errors="replace")
    except OSError as error:
        raise InputError(f"can't write {path} ({error.strerror})") from None
    return path
