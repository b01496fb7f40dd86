"""Web addresses, headers and pages, as far as downloads need them."""

from __future__ import annotations

import contextlib
import email.utils
import re
import time
import urllib.parse
import urllib.request
from email.message import Message
from typing import IO, Any

from framebench.errors import InputError

_SCHEMES = ("http", "https")


class GiveUpError(Exception):
    """An error that would happen again at the next try of the same URL."""


def web_address(url: str) -> str:
    """Return `url` if it is a web address.

    Raises:
        InputError: for schemes other than http and https, or if there is no host.
    """
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in _SCHEMES or not parts.netloc:
        raise InputError(f"'{url}' is not an http or https address; for a file on this machine, use --archive")
    return url


def looks_like_html(head: bytes) -> bool:
    """Return whether the bytes are the start of a web page, such as an error or login page."""
    return head[:200].lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith((b"<!doctype html", b"<html", b"<head"))


def content_length(headers: Message) -> int | None:
    """Read Content-Length; None if it is absent."""
    value = headers.get("Content-Length", "")
    return int(value) if value.isdigit() else None


def content_range(headers: Message) -> tuple[int, int | None]:
    """Read Content-Range: the first byte (-1 if absent) and the length of the whole file (None if absent)."""
    found = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)", headers.get("Content-Range", "").strip())
    if found is None:
        return -1, None
    return int(found[1] or -1), None if found[2] == "*" else int(found[2])


def version(headers: Message) -> str:
    """Return a name of this version for If-Range: a strong ETag, else the date, else an empty string."""
    etag = str(headers.get("ETag", ""))
    return etag if etag.startswith('"') else str(headers.get("Last-Modified", ""))


def retry_after(headers: Message) -> float | None:
    """Read Retry-After as seconds from now; None if it is absent."""
    value = headers.get("Retry-After", "").strip()
    if value.isdigit():
        return float(value)
    with contextlib.suppress(ValueError, TypeError):
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    return None


class _WebRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any,
                         newurl: str) -> urllib.request.Request | None:
        if urllib.parse.urlsplit(newurl).scheme not in _SCHEMES:
            raise GiveUpError(f"it redirects to {newurl}, which is not a web address")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def opener() -> urllib.request.OpenerDirector:
    """Build an opener for http and https only; the usual one of urllib also opens ftp, data: and local files."""
    director = urllib.request.OpenerDirector()
    for handler in (urllib.request.ProxyHandler(), urllib.request.HTTPHandler(), urllib.request.HTTPSHandler(),
                    urllib.request.HTTPDefaultErrorHandler(), urllib.request.HTTPErrorProcessor(), _WebRedirects()):
        director.add_handler(handler)
    return director
