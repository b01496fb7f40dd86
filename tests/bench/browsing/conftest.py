"""Runs of rows made by hand, and the server that shows them."""

from __future__ import annotations

import http.client
import threading
from pathlib import Path

import pytest

from bench.analysis.reporting import write_report
from bench.browsing.server import serve
from tests.bench.analysis.making import cell_of, run_of


def attacked(out: Path, success, report: bool = True, **about) -> Path:
    """Write the rows of an attack into an output folder, and its report."""
    run_of(out / "examples", success, **about).flush()
    if report:
        write_report(out)
    return out


def shifted(out: Path, correct, report: bool = True, **about) -> Path:
    """Write a cell of a shift into an output folder, and its report."""
    cell_of(out / "examples", correct, **about).flush()
    if report:
        write_report(out)
    return out


class Client:
    """Sends what it is told, as it is."""

    def __init__(self, port: int) -> None:
        self.port = port

    def __call__(self, path: str, method: str = "GET", host: str | None = None):
        """Return status, headers and text."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.putrequest(method, path, skip_host=True)
        if host != "":
            connection.putheader("Host", host or f"127.0.0.1:{self.port}")
        connection.endheaders()
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        return answer.status, answer.headers, text


@pytest.fixture
def root(tmp_path):
    """A folder, with a secret beside it."""
    root = tmp_path / "runs"
    root.mkdir()
    (tmp_path / "secret.csv").write_text("withheld")
    return root


@pytest.fixture
def client(root):
    with serve(root) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield Client(server.server_address[1])
        server.shutdown()
        thread.join()
