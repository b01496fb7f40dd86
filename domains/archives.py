"""Unpack archives that may be hostile.

Only members that match the set's own layout are written, into a folder of ours; the bytes and the number of members are
bounded. Nothing of the archive's owners, modes and times is kept. Whatever does not match is passed over, whatever
it is; an absolute name or one with ``..`` is reason enough to refuse the whole archive.
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

from tqdm import tqdm

from framebench.errors import InputError

_BLOCK = 1 << 20
#: No header of a tar is larger: a long name or extended header that claims to be is meant to fill the memory.
_LARGEST_READ = 64 << 20
#: Bytes of a tar that may be passed over: they must be decompressed, which costs time.
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
        wanted: Must match the whole name of a member (without a leading ``./``); its group ``path`` says where in
            `into` it is written.
        size: Bytes that the wanted members take; a tenth (and 1 MiB) more is refused.
        files: How many they are; the archive may have twice as many members (and 10,000).

    Returns:
        The number of files written.

    Raises:
        InputError: if the archive is damaged, hostile, or beyond the limits; what was written so far stays in `into`.
    """
    written, left, over = 0, size + size // 10 + _BLOCK, _PASSED_OVER
    try:
        with tqdm(total=size, desc=f"unpacking {archive.name}", unit="B", unit_scale=True, leave=False,
                  disable=size < 100 * _BLOCK) as bar:
            for position, member in enumerate(_members(archive)):
                if position >= 2 * files + 10_000:
                    raise InputError(f"{archive} has too many members for this set (more than {position}); don't use "
                                     "it, get the official one")
                name = _plain(member.name, archive)
                match = wanted.fullmatch(name)
                if match is None:
                    over -= member.size
                elif not member.regular:
                    raise InputError(f"{archive} holds {name} as a link, folder or device where a file must be; don't "
                                     "use it, get the official one")
                else:
                    left -= member.size
                if left < 0 or over < 0:
                    raise InputError(f"{archive} unpacks to far more than the {size:,} bytes of this set; don't use "
                                     "it, get the official one")
                if match is not None:
                    _write(member, into / match["path"], archive)
                    written += 1
                    bar.update(member.size)
    except InputError:
        raise
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError, OSError) as error:
        # RuntimeError is of an encrypted or otherwise unknown zip; OSErrors of the disk are another matter.
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise
        raise InputError(f"{archive} is damaged or no tar, tar.gz or zip ({error}); get it again") from None
    return written


def _plain(name: str, archive: Path) -> str:
    """Return a member's name without ``./``; refuse one that could lead out of the folder."""
    plain = re.sub(r"^(?:\./+)+", "", name).rstrip("/")
    if plain.startswith("/") or "\\" in plain or "\0" in plain or re.match("[A-Za-z]:", plain) \
            or ".." in plain.split("/"):
        raise InputError(f"{archive} holds {name!r}, a name that leads out of its folder; don't use it, get the "
                         "official one")
    return plain


def _write(member: _Member, path: Path, archive: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        target = open(path, "xb")
    except FileExistsError:
        raise InputError(f"{archive} holds {member.name} twice; don't use it, get the official one") from None
    with target, member.open() as content:  # which ends after member.size bytes, or fails
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
            tar.members = []  # type: ignore[attr-defined] # else it keeps every header: 270,000 of CINIC-10
            if info.size < 0:  # the next header would be sought before this one, for ever
                raise tarfile.ReadError(f"{info.name!r} claims to be {info.size} bytes long")
            yield _Member(info.name, info.size, info.isreg() and not info.issparse(), _opener(tar, info))


def _opener(tar: tarfile.TarFile, info: tarfile.TarInfo) -> Callable[[], IO[bytes]]:
    def opener() -> IO[bytes]:
        content = tar.extractfile(info)
        assert content is not None  # only called for regular files
        return content
    return opener


def _zip_members(file: IO[bytes]) -> Iterator[_Member]:
    with zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            kind = stat.S_IFMT(info.external_attr >> 16)
            yield _Member(info.orig_filename, info.file_size, not info.is_dir() and kind in (0, stat.S_IFREG),
                          lambda info=info: archive.open(info))  # type: ignore[misc]


class _BoundedReads(io.RawIOBase):
    """A file that refuses to read much at once: tarfile reads whatever length an extended header claims."""

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
