"""What goes wrong in the middle of a run: one line, an exit code, and every finished row kept and tabled."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pandas as pd
import pytest

from bench.rows.adversarial import folder_of, read
from bench.rows.store import Store
from bench.run import main
from framebench.domains import load_domain
from framebench.files import cache_folder

_MODELS = """
import sys, torch
from torch import nn
from factories import linear

class Late(nn.Module):
    def __init__(self, fail, after):
        super().__init__()
        self.model, self.fail, self.after, self.calls = linear(), fail, after, 0
    def forward(self, x):
        self.calls += 1
        if self.calls > self.after: self.fail()
        return self.model(x)

def fails():
    raise ValueError("only on\\nweekdays")
def runs_out():
    raise torch.OutOfMemoryError("CUDA out of memory")

def good(): return linear()
def leaves(after=80): return Late(lambda: sys.exit(0), after)
def raises(after=80): return Late(fails, after)
def memory(after=80): return Late(runs_out, after)
def leaves_early(): return leaves(35)
def raises_early(): return raises(35)
def memory_early(): return memory(35)

class Own(BaseException): pass
def ends():
    raise GeneratorExit
def derives():
    raise Own
def generator(after=80): return Late(ends, after)
def own(after=80): return Late(derives, after)
def generator_early(): return generator(35)
def own_early(): return own(35)
"""


@pytest.fixture
def late(model_file):
    path = model_file.with_name("late.py")
    path.write_text(_MODELS)
    return path


def command(name, late, out, data_root, *models, more=()):
    """Return a command that takes a second."""
    named = ["--models", *(f"python:{late}:{model}" for model in models or ("good",))]
    training = ["--data-root", str(data_root), "--threads", "1", "--out", str(out)]
    small = ["--arch", "speednet", "--width", "4", "--epochs", "1", "--batch", "50", "--validation", "20"]
    return {"attack": ["attack", *named, "--budgets", "60", "--batch-size", "4", "--targeted"],
            "shift": ["shift", *named, "--domains", "samples", "--batch-size", "4"],
            "frames": ["frames", *named],
            "train": ["train", *small, "--name", "t", "--data-root", str(data_root)],
            "prune": ["prune", "baseline", "--share", "0.1", "--criterion", "magnitude"],
            }[name] + training[2:] + list(more)


@pytest.mark.parametrize("how", ["leaves", "raises", "memory", "generator", "own"])
@pytest.mark.parametrize("name", ["attack", "shift"])
def test_a_model_that_fails_in_the_middle_costs_no_finished_row(tmp_path, late, data_root, capfd, name, how):
    out = tmp_path / "out"
    model = how if name == "attack" else f"{how}_early"
    assert main(command(name, late, out, data_root, "good", model)) == 2
    errors = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and f"late:{model}" in errors[0]
    rows = {rows.evaluation.model: len(rows.ids) for rows in Store(out).all()}
    assert rows.keys() == {"late:good", f"late:{model}"} and 0 < rows[f"late:{model}"] < 20
    table = pd.read_csv(out / f"{name}.csv")
    assert set(table["model"]) == set(rows) and set(table["n"]) == set(rows.values())
    assert (out / "report" / "index.html").is_file()


@pytest.fixture
def full(monkeypatch):
    """Make the disk full for files of which a part of the path is given."""
    real = os.replace

    def make(*parts):
        def replace(source, target):
            if any(part in str(target) for part in parts):
                raise OSError(errno.ENOSPC, "No space left on device")
            real(source, target)
        monkeypatch.setattr(os, "replace", replace)
    return make


@pytest.mark.parametrize(("name", "part"), [
    ("attack", "rows-"), ("attack", "pictures-"), ("attack", "attack.csv"), ("shift", "rows-"), ("shift", "shift.csv"),
    ("train", "state-"), ("train", "epochs/"), ("train", "t.safetensors"), ("train", "log.csv"),
    ("prune", ".safetensors"), ("prune", ".json"), ("frames", "frames/"), ("frames", "index.html")])
def test_a_full_disk_is_one_line_and_the_same_command_goes_on(tmp_path, late, data_root, capfd, full, name, part):
    out = tmp_path / "out"
    full(part)
    assert main(command(name, late, out, data_root)) == 2
    errors = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and "No space left" in errors[0] and part.strip("/") in errors[0]
    assert not list(out.rglob(".*.part"))
    if name in ("attack", "shift"):
        assert sum(len(rows.ids) for rows in Store(out).all()) == (0 if part == "rows-" else 20)
    full("no such file")
    assert main(command(name, late, out, data_root)) == 0


def test_no_row_is_kept_whose_image_can_not_be_saved(tmp_path, late, data_root, full):
    saving = command("attack", late, tmp_path, data_root, more=["--save-adversarial"])
    full("images-")
    assert main(saving) == 2 and not Store(tmp_path).all()
    full("no such file")
    assert main(saving) == 0
    (rows,) = Store(tmp_path).all()
    assert read(folder_of(rows)).ids.tolist() == rows.ids.tolist() and len(rows.ids) == 20


def test_what_a_killed_training_left_is_removed(tmp_path, late, data_root):
    folder = tmp_path / "t" / "epochs"
    folder.mkdir(parents=True)
    left = [tmp_path / "t" / ".state-00001.pt.0123abcd.part", folder / ".t@1.safetensors.0123abcd.part"]
    for path in left:
        path.write_bytes(b"half")
    assert main(command("train", late, tmp_path, data_root)) == 0
    assert not any(map(Path.exists, left))


def test_what_a_killed_prune_left_is_removed_there_and_in_the_cache(tmp_path, late, data_root):
    out = tmp_path / "out"
    left = [out / ".x.json.0123abcd.part", cache_folder() / "decoded" / ".x.npy.0123abcd.part"]
    for path in left:
        path.parent.mkdir(parents=True)
        path.write_bytes(b"half")
    assert main(command("prune", late, out, data_root)) == 0
    assert load_domain("cifar10", data_root).digest
    assert not any(map(Path.exists, left))


def test_a_name_that_a_terminal_would_obey_is_escaped_everywhere(tmp_path, model_file, capfd):
    file = model_file.with_name("a\x1b[31m\nb.py")
    file.write_text(model_file.read_text())
    assert main(["attack", "--models", f"python:{file}:linear", "--out", str(tmp_path / "out"), "--threads", "1",
                 "--budgets", "2", "-n", "4"]) == 0
    assert "\x1b" not in capfd.readouterr().out
    (name,) = set(pd.read_csv(tmp_path / "out" / "attack.csv")["model"])
    assert name == r"a\x1b[31m\nb:linear"
    assert "\x1b" not in (tmp_path / "out" / "report" / "index.html").read_text()
