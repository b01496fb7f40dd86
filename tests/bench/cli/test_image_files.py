"""Images of any classes and size through the commands."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from bench.rows.store import Store
from bench.run import main
from framebench.classes import imagenet
from framebench.domains.imagenet import SUBSETS

MODELS = """
import torch
from torch import nn

class Mean(nn.Module):
    '''Tells reds, greens and blues apart at 64x64 alone.'''
    def __init__(self, size=64, order=(0, 1, 2)):
        super().__init__()
        self.size, self.order = size, list(order)
    def forward(self, x):
        assert x.shape[2:] == (self.size, self.size)
        return 20 * x.mean((2, 3))[:, self.order]

class Thousand(nn.Module):
    '''Takes every image for tench, which ImageNet-R does not have, and then for a class that grows with the red.'''
    def forward(self, x):
        red = x[:, 0].mean((1, 2))[:, None]
        return 9. * torch.eye(1000)[0] - (torch.arange(1000) / 1000 - red).abs()

def mean(): return Mean()
def thousand(): return Thousand()
def four(): return nn.Sequential(Mean(), nn.ConstantPad1d((0, 1), 0.))
"""


@pytest.fixture
def models(tmp_path: Path) -> str:
    path = tmp_path / "mine.py"
    path.write_text(MODELS)
    return f"python:{path}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three classes of four images at 64x64; the last of the blue ones is of the red class."""
    root = tmp_path / "colours"
    for channel, name in enumerate(("crimson", "green", "navy")):
        (root / name).mkdir(parents=True)
        for i in range(4):
            pixels = np.random.default_rng(i).integers(0, 100, (64, 64, 3), dtype=np.uint8)
            pixels[..., 0 if (channel, i) == (2, 3) else channel] += 60
            Image.fromarray(pixels).save(root / name / f"{i}.png")
    return root


def run(command: str, model: str, out: Path, *more: str) -> int:
    return main([command, "--models", model, "--out", str(out), "--threads", "1", "--quiet", *more])


def test_a_folder_of_own_classes_and_size_with_an_own_model(tmp_path, folder, models):
    out = tmp_path / "out"
    assert run("shift", f"{models}:mean", out, "--domains", f"folder:{folder}", f"folder-c:{folder}", "--corruptions",
               "contrast", "--severities", "5") == 0
    table = pd.read_csv(out / "shift.csv")
    assert table["n"].tolist() == [12, 12] and table.loc[table["corruption"].isna(), "accuracy"].tolist() == [11 / 12]
    assert run("attack", f"{models}:mean", out, "--domain", f"folder:{folder}", "--budgets", "5", "--epsilon", "4") == 0
    table = pd.read_csv(out / "attack.csv")
    assert set(table["budget"]) == {0, 5} and set(table["n"]) == {12} and set(table["clean_accuracy"]) == {11 / 12}


def test_batches_of_any_size_give_the_same_rows(tmp_path, folder, models):
    frames = []
    for size in ("1", "5", "256"):
        asked = ["--domains", f"folder:{folder}", "--batch-size", size]
        assert run("shift", f"{models}:mean", tmp_path / size, *asked) == 0
        (rows,) = Store(tmp_path / size).all()
        frames.append(rows.frame())
    pd.testing.assert_frame_equal(frames[0], frames[1])
    pd.testing.assert_frame_equal(frames[0], frames[2])


def test_a_model_of_1000_classes_chooses_among_the_200_of_imagenet_r(tmp_path, models):
    labels, wnids = list(map(int, SUBSETS["imagenet-r"].split())), imagenet().wnids
    for label in (labels[20], labels[150]):
        path = tmp_path / "imagenet-r" / wnids[label] / "a.png"
        path.parent.mkdir(parents=True)
        Image.new("RGB", (224, 224), (round(label * 255 / 1000), 0, 0)).save(path)
    out = tmp_path / "out"
    assert run("shift", f"{models}:thousand", out, "--domains", "imagenet-r", "--data-root", str(tmp_path)) == 0
    (rows,) = Store(out).all()
    assert rows.frame()["label"].tolist() == [20, 150] and abs(rows.frame()["prediction"] - [20, 150]).max() <= 1
    assert run("attack", f"{models}:thousand", out, "--domain", "imagenet-r", "--data-root", str(tmp_path), "--attack",
               "foolbox:LinfFastGradientAttack", "--budgets", "1") == 0
    assert pd.read_csv(out / "attack.csv")["n"].tolist() == [2, 2]


def test_broken_images_end_the_command_unless_they_are_skipped(tmp_path, folder, models, capsys):
    (folder / "green" / "2.png").write_bytes((folder / "green" / "2.png").read_bytes()[:300])
    asked, out = ["--domains", f"folder:{folder}"], tmp_path / "out"
    assert run("shift", f"{models}:mean", out, *asked) == 2
    error = capsys.readouterr().err.strip()
    assert "green/2.png" in error and "\n" not in error
    assert run("shift", f"{models}:mean", out, *asked, "--skip-broken") == 0
    (rows,) = [rows for rows in Store(out).all() if len(rows.ids)]
    assert len(rows.ids) == 11 and "1 broken" in rows.facts.title


@pytest.mark.parametrize(("model", "more", "word"), [
    ("four", (), "4"),  # logits
    ("mean", ("--image-size", "32"), "32"),
    ("mean", ("--image-size", "64", "--resize", "32"), "--resize"),
    ("mean", ("--resize", "64"), "--image-size"),
    ("mean", ("--interpolation", "cubic"), "bicubic"),
    ("mean", ("--domains", "samples", "--image-size", "64"), "--image-size"),
    ("mean", ("--domains", "imagenet"), "--data-root"),
    ("thousand", ("--domains", "folder:."), "folder"),
])
def test_what_does_not_fit_is_said_in_one_line(tmp_path, folder, models, capsys, model, more, word):
    more = more if "--domains" in more else ("--domains", f"folder:{folder}", *more)
    assert run("shift", f"{models}:{model}", tmp_path / "out", *more) == 2
    error = capsys.readouterr().err.strip()
    assert word in error and "\n" not in error


def test_a_list_of_classes_of_the_wrong_length(tmp_path, folder, models, capsys):
    (folder / "classes.txt").write_text("crimson\ngreen\nnavy\nyellow\n")
    assert run("attack", f"{models}:mean", tmp_path / "out", "--domain", f"folder:{folder}") == 2
    assert "4 classes" in capsys.readouterr().err
    assert run("attack", f"{models}:four", tmp_path / "out", "--domain", f"folder:{folder}", "--budgets", "1") == 0


@pytest.mark.parametrize("command", ["attack", "shift", "train"])
def test_one_class_is_refused_before_a_query(tmp_path, folder, command, capsys):
    for name in ("green", "navy"):
        shutil.rmtree(folder / name)
    box = tmp_path / "box.py"
    box.write_text("""
def ask(images):
    raise SystemError("no query is allowed")
ask.answers, ask.classes = "labels", 1
""")
    if command == "train":
        for part in ("train", "test"):
            shutil.copytree(folder, tmp_path / "data" / part)
        asked = ["--dataset", f"folder:{tmp_path / 'data'}"]
    else:
        flag = "--domain" if command == "attack" else "--domains"
        asked = ["--models", f"blackbox:{box}:ask", flag, f"folder:{folder}"]
    assert main([command, *asked, "--out", str(tmp_path / "out"), "--threads", "1"]) == 2
    assert "one class" in capsys.readouterr().err
