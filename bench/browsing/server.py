"""The server of `bench browse`: it listens on the loopback address and shows the runs of one folder."""

from __future__ import annotations

import logging
import mimetypes
import os
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote_to_bytes

from bench.browsing.comparing import compare
from bench.browsing.folders import search, shown_file, stamp
from bench.browsing.listing import Listing, settled
from bench.browsing.pages import OWN, comparison_page, index_page, live_page, message_page
from bench.rows.watching import is_running
from framebench.errors import InputError
from framebench.files import read_regular
from framebench.reports.page import POLICY

_log = logging.getLogger(__name__)

ADDRESS = "127.0.0.1"
#: Maximum size in bytes of a file to show.
LIMIT = 1 << 30
_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer",
            "X-Frame-Options": "DENY", "Cross-Origin-Resource-Policy": "same-origin"}
_PAGE_POLICY = f"{POLICY}; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
#: A report may come from anybody: its scripts run, but can't read other pages.
_REPORT_POLICY = f"{_PAGE_POLICY}; sandbox allow-scripts allow-downloads allow-modals allow-popups"
_FILE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'"
_HTML = "text/html; charset=utf-8"

#: Status, content, content type, and content security policy.
Answer = tuple[HTTPStatus, bytes, str, str]


class Site:
    """The pages of a folder.

    Args:
        root: The folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self._listing = Listing(self.root)
        self._making = threading.Lock()  # one page at a time: drawing is not thread-safe, and runs need the machine
        self._live: dict[str, tuple[object, str]] = {}

    def index(self, *, served: bool = True) -> str:
        """Return the index."""
        with self._making:
            searched = search(self.root)
            runs = self._listing.runs(searched.runs)
        return index_page(self.root.name or str(self.root), runs, searched, served=served)

    def comparison(self, first: str, second: str) -> str:
        """Return the comparison of two runs.

        Raises:
            InputError: if one can't be compared.
            KeyError: if there is no such run.
        """
        self._check(first, second)
        if first == second:
            raise InputError("choose two different runs")
        with self._making:
            a, b = (self.root / name for name in (first, second))
            comparison = settled(b, lambda: settled(a, lambda: compare(a, b)))
            return comparison_page(self._listing.run(first), self._listing.run(second), comparison)

    def live(self, name: str) -> str:
        """Return the report of a run from its rows. It is made again only when they have changed.

        Raises:
            InputError: if the rows are damaged.
            KeyError: if there is no such run.
        """
        self._check(name)
        out = self.root / name
        with self._making:
            try:
                state = stamp(out), is_running(out)
            except ValueError as error:
                raise InputError(f"{name} can't be read: {error}") from None
            if name not in self._live or self._live[name][0] != state:
                self._live[name] = state, settled(out, lambda: live_page(out, state[1]))
            return self._live[name][1]

    def file(self, parts: list[str]) -> tuple[bytes, str]:
        """Return the content of a run's file, and its type.

        Raises:
            KeyError: if there is no such file, or it may not be shown.
        """
        path = shown_file(self.root, parts)
        if path is None:
            raise KeyError(parts[-1])
        try:
            content = read_regular(path, LIMIT)
        except (OSError, ValueError):
            raise KeyError(path.name) from None
        kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        return content, f"{kind}; charset=utf-8" if kind.startswith("text/") else kind

    def _check(self, *names: str) -> None:
        if missing := set(names).difference(search(self.root).runs):
            raise KeyError(*missing)


def serve(root: Path, port: int = 0) -> ThreadingHTTPServer:
    """Return a server of a folder that listens already; `serve_forever` makes it answer.

    Args:
        root: The folder.
        port: 1 to 65535, or 0 for a free one.

    Raises:
        InputError: if the port is not available.
    """
    site = Site(root)
    try:
        server = ThreadingHTTPServer((ADDRESS, port), lambda *arguments: _Handler(site, *arguments))
    except OSError as error:
        raise InputError(f"can't serve on --port {port} ({error.strerror}); give another one, or leave it out for a "
                         "free one") from None
    server.daemon_threads = True
    return server


class _Handler(BaseHTTPRequestHandler):
    """Answers GET and HEAD, and refuses other methods."""

    server_version, sys_version, timeout = "framebench", "", 30
    server: ThreadingHTTPServer

    def __init__(self, site: Site, *arguments: object) -> None:
        self._site = site
        super().__init__(*arguments)  # type: ignore[arg-type]  # of socketserver: request, address, server

    def do_GET(self) -> None:
        """Answer a request."""
        try:
            status, content, kind, policy = self._answer()
        except InputError as error:
            status, content, kind, policy = _message(HTTPStatus.CONFLICT, str(error))
        except KeyError:
            status, content, kind, policy = _message(HTTPStatus.NOT_FOUND, "There is no such page.")
        except Exception as error:  # a failed page must not end the server
            _log.exception("%s", self.path)
            status, content, kind, policy = _message(HTTPStatus.INTERNAL_SERVER_ERROR,
                                                     f"This page can't be made ({type(error).__name__}: {error}).")
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Content-Security-Policy", policy)
        self._end(content)

    do_HEAD = do_GET  # noqa: N815

    def refuse(self) -> None:
        """Refuse a method other than GET and HEAD."""
        self.send_response(HTTPStatus.METHOD_NOT_ALLOWED)
        self.send_header("Allow", "GET, HEAD")
        self.send_header("Content-Length", "0")
        self._end(b"")

    do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = do_TRACE = do_CONNECT = refuse  # noqa: N815

    def _end(self, content: bytes) -> None:
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *values: object) -> None:  # noqa: A002  # the base class's name
        """Log a request."""
        _log.debug(format, *values)

    def _answer(self) -> Answer:
        port = self.server.server_address[1]
        # Against DNS rebinding: a foreign page whose host name resolves to this machine sends that name.
        if self.headers.get("Host") not in (f"{ADDRESS}:{port}", f"localhost:{port}"):
            return _message(HTTPStatus.FORBIDDEN, "This server answers to its own address alone.")
        path, _, query = self.path.partition("?")
        parts = [os.fsdecode(unquote_to_bytes(part)) for part in path.split("/")]
        if parts == ["", ""]:
            return _page(self._site.index())
        if parts[0]:
            raise KeyError(path)
        values = parse_qs(query, errors="surrogateescape")
        pages: dict[str, Callable[[], str]] = {
            "compare": lambda: self._site.comparison(_first(values, "a"), _first(values, "b")),
            "run": lambda: self._site.live(_first(values, "at"))}
        if len(parts) == 3 and parts[1] == OWN and parts[2] in pages:
            return _page(pages[parts[2]]())
        content, kind = self._site.file(parts[1:])
        return HTTPStatus.OK, content, kind, _REPORT_POLICY if kind == _HTML else _FILE_POLICY


def _page(text: str, status: HTTPStatus = HTTPStatus.OK) -> Answer:
    return status, text.encode("utf-8", "replace"), _HTML, _PAGE_POLICY


def _message(status: HTTPStatus, text: str) -> Answer:
    return _page(message_page(status.phrase, text), status)


def _first(values: dict[str, list[str]], name: str) -> str:
    if name not in values:
        raise InputError("choose two runs")
    return values[name][0]
