"""Finds runs below a folder, without following links, and within a limited number of entries."""

from __future__ import annotations

import itertools
import os
from dataclasses import dataclass
from pathlib import Path

#: A folder with one of these tables is a run.
TABLES = ("attack.csv", "shift.csv", "frames.csv")
#: The folders of a run, which are not searched for runs.
OWN = ("examples", "adversarial", "kept", "frames", "report")
#: Maximum number of folder entries to look at: a folder may hold millions of images.
LIMIT = 200_000


@dataclass(frozen=True)
class Search:
    """The result of a search below a folder.

    Attributes:
        runs: Folders with results or a report, relative to the searched one, as ``a/b``; ``.`` for itself.
        closed: Folder that can't be read -> reason.
        complete: Whether all folders were searched.
    """

    runs: list[str]
    closed: dict[str, str]
    complete: bool


def search(root: Path, limit: int = LIMIT) -> Search:
    """Find the runs below a folder and the folder itself, if it is one. Hidden folders and links are skipped.

    Args:
        root: The folder.
        limit: Maximum number of folder entries to look at.
    """
    runs: list[str] = []
    closed: dict[str, str] = {}
    waiting, seen = ["."], 0
    while waiting and seen < limit:
        name = waiting.pop()
        try:
            with os.scandir(root / name) as scan:
                entries = list(itertools.islice(scan, limit - seen))
        except OSError as error:
            closed[name] = error.strerror or type(error).__name__
            continue
        seen += len(entries)
        folders = _folders(entries)
        if found := _is_run(root / name, entries):
            runs.append(name)
        waiting += [os.path.normpath(os.path.join(name, folder)) for folder in sorted(folders, reverse=True)
                    if not folder.startswith(".") and not (found and folder in OWN)]
    return Search(runs, closed, not waiting and seen < limit)


def _holds_run(folder: Path) -> bool:
    """Tell whether a folder holds results or a report."""
    try:
        with os.scandir(folder) as scan:
            return _is_run(folder, list(scan))
    except OSError:
        return False


def _folders(entries: list[os.DirEntry[str]]) -> set[str]:
    return {entry.name for entry in entries if entry.is_dir(follow_symlinks=False)}


def _is_run(folder: Path, entries: list[os.DirEntry[str]]) -> bool:
    folders = _folders(entries)
    if any(entry.name in TABLES and entry.name not in folders for entry in entries):
        return True
    if "report" in folders and os.path.lexists(folder / "report" / "index.html"):
        return True
    if "examples" in folders and (os.path.lexists(folder / "examples" / ".lock")
                                  or next((folder / "examples").glob("*/rows-*.parquet"), None) is not None):
        return True
    return "frames" in folders and next((folder / "frames").glob("*-*.json"), None) is not None


def shown_file(root: Path, parts: list[str]) -> Path | None:
    """Return a file that the server may show, or None: a run's table or a file of its report, not behind a link.

    Args:
        root: The folder that is served, a path without links.
        parts: The components of a path below it.
    """
    if not parts or any(part in ("", ".", "..") or part.startswith(".") or set(part) & set("/\\\0") for part in parts):
        return None
    if parts[-1].endswith(".csv"):
        run = root.joinpath(*parts[:-1])
    elif "report" in parts[:-1]:
        run = root.joinpath(*parts[: len(parts) - 1 - parts[::-1].index("report")])
    else:
        return None
    path = root
    for part in parts:
        path = path / part
        if path.is_symlink():
            return None
    return path if _holds_run(run) and path.is_file() else None


def stamp(out: Path) -> tuple[int, int]:
    """Return the number of a run's stored files, and when the newest one changed, in ns since 1970.

    Raises:
        ValueError: if one of them is a link, a pipe or the like, which must not be read.
    """
    count = newest = 0
    waiting = [out / name for name in OWN if name != "report"]
    while waiting:
        folder = waiting.pop()
        if folder.is_symlink():
            raise ValueError(f"{folder.relative_to(out)} is a link; results are read from files alone")
        if not folder.is_dir():
            continue
        with os.scandir(folder) as scan:
            for entry in scan:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(Path(entry.path))
                elif not entry.is_file(follow_symlinks=False):
                    raise ValueError(f"{Path(entry.path).relative_to(out)} is no regular file")
                elif not entry.name.startswith("."):  # hidden files are being written
                    count, newest = count + 1, max(newest, _changed(entry))
    return count, newest


def _changed(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat(follow_symlinks=False).st_mtime_ns
    except FileNotFoundError:  # a run has joined it with others in the meantime
        return 0
