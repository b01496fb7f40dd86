"""Unpack archives that may be hostile.

Only members that match the layout of the data set are written, into a folder that we chose. The number of bytes and of
members is limited. Owners, modes and times are not kept. All other members are skipped. An archive that contains an
absolute name, or a name with ``..``, is refused as a whole.
"""

from __future__ import annotations

import errno
import gzip
import io
import re
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from framebench.domains.bars import counted
from framebench.errors import InputError

_BLOCK = 1 << 20
#: No tar header is larger. A long name or extended header that claims to be larger is meant to fill the memory.
_LARGEST_READ = 64 << 20
#: How many bytes of a tar may be skipped. They have to be decompressed, which takes time.
_PASSED_OVER = 4 << 30


@dataclass(frozen=True)
class _Member:
    name: str
    size: int
    regular: bool
    open: Callable[[], IO[bytes]]


def unpack(archive: Path, into: Path, wanted: re.Pattern[str], *, size: int, files: int) -> int:
    """Write the wanted members of a tar, tar.gz or zip.

    Args:
        archive: The archive.
        into: An empty folder.
        wanted: Must match the whole name of a member, without a leading ``./``. Its group ``path`` is the path in
            `into` that the member is written to.
        size: Total size of the wanted members, in bytes. Up to a tenth plus 1 MiB more is accepted.
        files: Number of wanted members. The archive may have up to twice as many members plus 10,000.

    Returns:
        The number of files written.

    Raises:
        InputError: if the archive is damaged, hostile, or exceeds the limits; files already written stay in `into`.
    """
    written, left, over = 0, size + size // 10 + _BLOCK, _PASSED_OVER
    try:
        with counted(size, desc=f"unpacking {archive.name}", unit="B", least=100 * _BLOCK) as done:
            for position, member in enumerate(_members(archive)):
                if position >= 2 * files + 10_000:
                    raise InputError(f"{archive} has too many members for this set (more than {position}); don't use "
                                     "it, get the official one")
                name = _plain(member.name, archive)
                match = wanted.fullmatch(name)
                if match is None:
                    over -= member.size
                elif not member.regular:
                    raise InputError(f"{archive} contains {name} as a link, folder or device, not as a file; don't "
                                     "use it, get the official one")
                else:
                    left -= member.size
                if left < 0 or over < 0:
                    raise InputError(f"{archive} unpacks to far more than the {size:,} bytes of this set; don't use "
                                     "it, get the official one")
                if match is not None:
                    _write(member, into / match["path"], archive)
                    written += 1
                    done(member.size)
    except InputError:
        raise
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError, OSError) as error:
        # zipfile raises RuntimeError for encrypted zips. An OSError of the disk is not the fault of the archive.
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise
        raise InputError(f"{archive} is damaged or not a tar, tar.gz or zip ({error}); download it again") from None
    return written


def _plain(name: str, archive: Path) -> str:
    """Return a member's name without ``./``; refuse a name that could lead out of the folder."""
    plain = re.sub(r"^(?:\./+)+", "", name).rstrip("/")
    if plain.startswith("/") or "\\" in plain or "\0" in plain or re.match("[A-Za-z]:", plain) \
            or ".." in plain.split("/"):
        raise InputError(f"{archive} contains {name!r}, a name that leads out of its folder; don't use it, get the "
                         "official one")
    return plain


def _write(member: _Member, path: Path, archive: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        target = open(path, "xb")
    except FileExistsError:
        raise InputError(f"{archive} contains {member.name} twice; don't use it, get the official one") from None
    with target, member.open() as content:  # it ends after member.size bytes, or fails
        shutil.copyfileobj(content, target, _BLOCK)


def _members(archive: Path) -> Iterator[_Member]:
    with open(archive, "rb") as file:
        magic = file.read(4)
        file.seek(0)
        if magic == b"PK\x03\x04":
            yield from _zip_members(file)
        elif magic[:2] == b"\x1f\x8b":
            with gzip.open(file) as content:
                yield from _tar_members(cast(IO[bytes], content))
        else:
            yield from _tar_members(file)


def _tar_members(file: IO[bytes]) -> Iterator[_Member]:
    with tarfile.open(fileobj=cast(IO[bytes], _BoundedReads(file)), mode="r:") as tar:
        while (info := tar.next()) is not None:
            tar.members = []  # type: ignore[attr-defined] # else it keeps every header: 270,000 for CINIC-10
            if info.size < 0:  # the next header would be looked for before this one, forever
                raise tarfile.ReadError(f"{info.name!r} claims to be {info.size} bytes long")
            yield _Member(info.name, info.size, info.isreg() and not info.issparse(), _opener(tar, info))


def _opener(tar: tarfile.TarFile, info: tarfile.TarInfo) -> Callable[[], IO[bytes]]:
    def opener() -> IO[bytes]:
        content = tar.extractfile(info)
        assert content is not None  # called for regular files only
        return content
    return opener


def _zip_members(file: IO[bytes]) -> Iterator[_Member]:
    with zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            kind = stat.S_IFMT(info.external_attr >> 16)
            name = info.orig_filename  # it may be empty, which zipfile's is_dir() does not expect
            yield _Member(name, info.file_size, not name.endswith("/") and kind in (0, stat.S_IFREG),
                          lambda info=info: archive.open(info))  # type: ignore[misc]


class _BoundedReads(io.RawIOBase):
    """A file that refuses large reads: tarfile reads as many bytes as an extended header claims to have."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def read(self, size: int | None = -1) -> bytes:
        if size is None or not 0 <= size <= _LARGEST_READ:
            raise tarfile.ReadError(f"a header claims to be {size:,} bytes long")
        return self._file.read(size)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()
