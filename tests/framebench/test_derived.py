from __future__ import annotations

import shutil
import subprocess

import pytest

from framebench.derived import NAME, check_derived, write_derived
from framebench.errors import DamagedError

TEXTS = {"a.csv": "model,asr\nm,0.5\n", "report/index.html": "<p>é"}


def check(path):
    check_derived(path, path.read_bytes())


def test_what_was_changed_is_named(tmp_path):
    write_derived(tmp_path, TEXTS)
    write_derived(tmp_path, {"b.csv": "x"})
    if shutil.which("sha256sum"):
        subprocess.run(["sha256sum", "--quiet", "-c", NAME], cwd=tmp_path, check=True)
    for name in ("a.csv", "b.csv"):
        path, content = tmp_path / name, (tmp_path / name).read_bytes()
        check(path)
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(DamagedError, match=name):
            check(path)
        path.write_bytes(content)
        check(path)


def test_files_without_checksums_and_checksums_without_meaning_refuse_nothing(tmp_path):
    (tmp_path / "c.csv").write_text("x")
    check(tmp_path / "c.csv")
    (tmp_path / NAME).write_bytes(b"\xff\x00 c.csv\n")
    check(tmp_path / "c.csv")


def test_a_process_killed_as_it_writes_leaves_no_checksum_that_does_not_fit(tmp_path):
    write_derived(tmp_path, TEXTS | {"b.csv": "x"})
    (tmp_path / "report" / "index.html").unlink()
    (tmp_path / "report" / "index.html").mkdir()  # which can't be written
    with pytest.raises(OSError):
        write_derived(tmp_path, {"a.csv": "other", "report/index.html": "x"})
    check(tmp_path / "a.csv")
    assert (tmp_path / "a.csv").read_text() == "other" and "b.csv" in (tmp_path / NAME).read_text()
