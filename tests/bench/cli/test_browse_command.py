from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
import webbrowser

import pytest

from bench.run import main
from tests.bench.browsing.conftest import attacked


@pytest.fixture
def runs(tmp_path):
    attacked(tmp_path / "runs" / "a", [1, 5, -1, 0])
    return tmp_path / "runs"


def test_the_index_is_opened_and_served_until_ctrl_c(runs, capsys, monkeypatch):
    pages = []

    def opened(address):
        pages.append((address, urllib.request.urlopen(address).read().decode()))
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
        return True

    monkeypatch.setattr(webbrowser, "open", opened)
    assert main(["browse", str(runs)]) == 0
    ((address, page),) = pages
    assert address.startswith("http://127.0.0.1:") and address in capsys.readouterr().out and "noise-pixel" in page
    with pytest.raises(OSError):
        urllib.request.urlopen(address)


def test_a_folder_that_is_one_run_opens_with_its_report(runs, monkeypatch):
    pages = []

    def opened(address):
        pages.append(urllib.request.urlopen(address).read().decode())
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
        return True

    monkeypatch.setattr(webbrowser, "open", opened)
    assert main(["browse", str(runs / "a")]) == 0
    assert pages == [(runs / "a" / "report" / "index.html").read_text()]


def test_without_a_browser_the_address_is_printed_and_served(runs):
    process = subprocess.Popen([sys.executable, "-m", "bench.run", "browse"], cwd=runs.parent, text=True,
                               stdout=subprocess.PIPE, env={**os.environ, "BROWSER": "true-but-missing", "DISPLAY": "",
                                                            "PATH": "", "PYTHONPATH": os.getcwd()})
    try:
        address = next(word for word in process.stdout.readline().split() if word.startswith("http"))
        assert "no browser" in process.stdout.readline()
        assert "noise-pixel" in urllib.request.urlopen(address).read().decode()
    finally:
        process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0


def test_static_writes_the_index_with_relative_links(runs, capsys):
    assert main(["browse", str(runs), "--static"]) == 0
    page = (runs / "index.html").read_text()
    assert 'href="a/report/index.html"' in page and (runs / "a/report/index.html").is_file()
    assert ".bench" not in page and str(runs / "index.html") in capsys.readouterr().out
    assert main(["browse", str(runs), "--static"]) == 0, "its own index is replaced"


def test_static_leaves_a_page_of_somebody_else(runs, capsys):
    (runs / "index.html").write_text("<p>mine")
    assert main(["browse", str(runs), "--static"]) == 2
    assert "index.html" in capsys.readouterr().err and (runs / "index.html").read_text() == "<p>mine"


@pytest.mark.parametrize(("arguments", "word"), [
    (["nothing"], "not a folder"), (["runs/a/attack.csv"], "not a folder"), (["runs", "--port", "0"], "--port"),
    (["runs", "--port", "65536"], "--port"), (["runs", "--port", "http"], "--port"),
    (["runs", "--static", "--port", "8000"], "--static"), (["runs", "more"], "more")])
def test_bad_arguments(runs, capsys, monkeypatch, arguments, word):
    monkeypatch.chdir(runs.parent)
    assert main(["browse", *arguments]) == 2
    assert word in capsys.readouterr().err


def test_a_port_in_use(runs, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["browse", str(runs), "--port", str(port)]) == 2
    assert str(port) in capsys.readouterr().err
