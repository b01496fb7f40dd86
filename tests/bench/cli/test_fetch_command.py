from __future__ import annotations

import subprocess
import sys

import pytest

from bench.run import main
from framebench.domains.sources import SOURCES
from tests.domains.conftest import server
from tests.domains.server import ARCHIVE, CONTENT, noise, packed, plain, says

__all__ = ["server"]  # the fixture


@pytest.fixture
def toys(server, monkeypatch):
    """Two made-up sets beside the real ones; real ones must not be fetched here."""
    for source in (packed(server), plain(server)):
        monkeypatch.setitem(SOURCES, source.name, source)
    return server


def test_the_list(tmp_path, capsys):
    (tmp_path / "svhn").mkdir()
    (tmp_path / "svhn" / "test_32x32.mat").touch()
    assert main(["fetch", "--data-root", str(tmp_path)]) == 0
    assert main(["fetch", "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 * (1 + len(SOURCES))
    assert [line.split()[0] for line in lines[1:1 + len(SOURCES)]] == list(SOURCES)
    assert "  cifar10-c       CIFAR-10-C, 19 corruptions" in lines[4] and "2.92 GB to download" in lines[4]
    assert [line.split()[0] for line in lines if line.endswith(", there")] == ["svhn"]


def test_several_sets(toys, tmp_path, capsys):
    root = tmp_path / "root"
    command = ["fetch", "toy", "files", "toy", "--data-root", str(root)]
    assert main(command) == 0
    said = capsys.readouterr()
    assert said.out.splitlines()[0] == f"toy: wrote {root / 'toy'}, checked"
    assert "toy.tar.gz" in said.err  # the progress bar
    assert sorted(path.name for path in root.iterdir()) == ["toy", "toys"]
    assert (root / "toys" / "b.bin").read_bytes() == CONTENT["b.bin"]
    asked = len(toys.requests)
    assert main(command) == 0 and len(toys.requests) == asked
    assert "nothing to do" in capsys.readouterr().out
    assert main([*command, "--force"]) == 0 and len(toys.requests) > asked


def test_the_data_root_of_the_environment(toys, tmp_path, monkeypatch):
    monkeypatch.setenv("BENCH_DATA", str(tmp_path / "root"))
    assert main(["fetch", "toy"]) == 0
    assert (tmp_path / "root" / "toy" / "a.bin").read_bytes() == CONTENT["a.bin"]


def test_a_local_archive_and_a_mirror(toys, tmp_path):
    (tmp_path / "got.tar.gz").write_bytes(ARCHIVE)
    assert main(["fetch", "toy", "--data-root", str(tmp_path), "--archive", str(tmp_path / "got.tar.gz")]) == 0
    assert not toys.requests
    toys.files = {f"there/{name}": content for name, content in CONTENT.items()}
    assert main(["fetch", "files", "--data-root", str(tmp_path), "--url", f"{toys.url}/there"]) == 0
    assert (tmp_path / "toys" / "a.bin").read_bytes() == CONTENT["a.bin"]


@pytest.mark.parametrize(("options", "message"), [
    (["cifar10c", "--data-root", "{root}"], "unknown data set 'cifar10c'; did you mean cifar10-c"),
    (["toy"], "fetch needs --data-root DIR (or BENCH_DATA)"),
    (["toy", "files", "--data-root", "{root}", "--url", "http://127.0.0.1/"], "name one only"),
    (["toy", "--data-root", "{root}", "--url", "http://127.0.0.1/", "--archive", "x"], "exclude each other"),
    (["--data-root", "{root}", "--archive", "x"], "need the NAME"),
    (["toy", "--data-root", "{root}", "--archive", "{root}/x"], "there is no {root}/x"),
    (["toy", "--data-root", "{root}", "--url", "file:///etc/passwd"], "is not an http or https address"),
    (["toy", "--data-root", "{root}", "--url", "{server}/none"], "HTTP 404"),
    (["toy", "--data-root", "{root}"], "the md5 of its bytes is"),
])
def test_bad_input(toys, tmp_path, capsys, options, message):
    toys.answers = [says(noise(len(ARCHIVE), seed=8))]
    facts = {"root": tmp_path / "root", "server": toys.url}
    assert main(["fetch", *(option.format(**facts) for option in options)]) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and message.format(**facts) in errors[0]
    assert not (tmp_path / "root").exists() or not list((tmp_path / "root").iterdir())


def test_an_interrupt_is_not_an_error(toys, tmp_path, monkeypatch, capsys):
    def interrupted(*_, **__):
        raise KeyboardInterrupt
    monkeypatch.setattr("framebench.domains.download._read", interrupted)
    assert main(["fetch", "toy", "--data-root", str(tmp_path)]) == 130
    assert "the same command resumes" in capsys.readouterr().err
    monkeypatch.undo()


def test_help_imports_no_torch():
    done = subprocess.run([sys.executable, "-X", "importtime", "-m", "bench.run", "fetch", "--help"],
                          capture_output=True, text=True, check=True)
    assert "--archive" in done.stdout
    imported = {line.rsplit("|", 1)[-1].strip() for line in done.stderr.splitlines()}
    assert not imported & {"torch", "numpy", "urllib.request"}
