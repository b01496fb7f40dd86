"""Checksums of files that are rewritten repeatedly: ``FOLDER/SHA256SUMS``, which ``sha256sum -c`` can check."""

from __future__ import annotations

import csv
import hashlib
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from framebench.errors import DamagedError
from framebench.files import atomic, read_regular

NAME = "SHA256SUMS"
_LIMIT = 1 << 20  # bytes


def write_derived(folder: Path, texts: Mapping[str, str]) -> None:
    """Write texts (path below the folder -> text) and their checksums.

    The old checksums are removed first, so that none is wrong if the process is killed.
    """
    others = {name: checksum for name, checksum in _checksums(folder).items() if name not in texts}
    _note(folder, others)
    for name, text in texts.items():
        with atomic(folder / name) as temporary:
            temporary.write_bytes(text.encode())
    _note(folder, others | {name: _sha256(text.encode()) for name, text in texts.items()})


def write_entries(path: Path, columns: Sequence[str], entries: Iterable[Mapping[str, object]]) -> None:
    """Write a log, one entry per line under the columns' names, with its checksum."""
    out = io.StringIO()
    writer = csv.DictWriter(out, columns)
    writer.writeheader()
    writer.writerows(entries)
    write_derived(path.parent, {path.name: out.getvalue()})


def check_derived(path: Path, content: bytes) -> None:
    """Check the content of a file against the checksum beside it, if there is one.

    Raises:
        DamagedError: if they don't match.
    """
    if _sha256(content) != _checksums(path.parent).get(path.name, _sha256(content)):
        raise DamagedError(f"{path} is not as it was written: its checksum in {NAME} does not fit")


def _checksums(folder: Path) -> dict[str, str]:
    try:
        text = read_regular(folder / NAME, _LIMIT).decode(errors="replace")
    except (OSError, ValueError):
        return {}
    return {name: checksum for checksum, name in re.findall(r"(?m)^([0-9a-f]{64})  (.+)$", text)}


def _note(folder: Path, checksums: Mapping[str, str]) -> None:
    if checksums:
        with atomic(folder / NAME) as temporary:
            temporary.write_text("".join(f"{checksums[name]}  {name}\n" for name in sorted(checksums)))
    else:
        (folder / NAME).unlink(missing_ok=True)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
