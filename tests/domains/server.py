"""A web server for tests: it serves made-up files and data sets, and misbehaves on demand."""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
import threading
from collections.abc import Callable
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np

from framebench.domains.contents import checksums
from framebench.domains.sources import Download, Source

#: Answers a request, given the content of the file that was asked for.
Answer = Callable[[BaseHTTPRequestHandler, bytes], None]


class Server:
    """Serves `files`. Each answer in `answers` is used once; after that, all requests are answered correctly."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.answers: list[Answer] = []
        self.requests: list[Message] = []
        self.etag = '"1"'
        self.released = threading.Event()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:  # noqa: N802
                server.requests.append(self.headers)
                body = server.files.get(self.path.lstrip("/"))
                if body is None:
                    return send(self, b"no such file", 404)
                answer = server.answers.pop(0) if server.answers else server.well
                return answer(self, body)

            def log_message(self, *_: object) -> None:
                pass

        class Quiet(ThreadingHTTPServer):
            def handle_error(self, *_: object) -> None:  # clients that close the connection are part of the tests
                pass

        self._http = Quiet(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self.released.set()
        self._http.shutdown()
        self._http.server_close()

    def well(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        wanted = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
        if wanted is None or handler.headers.get("If-Range", self.etag) != self.etag:
            return send(handler, body, headers={"ETag": self.etag})
        start = int(wanted[1])
        if start >= len(body):
            return send(handler, b"", 416, {"Content-Range": f"bytes */{len(body)}"})
        where = f"bytes {start}-{len(body) - 1}/{len(body)}"
        return send(handler, body[start:], 206, {"ETag": self.etag, "Content-Range": where})

    def cut(self, at: int) -> Answer:
        """Send `at` bytes, then close the connection."""
        return lambda handler, body: send(handler, body, headers={"ETag": self.etag}, only=at)

    def stall(self, at: int) -> Answer:
        """Send `at` bytes, then nothing, with the connection open."""
        def answer(handler: BaseHTTPRequestHandler, body: bytes) -> None:
            send(handler, body, headers={"ETag": self.etag}, only=at)
            self.released.wait(10)
        return answer


def says(content: bytes, status: int = 200, **headers: str) -> Answer:
    """Answer with `content` whatever was asked for; in header names, _ stands for -."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda handler, _: send(handler, content, status, named)


def ignores_range(handler: BaseHTTPRequestHandler, body: bytes) -> None:
    send(handler, body)


def send(handler: BaseHTTPRequestHandler, body: bytes, status: int = 200, headers: dict[str, str] | None = None,
         only: int | None = None) -> None:
    handler.send_response(status)
    for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(body[:only])
    handler.wfile.flush()


def md5(content: bytes) -> str:
    return f"md5:{hashlib.md5(content).hexdigest()}"


def noise(size: int, seed: int = 0) -> bytes:
    return np.random.default_rng(seed).bytes(size)


def tar_of(members: dict[str, bytes], mode: str = "w:gz") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as tar:  # type: ignore[call-overload]
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


CONTENT = {"a.bin": noise(700_000), "b.bin": noise(50_000, seed=1)}
ARCHIVE = tar_of({"toy/": b"", **{f"toy/{name}": content for name, content in CONTENT.items()}, "toy/readme": b"hi"})


def packed(server: Server, archive: bytes = ARCHIVE, name: str = "toy") -> Source:
    """A set of one archive, which the server offers."""
    server.files["toy.tar.gz"] = archive
    return Source(name, "a toy", "toy", (Download("toy.tar.gz", (f"{server.url}/toy.tar.gz",), len(ARCHIVE),
                                                  md5(ARCHIVE)),), files=2, unpacked=750_000,
                  checks=(checksums({name: md5(content) for name, content in CONTENT.items()}),),
                  members=r"toy/(?P<path>[ab]\.bin)")


def plain(server: Server, name: str = "files") -> Source:
    """A set of two plain files, which the server offers; the second has no published checksum."""
    server.files.update(CONTENT)
    downloads = tuple(Download(name, (f"{server.url}/{name}",), len(CONTENT[name]), checksum)
                      for name, checksum in (("a.bin", md5(CONTENT["a.bin"])), ("b.bin", "")))
    return Source(name, "toy files", "toys", downloads, files=2, unpacked=750_000,
                  checks=(checksums({name: md5(content) for name, content in CONTENT.items()}),))
