from __future__ import annotations

import email.utils
import socket
import time

import pytest

from framebench.domains.download import Part, Patience, download
from framebench.domains.sources import Download
from framebench.domains.web import looks_like_html, web_address
from framebench.errors import InputError
from tests.domains.server import ignores_range, md5, noise, says, send

BODY = noise(900_000)
QUICK = Patience(timeout=0.3, tries=3, pause=0.01, longest=0.5)


@pytest.fixture
def item(server):
    server.files["file.bin"] = BODY
    return Download("file.bin", (f"{server.url}/file.bin",), len(BODY), md5(BODY))


def _get(item, folder, **options):
    return download(item, folder, patience=QUICK, **options).read_bytes()


def _arrived(folder, content, version):
    """Write what an earlier call would have left."""
    part = Part(folder, "file.bin")
    part.restart(version)
    part.path.write_bytes(content)


def test_a_good_server(server, item, tmp_path):
    assert _get(item, tmp_path) == BODY
    (request,) = server.requests
    assert request["User-Agent"].startswith("framebench/") and request["Range"] is None
    assert _get(item, tmp_path) == BODY
    assert len(server.requests) == 1  # the second call found it whole


def test_a_truncated_body_is_continued(server, item, tmp_path, caplog):
    server.answers = [server.cut(at=300_000)]
    assert _get(item, tmp_path) == BODY
    assert server.requests[1]["Range"] == "bytes=300000-" and server.requests[1]["If-Range"] == '"1"'
    assert "the connection ended early at 300,000 bytes" in caplog.text


def test_a_stall_is_continued(server, item, tmp_path, caplog):
    server.answers = [server.stall(at=262_144)]
    assert _get(item, tmp_path) == BODY
    assert server.requests[1]["Range"] == "bytes=262144-"
    assert "no data arrived in time" in caplog.text


def test_what_an_earlier_call_left_is_continued(server, item, tmp_path):
    _arrived(tmp_path, BODY[:400_000], server.etag)
    assert _get(item, tmp_path) == BODY
    assert [request["Range"] for request in server.requests] == ["bytes=400000-"]


def test_a_reset_is_continued(server, item, tmp_path):
    def reset(handler, body):
        send(handler, body, headers={"ETag": server.etag}, only=300_000)
        time.sleep(0.05)  # otherwise the reset arrives before the bytes
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        handler.connection.close()
    server.answers = [reset]
    assert _get(item, tmp_path) == BODY


def test_many_interruptions_are_no_reason_to_give_up_while_bytes_come(server, item, tmp_path):
    def some(handler, body):
        start = int((handler.headers.get("Range") or "bytes=0-")[6:-1])
        status = 206 if start else 200
        send(handler, body[start:], status, {"Content-Range": f"bytes {start}-{len(body) - 1}/{len(body)}"}, 100_000)
    server.answers = [some] * 9
    assert _get(item, tmp_path) == BODY
    assert len(server.requests) == 9 > QUICK.tries


def test_a_server_that_ignores_ranges_starts_over(server, item, tmp_path):
    server.answers = [server.cut(at=300_000), ignores_range]
    assert _get(item, tmp_path) == BODY


def test_cut_again_and_again_at_the_same_byte_ends(server, item, tmp_path):
    server.answers = [server.cut(at=300_000)] * 9  # it also ignores ranges: no try brings more than the one before
    with pytest.raises(InputError, match="ended early, 3 times in a row"):
        _get(item, tmp_path)
    assert len(server.requests) == 3


def test_a_changed_file_starts_over(server, item, tmp_path):
    server.etag = '"2"'
    _arrived(tmp_path, noise(400_000, seed=5), '"1"')
    assert _get(item, tmp_path) == BODY
    assert server.requests[0]["If-Range"] == '"1"' and len(server.requests) == 1


def test_a_changed_file_of_a_host_without_etags_is_noticed_at_the_end(server, item, tmp_path):
    _arrived(tmp_path, noise(400_000, seed=5), "")
    assert _get(item, tmp_path) == BODY
    assert [request["Range"] for request in server.requests] == ["bytes=400000-", None]


def test_a_range_that_starts_elsewhere_is_not_appended(server, item, tmp_path):
    _arrived(tmp_path, BODY[:400_000], "")
    where = f"bytes 100000-{len(BODY) - 1}/{len(BODY)}"
    server.answers = [lambda handler, body: send(handler, body[100_000:], 206, {"Content-Range": where})]
    assert _get(item, tmp_path) == BODY


def test_a_range_that_can_not_be_had_starts_over(server, item, tmp_path):
    _arrived(tmp_path, BODY[:400_000], "")
    server.answers = [says(b"", 416, Content_Range="bytes */100")]
    assert _get(item, tmp_path) == BODY


def test_more_than_the_file_had_arrived(server, item, tmp_path):
    _arrived(tmp_path, BODY + b"more", "")
    assert _get(item, tmp_path) == BODY


def test_without_a_checksum_a_whole_file_is_known_by_416(server, tmp_path):
    server.files["file.bin"] = BODY
    item = Download("file.bin", (f"{server.url}/file.bin",), 800_000)  # the size is approximate
    assert _get(item, tmp_path) == BODY
    assert _get(item, tmp_path) == BODY
    assert [request["Range"] for request in server.requests] == [None, f"bytes={len(BODY)}-"]


