from __future__ import annotations

import errno
import os
import subprocess
import sys

import numpy as np
import pytest

from framebench.errors import InputError, out_of_memory, printable, unknown
from framebench.files import atomic, digest, lock, regular, sweep, unseal
from framebench.seeding import generator


def test_draws_depend_on_the_key_alone():
    first = generator(0, "order", 7).permutation(100)
    generator(0, "order", 8).permutation(100)
    assert (generator(0, "order", 7).permutation(100) == first).all()
    for other in ((1, "order", 7), (0, "other", 7), (0, "order", 8), (0, "order", 7, 0)):
        assert (generator(*other).permutation(100) != first).any()
    assert (generator(np.int64(0), "order", np.int64(7)).permutation(100) == first).all()


def test_a_file_is_whole_or_absent(tmp_path):
    path = tmp_path / "deep" / "file"
    with atomic(path) as temporary:
        temporary.write_text("one")
        assert not path.exists()
    with pytest.raises(RuntimeError), atomic(path) as temporary:
        temporary.write_text("two")
        raise RuntimeError
    assert path.read_text() == "one" and list(path.parent.iterdir()) == [path]


def test_a_lock_keeps_others_out_until_it_is_left(tmp_path, monkeypatch):
    fcntl = pytest.importorskip("fcntl")
    path = tmp_path / ".lock"
    with lock(path, "busy; wait"), pytest.raises(InputError, match="^busy; wait$"), lock(path, "busy; wait"):
        pass
    with pytest.raises(RuntimeError), lock(path, ""):
        raise RuntimeError

    def no_locks(*_):
        raise OSError(errno.ENOLCK, "no locks")

    with lock(path, "busy"):
        monkeypatch.setattr(fcntl, "flock", no_locks)  # a file system without
        with lock(path, "busy"):
            pass


def test_digests_tell_values_shapes_and_types_apart():
    a = np.arange(6, dtype=np.int64)
    digests = {digest(x) for x in (a, a + 1, a.reshape(2, 3), a.astype(np.uint64))} | {digest(a, a)}
    assert len(digests) == 5 and digest(a[::2]) == digest(a[::2].copy())


def test_unknown_names_are_answered_with_what_is_near_or_known():
    assert str(unknown("model", "basline", ["baseline", "frame"])) == (
        "unknown model 'basline'; did you mean baseline?")
    assert str(unknown("model", "zzz", ["b", "a"])) == "unknown model 'zzz'; known: a, b"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc alone is told")
@pytest.mark.parametrize("keep", [True, False])
def test_freed_memory_is_kept_where_glibc_is(keep):
    code = f"""
import resource
from framebench.memory import keep_freed_memory
if {keep} and not keep_freed_memory():
    raise SystemExit("no glibc")
faults, size = [], 40_000_000
for _ in range(20):
    b"x" * size
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
print(faults[-1] - faults[0])
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    if run.stderr.strip() == "no glibc":
        pytest.skip("no glibc")
    pages = 20 * 40_000_000 / 4096
    assert (int(run.stdout) < pages / 20) is keep, run.stderr


def test_a_full_disk_names_the_file_and_leaves_nothing(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="rows.csv"), atomic(tmp_path / "rows.csv") as temporary:
        temporary.write_text("1")
    assert not list(tmp_path.iterdir())


def test_sweeping_removes_what_is_half_written_and_nothing_else(tmp_path):
    pytest.importorskip("fcntl")
    (tmp_path / "a").mkdir()
    kept = ["x.csv", "a/z.part", ".cifar-10-python.tar.gz.part", ".cifar-10-python.tar.gz.part.version"]
    for name in (".x.csv.0123abc_.part", "a/.y.csv.01234567.part", *kept):
        (tmp_path / name).write_text("1")
    sweep(tmp_path / "none")
    sweep(tmp_path)
    assert (tmp_path / "a" / ".y.csv.01234567.part").exists()
    sweep(tmp_path, below=True)
    left = [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()]
    assert sorted(left) == sorted(kept)


def test_what_a_killed_process_left_is_removed_by_who_writes_next_and_what_is_being_written_stays(tmp_path):
    pytest.importorskip("fcntl")
    code = ("import os, signal, sys; from pathlib import Path; from framebench.files import atomic\n"
            "with atomic(Path(sys.argv[1]) / 'x.csv') as temporary:\n"
            "    temporary.write_text('half')\n"
            "    os.kill(os.getpid(), signal.SIGKILL)\n")
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False).returncode == -9
    (left,) = tmp_path.iterdir()
    with atomic(tmp_path / "y.csv") as first:
        assert list(tmp_path.iterdir()) == [first], left
        first.write_text("1")
        with atomic(tmp_path / "y.csv") as second:
            second.write_text("2")
        assert first.exists()
    assert list(tmp_path.iterdir()) == [tmp_path / "y.csv"] and (tmp_path / "y.csv").read_text() == "1"


def test_without_locks_files_are_still_whole_and_nothing_is_swept(tmp_path, monkeypatch):
    monkeypatch.setattr("framebench.files.fcntl", None)
    (tmp_path / ".x.csv.01234567.part").touch()
    with atomic(tmp_path / "x.csv") as temporary:
        temporary.write_text("1")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".x.csv.01234567.part", "x.csv"]


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("none"), lambda path: None])
def test_what_is_no_file_is_refused_without_waiting(tmp_path, make):
    make(path := tmp_path / "rows-0123456789abcdef.parquet")
    with pytest.raises(OSError):
        regular(path)
    with pytest.raises(InputError, match=path.name):
        unseal(path)


def test_the_lock_of_another_user_is_opened_for_reading(tmp_path, monkeypatch):
    (tmp_path / ".lock").touch()
    real = os.open

    def refuse(path, flags, *mode):
        if flags & os.O_RDWR:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path, flags, *mode)

    monkeypatch.setattr(os, "open", refuse)
    with lock(tmp_path / ".lock", "busy"), pytest.raises(InputError, match="busy"), lock(tmp_path / ".lock", "busy"):
        pass


@pytest.mark.parametrize(("text", "shown"), [
    ("a\x1b[31mb", r"a\x1b[31mb"), ("a\nb", r"a\nb"), ("a\u202eb", r"a\u202eb"), ("a\udcff", r"a\udcff"),
    ("é 模型 <b>", "é 模型 <b>")])
def test_what_does_not_print_is_escaped(text, shown):
    assert printable(text) == shown


def test_errors_of_memory_are_told_from_others():
    assert out_of_memory(MemoryError()) and out_of_memory(RuntimeError("x: can't allocate memory: 9 bytes"))
    assert not out_of_memory(RuntimeError("x")) and not out_of_memory(OSError("x"))
