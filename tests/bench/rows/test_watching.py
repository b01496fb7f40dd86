from __future__ import annotations

import os

import pytest

from bench.rows.store import Store
from bench.rows.watching import count, is_running, progress
from framebench.errors import InputError
from tests.bench.analysis.making import run_of


def test_a_run_is_seen_while_it_holds_its_lock_and_never_disturbed(tmp_path):
    store = Store(tmp_path)
    assert not is_running(tmp_path) and progress(tmp_path) is None
    with store.lock():
        assert is_running(tmp_path) and progress(tmp_path) is None
        with pytest.raises(InputError), Store(tmp_path).lock():
            pass
        assert is_running(tmp_path)
    assert not is_running(tmp_path)
    with store.lock():
        assert is_running(tmp_path)


def test_progress_counts_the_rows_of_this_run_alone(tmp_path):
    store = Store(tmp_path)
    run_of(tmp_path / "examples", [1, 2, 3], model="before").flush()
    with store.lock():
        store.expect(5)
        assert progress(tmp_path) == (0, 5)
        rows = run_of(tmp_path / "examples", [1, 2])
        rows.flush()
        assert progress(tmp_path) == (2, 5)
        rows.add(run_of(tmp_path, [4], examples=[7]).frame())
        rows.finish()
        assert progress(tmp_path) == (3, 5) and count(tmp_path / "examples") == 6
    assert progress(tmp_path) is None


def test_what_is_no_file_of_rows_counts_nothing(tmp_path):
    run_of(tmp_path / "examples", [1, 2, 3]).flush()
    folder = next((tmp_path / "examples").iterdir())
    (folder / "rows-00009-0123456789abcdef.parquet").write_bytes(b"PAR1")
    os.mkfifo(folder / "rows-00008-0123456789abcdef.parquet")
    (folder / "rows-00007-0123456789abcdef.parquet").symlink_to(next(folder.glob("rows-00001-*")))
    assert count(tmp_path / "examples") == 3
