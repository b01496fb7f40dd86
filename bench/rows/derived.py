"""Checksums of what is derived from kept files: ``OUT/SHA256SUMS``, which ``sha256sum -c`` checks."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

from framebench.errors import DamagedError
from framebench.files import atomic, read_regular

NAME = "SHA256SUMS"
_LIMIT = 1 << 20  # bytes


def write_derived(out: Path, texts: Mapping[str, str]) -> None:
    """Write texts under an output folder, by their paths below it, and their checksums.

    While they are written there are no checksums: those of a run that is killed meanwhile would fit only some.
    """
    (out / NAME).unlink(missing_ok=True)
    for name, text in texts.items():
        with atomic(out / name) as temporary:
            temporary.write_bytes(text.encode())
    with atomic(out / NAME) as temporary:
        temporary.write_text("".join(f"{_sha256(text.encode())}  {name}\n" for name, text in texts.items()))


def read_derived(out: Path, name: str, limit: int) -> str:
    """Read what `write_derived` has written; where there are no checksums, as it is.

    Raises:
        OSError: if it can't be read.
        ValueError: if it is no regular file of UTF-8, or larger than `limit` bytes.
        DamagedError: if it is not as it was written.
    """
    content = read_regular(out / name, limit)
    if (out / NAME).exists():
        known = re.findall(r"(?m)^([0-9a-f]{64})  (.+)$", read_regular(out / NAME, _LIMIT).decode())
        if (_sha256(content), name) not in known:
            raise DamagedError(f"{name} is not as it was written; bench report writes it anew")
    return content.decode()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
