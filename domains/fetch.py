"""Put a data set under the data root: complete and checked, or not at all.

Unfinished work is kept in hidden folders beside the folder NAME of the set. ``.NAME.unpacking`` is renamed to NAME when
it is complete and checked. ``.NAME.old`` holds the previous NAME while the two are exchanged. If a fetch is killed, the
next one continues its work or removes what it left.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from framebench.domains.archives import unpack
from framebench.domains.contents import mismatch
from framebench.domains.download import Part, Patience, download
from framebench.domains.imagefiles import SUFFIXES
from framebench.domains.sources import Download, Source
from framebench.domains.web import looks_like_html, web_address
from framebench.errors import InputError
from framebench.files import file_digest, lock


def fetch(source: Source, root: Path, *, url: str | None = None, archive: Path | None = None, force: bool = False,
          patience: Patience | None = None) -> str:
    """Fetch a data set, unless it is there already.

    Args:
        source: The data set.
        root: The data root; created if needed.
        url: A mirror: the address of the archive or, for several archives or plain files, of their folder.
        archive: A local copy to use instead of a download: the archive or, for several archives, their folder or, for
            plain files, their folder or any archive of them. It is checked in the same way as a download, and it is
            not changed.
        force: Replace a folder that is there, once the new one is complete. Other files in it are kept, except images
            in the subfolders of the set, because they would count as images of the set.
        patience: How long to wait for servers.

    Returns:
        What was done, in one line.

    Raises:
        InputError: if the complete set can't be fetched. The data that have arrived are kept for the next call, and an
            existing folder is left as it is.
    """
    if url is not None:
        web_address(url)
    if archive is not None and not archive.exists():
        raise InputError(f"there is no {archive}; --archive needs a file or folder on this machine")
    try:
        root.mkdir(parents=True, exist_ok=True)
        with lock(root, f"another fetch is writing to {root}; wait for it, or fetch several sets with one command"):
            return _fetch(source, root, url, archive, force, patience)
    except OSError as error:
        raise InputError(f"can't fetch {source.name} into {root} ({error}); fix this, or choose "
                         "another --data-root") from None


def is_there(source: Source, root: Path) -> bool:
    """Return whether `root` has a folder of the set; `Source.problem` tells whether the set is complete."""
    return (root / source.folder).is_dir() and any((root / source.folder).iterdir())


def _fetch(source: Source, root: Path, url: str | None, archive: Path | None, force: bool,
           patience: Patience | None) -> str:
    final, staging = root / source.folder, root / f".{source.folder}.unpacking"
    _finish_exchange(source, root)
    shutil.rmtree(staging, ignore_errors=True)
    if final.is_symlink() or (final.exists() and not final.is_dir()):
        raise InputError(f"{final} is a link or a file, not a folder; move it, or choose another --data-root")
    if is_there(source, root) and not force:
        problem = source.problem(final)
        if problem is None:
            _remove_parts(source, root)  # left by a fetch that was killed before it did so
            return f"{source.name}: {final} is there already and is complete; nothing to do"
        raise InputError(f"{final} is there but is not the complete official set ({problem}); --force replaces it "
                         "once the new one is complete")
    _check_room(source, root, archive)
    try:
        if archive is not None:
            _stage_local(source, archive, staging)
        else:
            _stage_downloads(source, root, url, staging, patience)
        problem = source.problem(staging)
        if problem is not None:
            for item in source.downloads:
                if not item.checksum:  # it may be the wrong file, and there is no other check
                    Part(root, item.name).remove()
            raise InputError(f"the fetched {source.name} is not the complete official set ({problem}); get it from "
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
    by_hand = "give it with --archive FILE" if source.single else "give its folder with --archive FOLDER"
    paths = []
    for item in source.downloads:
        mirror = [] if url is None else [url if source.single else f"{url.rstrip('/')}/{item.name}"]
        paths.append(download(item, root, urls=mirror, by_hand=by_hand, patience=patience))
    _stage(source, paths, staging, _link)


def _stage(source: Source, paths: list[Path], staging: Path, place: Callable[[Path, Path], object]) -> None:
    """Unpack archives into a new folder, or place plain files there by a function of their path and the new one."""
    staging.mkdir()
    for item, path in zip(source.downloads, paths, strict=True):
        if source.packed:
            unpack(path, staging, source.wanted, size=source.unpacked, files=source.files)
        else:
            place(path, staging / item.name)


def _link(path: Path, target: Path) -> None:
    """Link a file, so that the download survives if the fetch is killed now; without hard links, move it."""
    try:
        os.link(path, target)
    except OSError:
        os.rename(path, target)


def _stage_local(source: Source, given: Path, staging: Path) -> None:
    if given.is_dir() and source.single:
        raise InputError(f"{given} is a folder; for {source.name}, --archive needs the file {source.downloads[0].name}")
    if given.is_dir():
        for item in source.downloads:
            _check_local(given / item.name, item)
        return _stage(source, [given / item.name for item in source.downloads], staging, shutil.copyfile)
    if source.single:
        _check_local(given, source.downloads[0])
    elif source.packed:
        raise InputError(f"{given} is a file; for {source.name}, --archive needs the folder with "
                         f"{', '.join(item.name for item in source.downloads)}")
    staging.mkdir()
    unpack(given, staging, source.wanted, size=source.unpacked, files=source.files)


def _check_local(path: Path, item: Download) -> None:
    if not path.is_file():
        raise InputError(f"there is no file {path}; the folder given with --archive must contain {item.name}")
    with open(path, "rb") as file:
        if looks_like_html(file.read(1024)):
            raise InputError(f"{path} is a web page, not {item.name}; download the file that the page links to")
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
        raise InputError(f"{source.name} needs another {need / 1e9:.2f} GB under {root}, which has "
                         f"{free / 1e9:.2f} GB free; free some space, or choose another --data-root")


def _exchange(source: Source, root: Path) -> None:
    """Move the finished folder to its place; there is never half a set under this name."""
    final = root / source.folder
    if final.exists():
        os.rename(final, root / f".{source.folder}.old")
    os.rename(root / f".{source.folder}.unpacking", final)
    _finish_exchange(source, root)


def _finish_exchange(source: Source, root: Path) -> None:
    """Complete or undo an exchange that may have been interrupted."""
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
    """Move a file or folder to its new place; of a folder that is there too, move what the new one lacks.

    The user's own files must not be deleted.
    """
    if not new.exists():
        os.rename(former, new)
    elif former.is_dir() and not former.is_symlink() and new.is_dir():
        for entry in former.iterdir():
            if entry.suffix.lower() not in SUFFIXES:
                _take_over(entry, new / entry.name)
