"""Files that are either whole or absent, and digests of their contents."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from framebench.errors import DamagedError, InputError

try:
    import fcntl
except ImportError:  # Windows, which has no such locks
    fcntl = None  # type: ignore[assignment]  # a module is never None to mypy

#: Seconds for which a lock is tried: a process that checks it with `held` holds it for a moment.
_PATIENCE = 0.2
#: Hexadecimal digits of a checksum in a file name: 64 bits.
SEAL = 16
#: Names of temporary files of `atomic`; unlike those of unfinished downloads (`.NAME.part`).
_PART = re.compile(r"\..*\.[a-z0-9_]{8}\.part", re.DOTALL)


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is synced and renamed to `path`, on error removed.

    Temporary files of killed processes in the folder are removed too. Errors of the file system, such as a full disk,
    name `path`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep(path.parent)
    handle, name = _begun(path)
    temporary = Path(name)
    try:
        yield temporary
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        temporary.chmod(0o666 & ~_umask())  # mkstemp makes files private, but results folders may be shared
        os.replace(temporary, path)
    except OSError as error:
        if error.errno is not None and error.filename in (None, name):  # else it is about another file
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)
        if handle is not None:
            os.close(handle)


def _begun(path: Path) -> tuple[int | None, str]:
    """Create the temporary file of `atomic`, locked while its handle is open, so that `sweep` leaves it alone."""
    while True:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        if fcntl is None:  # Windows renames no open file
            os.close(handle)
            return None, name
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        if os.path.lexists(name):
            return handle, name
        os.close(handle)  # swept before it was locked


def sweep(folder: Path, *, below: bool = False) -> None:
    """Remove temporary files of `atomic` that killed processes have left in a folder.

    Files that are being written are locked and stay. Without locks of the file system, all files stay.

    Args:
        folder: The folder.
        below: Whether to include its subfolders.
    """
    for root, folders, names in os.walk(folder) if fcntl is not None else ():
        for name in filter(_PART.fullmatch, names):
            with contextlib.suppress(OSError):  # gone meanwhile, or another user's
                _remove_unlocked(Path(root, name))
        if not below:
            folders.clear()


def _remove_unlocked(path: Path) -> None:
    handle = os.open(path, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()
    finally:
        os.close(handle)


@contextmanager
def lock(path: Path, busy: str) -> Iterator[None]:
    """Hold a lock, at most until the process ends.

    Args:
        path: A folder, or a file, which is created and not removed. Some network file systems only lock files.
        busy: Message of the error.

    Raises:
        InputError: if another process holds it.
    """
    if fcntl is None:
        yield
        return
    try:
        handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT, 0o666)
    except PermissionError:  # another user's, in a folder that both write to; reading is enough on a local disk
        handle = os.open(path, os.O_RDONLY)
    until = time.monotonic() + _PATIENCE
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() < until:
                time.sleep(_PATIENCE / 20)
                continue
            os.close(handle)
            raise InputError(busy) from None
        except OSError:
            pass  # a file system without locks
        break
    try:
        yield
    finally:
        os.close(handle)


def held(path: Path) -> bool:
    """Return whether another process holds a `lock` on a file; False if the file does not exist."""
    if fcntl is None:
        return False
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        pass
    finally:
        os.close(handle)
    return False


def read_regular(path: Path, limit: int) -> bytes:
    """Read a file from an untrusted folder: no link is followed, and no device or pipe is opened.

    Raises:
        OSError: if it can't be read.
        ValueError: if it is no regular file, or larger than `limit` bytes.
    """
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    with os.fdopen(handle, "rb") as file:
        about = os.fstat(handle)
        if not stat.S_ISREG(about.st_mode):
            raise ValueError("it is no regular file")
        if about.st_size > limit:
            raise ValueError(f"it has more than {limit / 1e6:,.0f} MB")
        return file.read()


def seal(folder: Path, stem: str, suffix: str, content: bytes | memoryview) -> Path:
    """Write ``folder/STEM-DIGEST.SUFFIX``, with the start of the content's sha256 in its name; see `unseal`."""
    path = folder / f"{stem}-{hashlib.sha256(content).hexdigest()[:SEAL]}{suffix}"
    with atomic(path) as temporary:
        temporary.write_bytes(content)
    return path


def unseal(path: Path) -> bytes:
    """Read a file that `seal` has written.

    Raises:
        InputError: if it can't be read.
        DamagedError: if its content does not match its name: something has changed it since.
    """
    try:
        content = regular(path).read_bytes()
    except OSError as error:
        raise InputError(f"can't read {path} ({error.strerror}); restore it, or remove it, and the command that wrote "
                         "it makes it anew") from None
    if not is_seal(path, content):
        raise DamagedError(f"{path} is damaged: its content does not match the checksum in its name; the command that "
                           "wrote it makes it anew with --repair")
    return content


def is_seal(path: Path, content: bytes) -> bool:
    """Return whether the checksum in a file name is that of this content."""
    return path.stem.endswith("-" + hashlib.sha256(content).hexdigest()[:SEAL])


def is_sealed(path: Path) -> bool:
    """Return whether a file written by `seal` is unchanged; it is read in blocks.

    Raises:
        OSError: if it can't be read.
    """
    return path.stem.endswith("-" + file_digest(regular(path), "sha256")[:SEAL])


def regular(path: Path) -> Path:
    """Return a path if it is a regular file; opening a named pipe would wait for its other end.

    Raises:
        OSError: if it is not a file, or does not exist.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError(errno.EINVAL, "it is not a file", str(path))
    return path


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def writable_folder(path: Path) -> Path:
    """Make `path` a folder that can be written to.

    Raises:
        InputError: where it can't be made or written to.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise InputError(f"can't write to the folder {path} ({error.strerror}); name another one with --out") from None
    return path


def digest(*arrays: np.ndarray) -> str:
    """Return the sha256 of arrays: dtype, shape and bytes of each, in order."""
    sha = hashlib.sha256()
    for array in arrays:
        sha.update(f"{array.dtype.str}{array.shape}".encode())
        sha.update(np.ascontiguousarray(array).data)
    return sha.hexdigest()


def file_digest(path: Path, algorithm: str) -> str:
    """Return the hex digest of a file; `algorithm` is a name that hashlib knows."""
    sha = hashlib.new(algorithm, usedforsecurity=False)
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            sha.update(block)
    return sha.hexdigest()


def cache_folder() -> Path:
    """Return where derived files may be kept: ``$BENCH_CACHE``, else the user's cache folder."""
    root = os.environ.get("BENCH_CACHE")
    if root:
        return Path(root)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "framebench"
