"""Download one file: resume after interruptions, try again after errors, and check the file before it is used.

The bytes of NAME that have arrived are kept in the hidden file ``.NAME.part``. Beside it, ``.NAME.part.version`` keeps
the server's ETag or date of this version. With If-Range, the server sends the rest of the same version, or all of a
newer one.
"""

from __future__ import annotations

import contextlib
import http.client
import logging
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from framebench import __version__
from framebench.domains.contents import mismatch
from framebench.domains.sources import Download
from framebench.domains.web import (
    GiveUpError,
    content_length,
    content_range,
    looks_like_html,
    opener,
    retry_after,
    version,
    web_address,
)
from framebench.errors import InputError
from framebench.progress import progress

_BLOCK = 1 << 18
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Patience:
    """How long to wait for a server, and how often to try again.

    Attributes:
        timeout: Seconds without any data after which a connection counts as lost.
        tries: Number of successive connections without new data after which a URL is given up.
        pause: Seconds before the second try; doubled before each further try.
        longest: The longest wait, in seconds, that a server may ask for (Retry-After).
    """

    timeout: float = 30.0
    tries: int = 4
    pause: float = 1.0
    longest: float = 120.0


class _RetryError(Exception):
    """An error that may not happen again at the next try."""

    def __init__(self, reason: str, after: float | None = None) -> None:
        super().__init__(reason)
        self.after = after


class Part:
    """The part of a file that has arrived."""

    def __init__(self, folder: Path, name: str) -> None:
        self.path = folder / f".{name}.part"
        self._version = folder / f".{name}.part.version"

    @property
    def size(self) -> int:
        """Number of bytes that have arrived."""
        return self.path.stat().st_size if self.path.exists() else 0

    @property
    def version(self) -> str:
        """The server's name for the version of the file that the bytes belong to; may be empty."""
        return self._version.read_text() if self._version.exists() else ""

    def restart(self, version: str) -> None:
        """Delete what has arrived; what comes next belongs to `version`."""
        self.path.write_bytes(b"")  # first: after a kill here, an empty file with an old version does no harm
        self._version.write_text(version)

    def remove(self) -> None:
        """Delete the files."""
        self.path.unlink(missing_ok=True)
        self._version.unlink(missing_ok=True)


def download(item: Download, folder: Path, *, urls: Sequence[str] = (), by_hand: str = "give it with --archive",
             patience: Patience | None = None) -> Path:
    """Download a file; continue from where an earlier call stopped.

    Args:
        item: The file.
        folder: Where the file is written.
        urls: Mirrors to use instead of the public hosts.
        by_hand: For the error message: what to do with a file that was downloaded by hand.
        patience: How long to wait for the server.

    Returns:
        The hidden file with its content. Its size and checksum are correct, if a checksum is known.

    Raises:
        InputError: if no URL has the file, or a URL has another file.
    """
    part = Part(folder, item.name)
    reasons = []
    for url in map(web_address, urls or item.urls):
        try:
            problem = _from(url, item, part, patience or Patience())
        except GiveUpError as error:
            problem = str(error)
            if part.size == 0:
                part.remove()
        if problem is None:
            return part.path
        reasons.append(f"{urllib.parse.urlsplit(url).netloc}: {problem}")
    raise InputError(f"can't download {item.name} ({'; '.join(reasons)}); try again later, or download "
                     f"{(urls or item.urls)[0]} by hand and {by_hand}")


def _from(url: str, item: Download, part: Part, patience: Patience) -> str | None:
    """Fetch from one URL. If the bytes are wrong, delete them and return what is wrong."""
    resumed = part.size > 0
    _transfer(url, item, part, patience)
    problem = mismatch(part.path, item.checksum) if item.checksum else None
    if problem is not None:
        part.remove()
        if resumed:  # the first bytes may belong to another version, if the host does not name versions
            return _from(url, item, part, patience)
    return problem


