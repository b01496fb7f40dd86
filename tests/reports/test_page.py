"""The page as a file: what is inlined, and that data stay data."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import framebench.reports.page
from bench.browsing import pages
from framebench.reports.page import SCRIPTS, page

WEB = Path(framebench.reports.page.__file__).parent / "web"
EVIL = "</script><script>alert(1)</script><!--\u2028&amp;\" ' \u202eabc"


def embedded(text):
    return re.search(r'<script type="application/json" id="data">(.*?)</script>', text, flags=re.DOTALL)[1]


def test_data_come_back_as_they_were_and_end_no_script():
    payload = {"models": [EVIL], "styles": {EVIL: {"color": "#fff"}}, "value": [float("nan"), float("inf"), 0.5]}
    text = page(EVIL, EVIL, "<p>content</p>", payload)
    data = embedded(text)
    assert not set("<>&\u2028\u2029") & set(data)
    seen = EVIL.replace("\u202e", "\\u202e").replace("\u2028", "\\u2028")
    assert json.loads(data) == {"models": [seen], "styles": {seen: {"color": "#fff"}}, "value": [None, None, 0.5]}
    assert text.count("<script") == len(SCRIPTS) + 1 and "alert(1)</script>" not in text.partition("<style>")[0]


def test_a_page_forbids_all_loading_and_has_nothing_to_load():
    text = page("t", "", "", {})
    assert "default-src 'none'" in text
    assert not re.search(r"<(?:link|img|iframe|script)[^>]+(?:src|href)=", text)
    assert "<script" not in page("t", "", "")


def test_every_script_is_used_and_ends_no_script_element():
    used = {*SCRIPTS, *pages.SCRIPTS}
    assert used == {path.relative_to(WEB).as_posix() for path in WEB.rglob("*.js")}
    for name in used:
        assert "</script" not in (WEB / name).read_text(encoding="utf-8").lower()


def test_libraries_are_those_whose_digests_are_written_down():
    readme = (WEB / "vendor" / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\S+\.js) \|.*\| ([0-9a-f]{64}) \|$", readme, flags=re.M)
    assert len(rows) == 2 == len(list((WEB / "vendor").glob("*.js")))
    for name, digest in rows:
        assert hashlib.sha256((WEB / "vendor" / name).read_bytes()).hexdigest() == digest
        assert (WEB / "vendor" / f"{name.split('.')[0]}.LICENSE").is_file()
