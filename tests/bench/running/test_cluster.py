"""Workers: the same rows as from one process, whatever happens to them."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pandas as pd
import pytest
from torch import nn

import framebench
from bench.options.attack import AttackOptions
from bench.rows.adversarial import folder_of, read
from bench.rows.store import Store
from bench.run import main
from bench.running.cluster import pool
from framebench.domains import load_domain
from framebench.errors import InputError

dask = pytest.importorskip("dask")
distributed = pytest.importorskip("distributed")

_MODELS = """
import multiprocessing, os, signal, time, torch
from pathlib import Path
from torch import nn
from factories import linear, other

if multiprocessing.parent_process():  # in a worker
    Path(__file__).with_name("gpu-" + os.environ.get("CUDA_VISIBLE_DEVICES", "none")).touch()

class Deadly(nn.Module):
    "In a slice of a worker, hangs on the image that a file marks, and, unless that was once, ends its process then."
    def __init__(self, mark):
        super().__init__()
        self.model, self.mark = linear(), mark
    def forward(self, x):
        mark, hung = Path(__file__).with_name(self.mark), Path(__file__).with_name("hung-" + self.mark)
        try:
            marked = bool((x[:, 0, 0, 0] == float(mark.read_text())).any())
        except FileNotFoundError:  # the other worker may remove it at any moment
            marked = False
        if multiprocessing.parent_process() and marked and len(x) <= 8:
            if self.mark == "once": mark.unlink()
            if hung.exists(): os.kill(os.getpid(), signal.SIGKILL)
            hung.touch()
            time.sleep(600)
        return self.model(x)

class Late(nn.Module):
    def __init__(self):
        super().__init__()
        self.model, self.calls = linear(), 0
    def forward(self, x):
        self.calls += 1
        if self.calls > 60: raise ValueError("only on weekdays")
        return self.model(x)

