"""Download one file: resumable, patient, and checked before anyone may use it.

What has arrived of NAME is kept in the hidden file ``.NAME.part``, and beside it, in ``.NAME.part.version``, the
server's ETag or date of it: with If-Range, a server sends the rest of that version or else the whole of a new one.
"""

from __future__ import annotations

import contextlib
import http.client
import ssl
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from tqdm import tqdm

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

_BLOCK = 1 << 18


@dataclass(frozen=True)
class Patience:
    """How long to put up with a server.

    Attributes:
        timeout: Seconds without a byte after which a connection counts as lost.
        tries: Connections in a row that bring nothing new before a URL is given up.
        pause: Seconds before the second try; doubled with every further one.
        longest: Seconds that a server may ask to be left alone (Retry-After).
    """

    timeout: float = 30.0
    tries: int = 4
    pause: float = 1.0
    longest: float = 120.0


class _RetryError(Exception):
    """Something that may pass."""

    def __init__(self, reason: str, after: float | None = None) -> None:
        super().__init__(reason)
        self.after = after


class Part:
    """What has arrived of a file."""

    def __init__(self, folder: Path, name: str) -> None:
        self.path = folder / f".{name}.part"
        self._version = folder / f".{name}.part.version"

    @property
    def size(self) -> int:
        """Bytes that have arrived."""
        return self.path.stat().st_size if self.path.exists() else 0

    @property
    def version(self) -> str:
        """The server's name for the version that they are of, or empty."""
        return self._version.read_text() if self._version.exists() else ""

    def restart(self, version: str) -> None:
        """Drop what has arrived; what comes now is of `version`."""
        self.path.write_bytes(b"")  # first: killed in between, an empty file of an old version does no harm
        self._version.write_text(version)

    def remove(self) -> None:
        """Delete it."""
        self.path.unlink(missing_ok=True)
        self._version.unlink(missing_ok=True)


def download(item: Download, folder: Path, *, urls: Sequence[str] = (), by_hand: str = "give it with --archive",
             patience: Patience | None = None) -> Path:
    """Download a file, going on from what an earlier call left.

    Args:
        item: The file.
        folder: Where it is gathered.
        urls: Mirrors to use instead of the public hosts.
        by_hand: What to do with a file that was got in another way (for the error).
        patience: How long to put up with the server.

    Returns:
        The hidden file that holds it, of the right size and checksum (where there is one).

    Raises:
        InputError: if no URL has it, or what is there is something else.
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
    """Fetch from one URL; return what is wrong with the bytes that came, if anything (they are gone then)."""
    resumed = part.size > 0
    _transfer(url, item, part, patience)
    problem = mismatch(part.path, item.checksum) if item.checksum else None
    if problem is not None:
        part.remove()
        if resumed:  # the first bytes may be of another version, of a host that does not name versions
            return _from(url, item, part, patience)
    return problem


def _transfer(url: str, item: Download, part: Part, patience: Patience) -> None:
    furthest, tries = part.size, 0
    with tqdm(total=item.size, initial=furthest, desc=item.name, unit="B", unit_scale=True, unit_divisor=1024,
              dynamic_ncols=True) as bar:
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
                bar.write(f"{item.name}: {error} at {part.size:,} bytes; again in {pause:.0f} s",
                          file=sys.stderr)
                time.sleep(pause)


def _attempt(url: str, item: Download, part: Part, timeout: float, bar: Any) -> None:
    """Open one connection and append what it brings, until the file is whole."""
    offset = part.size
    if item.checksum and offset >= item.size:
        return  # whole, or too long to be right: the checksum tells
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
            raise _RetryError(f"it went on at byte {start} instead of {offset}")
        if not goes_on:  # no range was asked for, or it knows none, or the file has changed
            part.restart(version(reply))
        bar.n = part.size
        _receive(response, part, item, total, bar)


def _open(url: str, offset: int, part: Part, timeout: float) -> Any:
    """Return the open response, or None if the server says that `offset` is the end."""
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
            raise _RetryError(f"it can't go on from byte {offset}") from None
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
    except (http.client.HTTPException, OSError) as error:  # stalls (TimeoutError) and resets are OSErrors
        raise _RetryError(f"the connection was lost ({_cause(error)})") from None


def _check_size(total: int | None, item: Download) -> None:
    if total is not None and (total != item.size if item.checksum else total > 2 * item.size):
        raise GiveUpError(f"it has a file of {total:,} bytes there, not of {item.size:,}")


def _cause(error: object) -> str:
    return "nothing came in time" if isinstance(error, TimeoutError) else \
        getattr(error, "strerror", None) or str(error) or type(error).__name__
