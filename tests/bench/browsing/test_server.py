from __future__ import annotations

import os
import shutil
from urllib.parse import quote

import pytest

from bench.rows.store import Store
from tests.bench.analysis.making import run_of
from tests.bench.browsing.conftest import attacked, shifted


def test_the_index_lists_runs_with_their_numbers(root, client):
    attacked(root / "a", [1, 5, -1, 0], model="mine")
    shifted(root / "deep" / "b", [True, True, False, True], model="yours", domain="cloudy")
    (root / "notes").mkdir()
    status, _, text = client("/")
    assert status == 200 and 'href="a/report/index.html"' in text and 'href="deep/b/report/index.html"' in text
    assert "mine" in text and "noise-pixel" in text and "yours" in text and "cloudy" in text and "notes" not in text
    assert 'data-value="0.25"' in text, "of four images one is never broken and classified correctly"
    assert client("/a/report/index.html")[0] == 200 and client("/a/attack.csv")[2].startswith("model,domain")


def test_an_empty_folder_says_what_writes_runs(client):
    assert "bench attack" in client("/")[2]


@pytest.mark.parametrize("path", [
    "/../secret.csv", "/a/../../secret.csv", "/%2e%2e/secret.csv", "/a/%2e%2e/%2e%2e/secret.csv",
    "/..%2fsecret.csv", "/a/report/..%2f..%2f..%2fsecret.csv", "/..%5csecret.csv", "//etc/passwd", "/etc/passwd",
    "/a/report/../../../secret.csv", "/out.csv", "/linked/secret.csv", "/a/report/linked.csv", "/a/linked.csv",
    "/a/report/", "/a/report", "/a/", "/a", "/a/examples/.lock", "/a/report/.hidden", "/a/notes.txt", "/other/data.csv",
    "/a/report/index.html%00.csv", "/a/report/pipe.html", "/.bench/", "/.bench/nothing"])
def test_nothing_but_tables_and_reports_below_the_folder_is_shown(root, client, path):
    attacked(root / "a", [1, -1])
    (root / "a" / "examples" / ".lock").touch()
    (root / "a" / "report" / ".hidden").write_text("withheld")
    (root / "a" / "notes.txt").write_text("withheld")
    (root / "other").mkdir()
    (root / "other" / "data.csv").write_text("withheld")
    secret = root.parent / "secret.csv"
    for link in (root / "out.csv", root / "a" / "report" / "linked.csv", root / "a" / "linked.csv"):
        link.symlink_to(secret)
    (root / "linked").symlink_to(root.parent)
    os.mkfifo(root / "a" / "report" / "pipe.html")
    status, _, text = client(path)
    assert status == 404 and "withheld" not in text


def test_get_and_head_are_all_there_is(root, client):
    attacked(root / "a", [1, -1])
    status, headers, text = client("/a/report/index.html", "HEAD")
    assert status == 200 and text == "" and int(headers["Content-Length"]) > 1000
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        status, headers, _ = client("/", method)
        assert status == 405 and headers["Allow"] == "GET, HEAD"
    assert client("/", "BREW")[0] == 501


def test_other_hosts_are_refused(root, client):
    attacked(root / "a", [1, -1])
    for host in ("evil.example", f"evil.example:{client.port}", "127.0.0.1", "127.0.0.1:1", ""):
        for path in ("/", "/a/report/index.html", "/a/attack.csv"):
            status, _, text = client(path, host=host)
            assert status == 403 and "noise-pixel" not in text
    assert client("/", host=f"localhost:{client.port}")[0] == 200


@pytest.mark.parametrize("path", ["/", "/a/report/index.html", "/a/attack.csv", "/nothing"])
def test_answers_are_neither_kept_nor_guessed_nor_framed(root, client, path):
    attacked(root / "a", [1, -1])
    headers = client(path)[1]
    assert headers["Cache-Control"] == "no-store" and headers["X-Content-Type-Options"] == "nosniff"
    assert "default-src 'none'" in headers["Content-Security-Policy"] and headers["X-Frame-Options"] == "DENY"


def test_reports_of_anybody_are_apart_from_the_other_pages(root, client):
    attacked(root / "a", [1, -1])
    assert "sandbox allow-scripts" in client("/a/report/index.html")[1]["Content-Security-Policy"]
    assert "sandbox" not in client("/")[1]["Content-Security-Policy"]


def test_damaged_and_hostile_folders_are_listed_and_stop_nothing(root, client):
    attacked(root / "good", [1, -1], model="good model")
    for name, text in (("binary", b"\xff\xfe\x00"), ("foreign", b"a,b\n1,2\n"), ("empty", b""),
                       ("text", b"model,domain,attack,n,unit,budget\nm,d,a,many,iterations,1\n")):
        (root / name).mkdir()
        (root / name / "attack.csv").write_bytes(text)
    bad = attacked(root / "rows", [1, -1], report=False)
    next(bad.glob("examples/*/rows-*")).write_bytes(b"PAR1")
    (root / "linked").mkdir()
    (root / "linked" / "attack.csv").symlink_to(root.parent / "secret.csv")
    (root / "pipe").mkdir()
    os.mkfifo(root / "pipe" / "attack.csv")
    piped = attacked(root / "piped", [1, -1], report=False)
    os.mkfifo(next(piped.glob("examples/*")) / "rows-00002-0000000000000000.parquet")
    (root / "loop").symlink_to(root)
    odd = "<b>&\"'"
    shutil.copytree(root / "good", root / odd)
    (root / os.fsdecode(b"\xff\xfe")).mkdir()
    (root / os.fsdecode(b"\xff\xfe") / "attack.csv").write_text("model")
    status, _, text = client("/")
    assert status == 200 and "good model" in text and "<b>" not in text and "&lt;b&gt;" in text
    assert f'href="{quote(odd)}/report/index.html"' in text
    lines = {line.split("</th>")[0] for line in text.splitlines() if line.startswith("<tr><th")}
    for name in ("binary", "foreign", "text", "rows", "linked", "pipe", "piped"):
        (line,) = [line for line in lines if f">{name}<" in line]
        assert "<small>" in line and "<a " not in line, name
    assert not any(line.endswith("loop") for line in lines)


def test_a_running_run_says_how_far_it_is_and_its_page_loads_itself_again(root, client):
    store = Store(root / "a")
    with store.lock():
        rows = run_of(root / "a" / "examples", [1, -1, 3], examples=[0, 1, 2])
        store.expect(8)
        assert "0 of 8" in client("/")[2]
        rows.flush()
        index, page = client("/")[2], client("/.bench/run?at=a")[2]
        assert "running: 3 of 8" in index and 'href=".bench/run?at=a"' in index and '"refresh":10.0' in index
        assert '"refresh":1' in page and "n = 3 images" in page
        rows.add(run_of(root, [2], examples=[3]).frame())
        rows.flush()
        assert "running: 4 of 8" in client("/")[2] and "n = 4 images" in client("/.bench/run?at=a")[2]
        assert not (root / "a" / "report").exists() and not (root / "a" / "attack.csv").exists()
    text = client("/")[2]
    assert "running" not in text and "no report yet" in text and '"refresh":null' in text
    assert '"refresh":null' in client("/.bench/run?at=a")[2]


def test_only_runs_have_a_page(root, client):
    attacked(root.parent / "outside", [1, -1])
    for at in ("nothing", "..", "../outside", str(root.parent / "outside"), ""):
        assert client(f"/.bench/run?at={quote(at)}")[0] in (404, 409)