def _transfer(url: str, item: Download, part: Part, patience: Patience) -> None:
    furthest, tries = part.size, 0
    with progress(item.size, desc=item.name, unit="B", initial=furthest) as bar:
        while True:
            try:
                return _attempt(url, item, part, patience.timeout, bar)
            except _RetryError as error:
                if part.size > furthest:
                    furthest, tries = part.size, 0
                tries += 1
                pause = patience.pause * 2 ** (tries - 1) if error.after is None else error.after
                if tries >= patience.tries:
                    raise GiveUpError(f"{error}, {tries} times in a row") from None
                if pause > patience.longest:
                    raise GiveUpError(f"{error}, and it asks to wait {pause:.0f} s") from None
                _log.warning("%s: %s at %s bytes; trying again in %.0f s", item.name, error, f"{part.size:,}", pause)
                time.sleep(pause)


def _attempt(url: str, item: Download, part: Part, timeout: float, bar: Any) -> None:
    """Open one connection and append what it sends, until the file is complete."""
    offset = part.size
    if item.checksum and offset >= item.size:
        return  # complete or too long: the checksum tells
    response = _open(url, offset, part, timeout)
    if response is None:
        return  # all of it had arrived already
    with contextlib.closing(response):
        reply = response.headers
        if reply.get_content_type() in ("text/html", "application/xhtml+xml"):
            raise GiveUpError("it answers with a web page instead of the file (a login, consent or error page?)")
        goes_on = response.status == 206
        start, total = content_range(reply) if goes_on else (0, content_length(reply))
        _check_size(total, item)
        if goes_on and start != offset:
            part.remove()
            raise _RetryError(f"it continued at byte {start} instead of {offset}")
        if not goes_on:  # no range was asked for, or the server supports none, or the file has changed
            part.restart(version(reply))
        bar.n = part.size
        _receive(response, part, item, total, bar)


def _open(url: str, offset: int, part: Part, timeout: float) -> Any:
    """Return the open response, or None if the server says that the file ends at `offset`."""
    request = urllib.request.Request(url, headers={"User-Agent": f"framebench/{__version__}"})
    if offset:
        request.add_header("Range", f"bytes={offset}-")
        if part.version:
            request.add_header("If-Range", part.version)
    try:
        return opener().open(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        error.close()
        reason = f"HTTP {error.code} {error.reason}"
        if error.code == 416:
            if content_range(error.headers)[1] == offset:
                return None
            part.remove()
            raise _RetryError(f"it can't continue from byte {offset}") from None
        if error.code in (408, 425, 429) or error.code >= 500:
            raise _RetryError(reason, retry_after(error.headers)) from None
        raise GiveUpError(reason) from None
    except urllib.error.URLError as error:
        if isinstance(error.reason, ssl.SSLCertVerificationError):
            raise GiveUpError(f"its certificate is not valid here ({error.reason.verify_message})") from None
        raise _RetryError(f"no connection ({_cause(error.reason)})") from None
    except (http.client.HTTPException, OSError) as error:
        raise _RetryError(f"no connection ({_cause(error)})") from None


def _receive(response: Any, part: Part, item: Download, total: int | None, bar: Any) -> None:
    limit = total if total is not None else item.size if item.checksum else 2 * item.size
    with open(part.path, "ab") as file:
        arrived = file.tell()
        while True:
            block = _read(response)
            if arrived == 0 and looks_like_html(block):
                raise GiveUpError("it answers with a web page instead of the file (a login, consent or error page?)")
            if not block:
                break
            arrived += len(block)
            if arrived > limit:
                part.remove()
                raise GiveUpError(f"it sends more than the {limit:,} bytes of the file")
            file.write(block)
            bar.update(len(block))
    whole = item.size if item.checksum else total
    if whole is not None and arrived < whole:
        raise _RetryError("the connection ended early")


def _read(response: IO[bytes]) -> bytes:
    try:
        return response.read(_BLOCK)
    except http.client.IncompleteRead as error:
        return error.partial
    except (http.client.HTTPException, OSError) as error:  # timeouts and resets are OSErrors
        raise _RetryError(f"the connection was lost ({_cause(error)})") from None


def _check_size(total: int | None, item: Download) -> None:
    if total is not None and (total != item.size if item.checksum else total > 2 * item.size):
        raise GiveUpError(f"the file there has {total:,} bytes, not {item.size:,}")


def _cause(error: object) -> str:
    return "no data arrived in time" if isinstance(error, TimeoutError) else \
        getattr(error, "strerror", None) or str(error) or type(error).__name__