@pytest.mark.parametrize("page", [b"<!DOCTYPE html><title>Log in</title>", b"\xef\xbb\xbf\n <HTML>"])
@pytest.mark.parametrize("kind", ["text/html; charset=utf-8", "application/octet-stream"])
def test_a_web_page_is_not_a_file(server, item, tmp_path, page, kind):
    page = page.ljust(len(BODY)) if kind.startswith("app") else page
    server.answers = [says(page, 200, Content_Type=kind)] * 9
    with pytest.raises(InputError, match="it answers with a web page instead of the file"):
        _get(item, tmp_path)
    assert not list(tmp_path.iterdir()) and len(server.requests) == 1


def test_wrong_bytes_of_the_right_length(server, item, tmp_path):
    wrong = noise(len(BODY), seed=9)
    server.answers = [says(wrong)] * 9
    with pytest.raises(InputError, match=f"the md5 of its bytes is {md5(wrong)[4:]}, not {md5(BODY)[4:]}") as error:
        _get(item, tmp_path)
    assert "\n" not in str(error.value) and f"download {item.urls[0]} by hand and give it with" in str(error.value)
    assert not list(tmp_path.iterdir()) and len(server.requests) == 1


@pytest.mark.parametrize("size", [100, 2_000_000])
def test_a_file_of_another_size_is_not_even_begun(server, item, tmp_path, size):
    server.answers = [says(bytes(size))] * 9
    with pytest.raises(InputError, match=f"has {size:,} bytes, not 900,000"):
        _get(item, tmp_path)
    assert not list(tmp_path.iterdir())


def test_endless_bytes_are_cut_off(server, item, tmp_path):
    def endless(handler, body):
        handler.send_response(200)
        handler.end_headers()
        while not server.released.is_set():
            handler.wfile.write(bytes(100_000))
    server.answers = [endless]
    with pytest.raises(InputError, match="it sends more than the 900,000 bytes"):
        _get(item, tmp_path)
    assert not list(tmp_path.iterdir())


def test_404_is_final(server, item, tmp_path):
    server.files.clear()
    with pytest.raises(InputError, match=r"127\.0\.0\.1:\d+: HTTP 404 Not Found\); try again later, or download http"):
        _get(item, tmp_path)
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [503, 500, 429])
def test_a_busy_server_is_asked_again(server, item, tmp_path, status):
    server.answers = [says(b"", status), says(b"", status)]
    assert _get(item, tmp_path) == BODY
    assert len(server.requests) == 3


def test_a_server_that_stays_busy_is_given_up(server, item, tmp_path):
    server.answers = [says(b"", 503)] * 9
    with pytest.raises(InputError, match="HTTP 503 Service Unavailable, 3 times in a row"):
        _get(item, tmp_path)
    assert len(server.requests) == 3


def test_retry_after_is_kept_to(server, item, tmp_path, monkeypatch):
    waited = []
    monkeypatch.setattr(time, "sleep", waited.append)
    server.answers = [says(b"", 503, Retry_After="0"), says(b"", 429, Retry_After="Wed, 21 Oct 2015 07:28:00 GMT")]
    assert _get(item, tmp_path) == BODY and waited == [0, 0]
    server.answers = [says(b"", 429, Retry_After=email.utils.formatdate(time.time() + 4000, usegmt=True))]
    Part(tmp_path, "file.bin").remove()
    with pytest.raises(InputError, match=r"HTTP 429 Too Many Requests, and it asks to wait (4000|399\d) s"):
        _get(item, tmp_path)


def test_the_next_host_is_tried(server, item, tmp_path):
    several = Download(item.name, (f"{server.url}/gone", *item.urls), item.size, item.checksum)
    assert _get(several, tmp_path) == BODY


def test_no_server(item, tmp_path):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    with pytest.raises(InputError, match="no connection .*3 times in a row"):
        _get(item, tmp_path, urls=[f"http://127.0.0.1:{port}/file.bin"])


def test_redirects_are_followed_within_the_web_only(server, item, tmp_path):
    moved = f"{server.url}/file.bin"
    server.answers = [server.cut(at=300_000), says(b"", 302, Location=moved)]
    assert _get(item, tmp_path) == BODY
    assert server.requests[2]["Range"] == "bytes=300000-"  # the redirect keeps the range
    Part(tmp_path, "file.bin").remove()
    for target in ("file:///etc/passwd", "ftp://127.0.0.1/file.bin", "data:text/plain,x"):
        server.answers = [says(b"", 302, Location=target)]
        with pytest.raises(InputError, match="which is not a web address|is not allowed"):
            _get(item, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://host/file", "data:,x", "http://", "file.tar", ""])
def test_only_web_addresses(url):
    with pytest.raises(InputError, match="is not an http or https address"):
        web_address(url)


def test_what_a_web_page_looks_like():
    assert looks_like_html(b" \n<!doctype HTML>") and looks_like_html(b"<html lang=en>")
    assert not looks_like_html(b"\x1f\x8b\x08") and not looks_like_html(b"") and not looks_like_html(b"\x93NUMPY")
