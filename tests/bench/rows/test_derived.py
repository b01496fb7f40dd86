from __future__ import annotations

import shutil
import subprocess

import pytest

from bench.rows.derived import NAME, read_derived, write_derived
from framebench.errors import DamagedError

TEXTS = {"a.csv": "model,asr\nm,0.5\n", "report/index.html": "<p>é"}


def test_what_was_written_is_read_and_what_was_changed_is_named(tmp_path):
    write_derived(tmp_path, TEXTS)
    for name, text in TEXTS.items():
        assert read_derived(tmp_path, name, 100) == text
    if shutil.which("sha256sum"):
        subprocess.run(["sha256sum", "--quiet", "-c", NAME], cwd=tmp_path, check=True)
    (tmp_path / "a.csv").write_text(TEXTS["a.csv"].replace("5", "4"))
    with pytest.raises(DamagedError, match="a.csv"):
        read_derived(tmp_path, "a.csv", 100)
    write_derived(tmp_path, TEXTS)
    (tmp_path / NAME).write_text((tmp_path / NAME).read_text()[1:])
    with pytest.raises(DamagedError, match="a.csv"):
        read_derived(tmp_path, "a.csv", 100)


def test_a_run_killed_as_it_writes_leaves_no_checksums_that_fit_only_some(tmp_path):
    write_derived(tmp_path, TEXTS)
    (tmp_path / "report" / "index.html").unlink()
    (tmp_path / "report" / "index.html").mkdir()  # which can't be written
    with pytest.raises(OSError):
        write_derived(tmp_path, {"a.csv": "other", "report/index.html": "x"})
    assert not (tmp_path / NAME).exists() and read_derived(tmp_path, "a.csv", 100) == "other"
