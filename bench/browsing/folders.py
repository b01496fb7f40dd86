"""Runs below a folder: found without following a link, within a bounded number of entries."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

#: Tables that tell a run by themselves.
TABLES = ("attack.csv", "shift.csv", "frames.csv")
#: What a run keeps; no run is looked for in there.
OWN = ("examples", "adversarial", "kept", "frames", "report")
#: Entries of folders that are looked at: a folder may hold millions of images.
LIMIT = 200_000


@dataclass(frozen=True)
class Search:
    """What lies below a folder.

    Attributes:
        runs: The folders that hold results or a report, relative to it, as ``a/b``; ``.`` for itself.
        closed: Folders that can't be read -> why.
        complete: Whether all folders were looked at.
    """

    runs: list[str]
    closed: dict[str, str]
    complete: bool


def search(root: Path, limit: int = LIMIT) -> Search:
    """Find the runs below a folder, itself included. Hidden folders and links are left out.

    Args:
        root: The folder.
        limit: Entries of folders to look at.
    """
    runs: list[str] = []
    closed: dict[str, str] = {}
    waiting, seen = ["."], 0
    while waiting and seen < limit:
        name = waiting.pop()
        try:
            with os.scandir(root / name) as found:
                entries = [entry for entry, _ in zip(found, range(limit - seen), strict=False)]
        except OSError as error:
            closed[name] = error.strerror or type(error).__name__
            continue
        seen += len(entries)
        folders = {entry.name for entry in entries if entry.is_dir(follow_symlinks=False)}
        here = _is_run(root / name, {entry.name for entry in entries} - folders, folders)
        if here:
            runs.append(name)
        waiting += [os.path.normpath(os.path.join(name, folder)) for folder in sorted(folders, reverse=True)
                    if not folder.startswith(".") and not (here and folder in OWN)]
    return Search(runs, closed, not waiting and seen < limit)


def is_run(folder: Path) -> bool:
    """Tell whether a folder holds results or a report."""
    try:
        with os.scandir(folder) as found:
            entries = list(found)
    except OSError:
        return False
    folders = {entry.name for entry in entries if entry.is_dir(follow_symlinks=False)}
    return _is_run(folder, {entry.name for entry in entries} - folders, folders)


def _is_run(folder: Path, files: set[str], folders: set[str]) -> bool:
    if not files.isdisjoint(TABLES):
        return True
    if "report" in folders and os.path.lexists(folder / "report" / "index.html"):
        return True
    if "examples" in folders and (os.path.lexists(folder / "examples" / ".lock")
                                  or next((folder / "examples").glob("*/rows-*.parquet"), None) is not None):
        return True
    return "frames" in folders and next((folder / "frames").glob("*-*.json"), None) is not None


def shown_file(root: Path, parts: list[str]) -> Path | None:
    """Return a file that the server may show, or None: a run's table, or a file of its report, behind no link.

    Args:
        root: The folder that is served, without links.
        parts: The names of a path below it.
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
    return path if is_run(run) and path.is_file() else None


def stamp(out: Path) -> tuple[int, int]:
    """Return the number of files that a run keeps, and when the newest of them changed, in ns since 1970.

    Raises:
        ValueError: if one of them is a link, a pipe or the like, which is not to be read.
    """
    count = newest = 0
    waiting = [out / name for name in OWN if name != "report"]
    while waiting:
        folder = waiting.pop()
        if folder.is_symlink():
            raise ValueError(f"{folder.relative_to(out)} is a link; results are read from files alone")
        if not folder.is_dir():
            continue
        with os.scandir(folder) as found:
            for entry in found:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(Path(entry.path))
                elif not entry.is_file(follow_symlinks=False):
                    raise ValueError(f"{Path(entry.path).relative_to(out)} is no regular file")
                elif not entry.name.startswith("."):  # a file that is just being written
                    count, newest = count + 1, max(newest, _changed(entry))
    return count, newest


def _changed(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat(follow_symlinks=False).st_mtime_ns
    except FileNotFoundError:  # a run has joined it with others since
        return 0
