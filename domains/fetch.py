"""Put a data set under the data root: whole and checked, or not at all.

Beside the set's folder NAME, hidden folders hold what is not finished: ``.NAME.unpacking`` is renamed to NAME once all
of it is there and checked, and ``.NAME.old`` holds a former NAME for the moment of the exchange. Whatever a killed
fetch leaves, the next one goes on from, uses as it was, or removes.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from framebench.domains.archives import unpack
from framebench.domains.contents import mismatch
from framebench.domains.download import Part, Patience, download
from framebench.domains.folder import SUFFIXES
from framebench.domains.sources import Download, Source
from framebench.domains.web import looks_like_html, web_address
from framebench.errors import InputError
from framebench.files import file_digest, lock


def fetch(source: Source, root: Path, *, url: str | None = None, archive: Path | None = None, force: bool = False,
          patience: Patience | None = None) -> str:
    """Get a data set, unless it is there already.

    Args:
        source: The data set.
        root: The data root; made if there is none.
        url: A mirror: the address of the archive or, for a set of plain files, of the folder that holds them.
        archive: A local copy instead of the net: the archive or, for a set of plain files, their folder or any archive
            of them. It is checked as a download is, and kept.
        force: Replace a folder that is there, at the end. What else lies in it and below is taken over, but for images
            in the set's own subfolders, which would count as the set's.
        patience: How long to put up with servers.

    Returns:
        What was done, in one line.

    Raises:
        InputError: if the set can't be got whole; what has arrived is kept for the next call, and what is there stays.
    """
    if url is not None:
        web_address(url)
    if archive is not None and not archive.exists():
        raise InputError(f"there is no {archive}; --archive names a file or folder that is here already")
    try:
        root.mkdir(parents=True, exist_ok=True)
        with lock(root, f"another fetch is writing to {root}; wait for it, or name several sets in one command"):
            return _fetch(source, root, url, archive, force, patience)
    except OSError as error:
        raise InputError(f"can't fetch {source.name} into {root} ({error}); free or fix what it names, or choose "
                         "another --data-root") from None


def is_there(source: Source, root: Path) -> bool:
    """Whether `root` has a folder of the set; `Source.problem` tells whether it is whole."""
    return (root / source.folder).is_dir() and any((root / source.folder).iterdir())


def _fetch(source: Source, root: Path, url: str | None, archive: Path | None, force: bool,
           patience: Patience | None) -> str:
    final, staging = root / source.folder, root / f".{source.folder}.unpacking"
    _finish_exchange(source, root)
    shutil.rmtree(staging, ignore_errors=True)
    if final.is_symlink() or (final.exists() and not final.is_dir()):
        raise InputError(f"{final} is a link or file where the set's folder goes; move it, or choose another "
                         "--data-root")
    if is_there(source, root) and not force:
        problem = source.problem(final)
        if problem is None:
            _remove_parts(source, root)  # of a fetch that was killed right before it did so
            return f"{source.name}: {final} is there already and whole; nothing to do"
        raise InputError(f"{final} is there but is not the whole official set ({problem}); --force replaces it once "
                         "the new one is complete")
    _check_room(source, root, archive)
    try:
        if archive is not None:
            _stage_local(source, archive, staging)
        else:
            _stage_downloads(source, root, url, staging, patience)
        problem = source.problem(staging)
        if problem is not None:
            for item in source.downloads:
                if not item.checksum:  # it may be to blame, and nothing else tells
                    Part(root, item.name).remove()
            raise InputError(f"what was got of {source.name} is not the whole official set ({problem}); get it from "
                             "another place with --url or --archive")
        notes = [f"; no checksum of {item.name} is published, so its content was checked; its sha256 is "
                 f"{file_digest(staging / item.name, 'sha256')}" for item in source.downloads if not item.checksum]
        _exchange(source, root)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    _remove_parts(source, root)
    return f"{source.name}: wrote {final}, checked{''.join(notes)}"


def _remove_parts(source: Source, root: Path) -> None:
    for item in source.downloads:
        Part(root, item.name).remove()


def _stage_downloads(source: Source, root: Path, url: str | None, staging: Path, patience: Patience | None) -> None:
    by_hand = "give it with --archive FILE" if source.packed else "give its folder with --archive FOLDER"
    got = []
    for item in source.downloads:
        mirror = [] if url is None else [url if source.packed else f"{url.rstrip('/')}/{item.name}"]
        got.append(download(item, root, urls=mirror, by_hand=by_hand, patience=patience))
    staging.mkdir()
    for item, path in zip(source.downloads, got, strict=True):
        if source.packed:
            unpack(path, staging, source.wanted, size=source.unpacked, files=source.files)
        else:
            _link(path, staging / item.name)


def _link(path: Path, target: Path) -> None:
    """Give a file a second name, so that it outlives a fetch that is killed now; without hard links, move it."""
    try:
        os.link(path, target)
    except OSError:
        os.rename(path, target)


def _stage_local(source: Source, given: Path, staging: Path) -> None:
    if given.is_dir() and source.packed:
        raise InputError(f"{given} is a folder; for {source.name}, --archive takes the file {source.downloads[0].name}")
    if given.is_dir():
        for item in source.downloads:
            _check_local(given / item.name, item)
        staging.mkdir()
        for item in source.downloads:
            shutil.copyfile(given / item.name, staging / item.name)
        return
    if source.packed:
        _check_local(given, source.downloads[0])
    staging.mkdir()
    unpack(given, staging, source.wanted, size=source.unpacked, files=source.files)


def _check_local(path: Path, item: Download) -> None:
    if not path.is_file():
        raise InputError(f"there is no file {path}; --archive must have {item.name}")
    with open(path, "rb") as file:
        if looks_like_html(file.read(1024)):
            raise InputError(f"{path} is a web page, not {item.name}; download the file that the page leads to")
    if item.checksum:
        size = path.stat().st_size
        problem = f"it has {size:,} bytes, not {item.size:,}" if size != item.size else mismatch(path, item.checksum)
        if problem is not None:
            raise InputError(f"{path} is not the official {item.name} ({problem}); download it again")


def _check_room(source: Source, root: Path, archive: Path | None) -> None:
    need = source.unpacked if source.packed or archive is not None else 0
    if archive is None:
        need += sum(max(0, item.size - Part(root, item.name).size) for item in source.downloads)
    free = shutil.disk_usage(root).free
    if need > free:
        raise InputError(f"{source.name} needs {need / 1e9:.2f} GB more under {root}, where {free / 1e9:.2f} GB are "
                         "free; make room, or choose another --data-root")


def _exchange(source: Source, root: Path) -> None:
    """Put the staged folder in its place; at no moment is there half a set under its name."""
    final = root / source.folder
    if final.exists():
        os.rename(final, root / f".{source.folder}.old")
    os.rename(root / f".{source.folder}.unpacking", final)
    _finish_exchange(source, root)


def _finish_exchange(source: Source, root: Path) -> None:
    """Complete or undo an exchange that may have been cut off."""
    final, old = root / source.folder, root / f".{source.folder}.old"
    if not old.exists():
        return
    if not final.exists():
        os.rename(old, final)
        return
    for entry in old.iterdir():
        _take_over(entry, final / entry.name)
    shutil.rmtree(old)


def _take_over(former: Path, new: Path) -> None:
    """Move a file or folder, or what the new folder lacks of it: a user's own files are not ours to delete."""
    if not new.exists():
        os.rename(former, new)
    elif former.is_dir() and not former.is_symlink() and new.is_dir():
        for entry in former.iterdir():
            if entry.suffix.lower() not in SUFFIXES:
                _take_over(entry, new / entry.name)