def good(): return linear()
def different(): return other()
def deadly_once(): return Deadly("once")
def deadly(): return Deadly("always")
def late(): return Late()
def unseeded(): return nn.Sequential(nn.Flatten(), nn.Linear(3072, 10))
"""


@pytest.fixture(scope="module")
def scheduler():
    """The address of a cluster whose two workers are threads of this process: these start at once."""
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=False,
                                  dashboard_address=None) as cluster:
        yield cluster.scheduler_address


@pytest.fixture
def models(model_file):
    path = model_file.with_name("mine.py")
    path.write_text(_MODELS)
    return path


@pytest.fixture
def command(models, data_root):
    def run(name, out, *more, models_=("good",)):
        return main([name, "--models", *(f"python:{models}:{model}" for model in models_), "--data-root",
                     str(data_root), "--out", str(out), "--threads", "1", *more])
    return run


def kept(out):
    """Return the digests of all files of rows and pictures, which their names carry, by evaluation."""
    return {folder.name: sorted(path.stem.rpartition("-")[2] for path in folder.iterdir())
            for folder in (out / "examples").iterdir() if folder.is_dir()}


def errors(capfd):
    return [line for line in capfd.readouterr().err.splitlines() if line.startswith("error: ")]


@pytest.mark.parametrize("asked", [
    ["--budgets", "1", "20", "--epsilon", "0.2", "0.3", "--seeds", "0", "1"],
    ["--attack", "apgd", "--budgets", "5", "--epsilon", "1/255", "2/255", "4/255", "8/255"]], ids=["simba", "apgd"])
def test_an_attack_by_workers_leaves_the_files_that_one_process_leaves(tmp_path, command, scheduler, asked):
    serial, spread = tmp_path / "serial", tmp_path / "spread"
    asked += ["--save-adversarial", "--batch-size", "8"]
    assert command("attack", serial, *asked) == 0
    assert command("attack", spread, *asked, "--scheduler", scheduler, "-n", "11") == 0
    assert command("attack", spread, *asked, "--scheduler", scheduler) == 0
    assert kept(serial) == kept(spread) and len(kept(serial)) == 4
    for name in ("attack.csv", "paired.csv", "answer.txt"):
        assert (serial / name).read_text() == (spread / name).read_text()
    for one, other in zip(Store(serial).all(), Store(spread).all(), strict=True):
        ours, theirs = read(folder_of(one)), read(folder_of(other))
        assert ours.ids.tolist() == theirs.ids.tolist() and len(ours.ids) == 30
        assert ours.images.equal(theirs.images)


def test_a_shift_by_workers_leaves_the_files_that_one_process_leaves(tmp_path, command, scheduler, monkeypatch):
    monkeypatch.setattr("bench.running.shifting._TOGETHER", 1)
    serial, spread = tmp_path / "serial", tmp_path / "spread"
    asked = ["--corruptions", "fog", "contrast", "--severities", "1", "5", "--batch-size", "8"]
    assert command("shift", serial, *asked, models_=["good", "different"]) == 0
    assert command("shift", spread, *asked, "--scheduler", scheduler, "-n", "11") == 0
    assert command("shift", spread, *asked, "--scheduler", scheduler, models_=["good", "different"]) == 0
    assert kept(serial) == kept(spread) and len(kept(serial)) == 10
    for name in ("shift.csv", "shift_summary.csv", "shift_paired.csv", "answer.txt"):
        assert (serial / name).read_text() == (spread / name).read_text()


def test_trainings_by_workers_are_those_of_one_process(tmp_path, data_root, scheduler):
    small = ["--arch", "speednet", "--width", "4", "--epochs", "1", "--batch", "50", "--validation", "20", "--threads",
             "1", "--name", "t", "--seeds", "3", "1", "--data-root", str(data_root)]
    serial, spread = tmp_path / "serial", tmp_path / "spread"
    assert main(["train", *small, "--out", str(serial)]) == 0
    assert main(["train", *small, "--out", str(spread), "--scheduler", scheduler]) == 0
    files = [{path.relative_to(out): path.read_bytes() for path in out.rglob("*.safetensors")}
             for out in (serial, spread)]
    assert files[0] == files[1] and {Path("t-s1.safetensors"), Path("t-s3.safetensors")} <= files[0].keys()


def test_a_worker_with_another_model_of_the_name_is_refused_and_named(tmp_path, command, scheduler, capfd):
    assert command("attack", tmp_path / "out", "--budgets", "2", "--scheduler", scheduler, models_=["unseeded"]) == 2
    (line,) = errors(capfd)
    assert "worker" in line and "inproc://" in line and "mine:unseeded" in line
    assert not list(tmp_path.rglob("*.parquet"))


def test_a_worker_with_another_version_is_refused_and_named(tmp_path, command, capfd, monkeypatch):
    asked = ["--budgets", "2", "--scheduler"]
    with distributed.LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster, \
            distributed.Client(cluster, set_as_default=False) as client:
        (address,) = client.scheduler_info()["workers"]
        for package in ("framebench", "torch"):
            (right,) = client.run(eval, f"__import__('{package}').__version__").values()
            client.run(exec, f"import {package}; {package}.__version__ = '0.0.7'")
            assert command("attack", tmp_path, *asked, cluster.scheduler_address) == 2
            with monkeypatch.context() as patch:  # as if the worker had come when the others had been asked
                patch.setattr("distributed.Client.run", lambda *args, **more: {})
                assert command("attack", tmp_path, *asked, cluster.scheduler_address) == 2
            early, late = errors(capfd)
            for line in (early, late):
                assert f"{package} 0.0.7" in line and address in line
            client.run(exec, f"import {package}; {package}.__version__ = {right!r}")
        client.run(exec, "import torch; torch.__version__ += '+other'")
        assert command("attack", tmp_path, *asked, cluster.scheduler_address) == 0, "a build for other devices"


def test_a_model_that_fails_in_a_worker_is_one_line_and_costs_no_finished_row(tmp_path, command, scheduler, capfd):
    more = ["--budgets", "60", "--batch-size", "4", "--targeted", "--scheduler", scheduler]
    assert command("attack", tmp_path, *more, models_=["good", "late"]) == 2
    (line,) = errors(capfd)
    assert "mine:late" in line and "weekdays" in line
    assert len(Store(tmp_path).all()[0].ids) == 30 and (tmp_path / "attack.csv").is_file()


@pytest.mark.parametrize(("more", "word"), [
    (["--workers", "0"], "--workers"), (["--worker-timeout", "9"], "--worker-timeout"),
    (["--workers", "2", "--worker-timeout", "0"], "--worker-timeout"),
    (["--workers", "2", "--scheduler", "tcp://127.0.0.1:9"], "exclude"),
    (["--scheduler", "nowhere"], "nowhere"), (["--scheduler", "tcp://127.0.0.1:9"], "127.0.0.1:9"),
    (["--scheduler", "odd://1"], "odd://1")])
def test_what_can_not_be_is_refused_in_one_line(tmp_path, command, capfd, more, word, monkeypatch):
    monkeypatch.setattr("bench.running.cluster._PATIENCE", 1)
    assert command("attack", tmp_path / "out", "--budgets", "2", *more) == 2
    (line,) = errors(capfd)
    assert word in line and not list(tmp_path.rglob("*.parquet"))


def test_without_dask_the_line_that_installs_it_is_said(tmp_path, command, capfd, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert command("attack", tmp_path / "out", "--budgets", "2", "--workers", "2") == 2
    assert "framebench[cluster]" in errors(capfd)[0]


def test_a_model_that_no_worker_can_load_is_refused(tmp_path):
    module = nn.Sequential(nn.Flatten(), nn.Linear(3072, 10))
    with pytest.raises(InputError, match="mine"):
        framebench.attack(("mine", module), n=5, budgets=[1], workers=2, out=tmp_path)


@pytest.fixture
def failing(tmp_path):
    """A folder: for each file in it, a worker fails when it starts, and removes the file."""
    folder, script = tmp_path / "failing", tmp_path / "preload.py"
    folder.mkdir()
    script.write_text(f"import pathlib\n"
                      f"for path in pathlib.Path({str(folder)!r}).iterdir():\n"
                      "    try: path.unlink()\n"
                      "    except OSError: continue\n"
                      "    raise MemoryError\n")
    with dask.config.set({"distributed.worker.preload": [str(script)]}):
        yield folder


def test_if_no_worker_starts_one_line_says_so(tmp_path, command, capfd, failing):
    (failing / "1").touch()
    assert command("attack", tmp_path / "out", "--workers", "1", models_=["good"]) == 2
    (line,) = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error: ")]
    assert "workers" in line


def test_a_worker_that_fails_when_it_starts_is_started_again(tmp_path, failing):
    (failing / "1").touch()
    with pool(AttackOptions(workers=2)) as workers:
        for name in "23":  # the task ends its worker; this one's successor may fail, and so may the next
            (failing / name).touch()
        results: list[int] = []
        assert workers.compute(_end_once, [str(tmp_path / "ended")], lambda task, pid: results.append(pid)) == []
        assert len(results) == 1


def _end_once(mark: str) -> int:
    if not Path(mark).exists():
        Path(mark).touch()
        os._exit(1)
    return os.getpid()


def test_a_worker_that_hangs_costs_nothing_and_a_slice_that_ends_them_all_is_left_out_and_named(
        tmp_path, command, models, data_root, capfd, monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    domain = load_domain("cifar10", data_root)
    x, _ = domain.load(domain.order[20:21])  # beyond those that a model is made ready with
    for name in ("once", "always"):
        models.with_name(name).write_text(repr(float(x[0, 0, 0, 0])))
    serial, spread = tmp_path / "serial", tmp_path / "spread"
    more, both = ["--budgets", "1", "20", "--batch-size", "8"], ["deadly_once", "deadly"]
    assert command("attack", serial, *more, models_=both) == 0
    assert command("attack", spread, *more, "--workers", "2", "--worker-timeout", "6", models_=both) == 2
    assert not models.with_name("once").exists(), "a worker hung"
    assert {path.name for path in models.parent.glob("gpu-*")} == {"gpu-0", "gpu-1"}, "each has its own"
    said, shown = capfd.readouterr()
    (line,) = [line for line in shown.splitlines() if line.startswith("error: ")]
    assert "1 slice" in line
    hung = [line for line in said.splitlines() if "mine.py" in line and "forward" in line]
    lost = [line for line in said.splitlines() if "lost" in line]
    assert len(hung) == 2 and len(lost) == 4 and all("tcp://127.0.0.1:" in line for line in hung + lost)
    assert sum("mine:deadly_once on cifar10" in line for line in hung + lost) == 2, "the slice is named"
    deadly, once = Store(spread).all()
    assert len(deadly.ids) == 22 and len(once.ids) == 30
    (warning,) = pd.read_csv(spread / "warnings.csv")["warning"]
    assert "mine:deadly " in warning and "8 images" in warning
    assert "left-out" in (spread / "report" / "index.html").read_text()
    assert command("attack", spread, *more, models_=both) == 0, "the same command goes on, here without workers"
    assert kept(serial) == kept(spread)
