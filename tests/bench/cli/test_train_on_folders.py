"""`bench train` and `bench prune` on a user's own class folders."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import bench.training.train
from bench.run import main

NAMES = ("owl", "cat", "dog")


def write(root, part, per_class, *, names=NAMES, side=40):
    """Write images whose colour tells the class; every second one is wider than high."""
    rng = np.random.default_rng(len(part))
    for name in names:
        folder = root / part / name
        folder.mkdir(parents=True)
        for i in range(per_class):
            pixels = rng.integers(0, 40, (side, side + 8 * (i % 2), 3))
            pixels[..., NAMES.index(name) % 3] += 150
            Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i}.png")


@pytest.fixture
def photos(tmp_path):
    root = tmp_path / "photos"
    write(root, "train", 20)
    write(root, "val", 6)
    return root


def run(command, photos, out, *more):
    given = ["--dataset", f"folder:{photos}"] if command in ("train", "prune") else []
    return main([command, *given, "--image-size", "32", "--threads", "1", "--out", str(out), *more])


def train(photos, out, *more):
    return run("train", photos, out, "--arch", "speednet", "--width", "8", "--epochs", "12", "--batch", "12", "--lr",
               "0.05", "--validation", "9", "--precision", "fp32", "--name", "mine", *more)


def errors(capsys):
    return [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]


def test_a_model_of_own_photos_is_trained_pruned_attacked_and_shifted(photos, tmp_path):
    out = tmp_path / "out"
    assert train(photos, out) == 0
    card = json.loads((out / "mine.json").read_text())
    assert card["classes"] == ["cat", "dog", "owl"] and card["recipe"]["flip"]
    assert (card["data"]["n_train"], card["data"]["n_validation"]) == (51, 9)
    test, held_out = card["accuracy"]
    assert (test["n"], held_out["n"]) == (18, 9) and test["accuracy"] == 1, "the colours tell the classes"

    mine = str(out / "mine.safetensors")
    assert run("prune", photos, out, mine, "--share", "0.1", "--images", "20", "--name", "pruned") == 0
    pruned = json.loads((out / "pruned.json").read_text())
    assert [entry["n"] for entry in pruned["accuracy"]] == [18, 9], "the same images are held out"
    assert pruned["recipe"]["scored_on"]["sha256"] == card["data"]["sha256"]

    domain = f"folder:{photos / 'val'}"
    assert run("attack", photos, tmp_path / "attack", "--models", mine, "--domain", domain, "--budgets", "1") == 0
    assert run("shift", photos, tmp_path / "shift", "--models", mine, "--domains", domain) == 0
    (summary,) = (tmp_path / "shift").rglob("shift_summary.csv")
    assert pd.read_csv(summary)["accuracy"].tolist() == [1]


def test_the_class_list_beside_both_parts_orders_the_classes(photos, tmp_path):
    (photos / "classes.txt").write_text("owl\ndog\ncat\nfox\n")
    assert train(photos, tmp_path / "out", "--no-flip") == 0
    card = json.loads((tmp_path / "out" / "mine.json").read_text())
    assert card["classes"] == ["owl", "dog", "cat", "fox"] and not card["recipe"]["flip"]
    assert card["accuracy"][0]["accuracy"] == 1


def test_test_images_of_a_part_of_the_classes_keep_their_labels(photos, tmp_path):
    for path in sorted((photos / "val" / "cat").iterdir()):
        path.unlink()
    (photos / "val" / "cat").rmdir()
    assert train(photos, tmp_path / "out") == 0
    card = json.loads((tmp_path / "out" / "mine.json").read_text())
    assert len(card["classes"]) == 3 and card["accuracy"][0]["n"] == 12 and card["accuracy"][0]["accuracy"] == 1


def test_other_images_do_not_resume_a_training(photos, tmp_path, capsys):
    assert train(photos, tmp_path / "out") == 0
    Image.new("RGB", (40, 40)).save(photos / "train" / "cat" / "0.png")
    assert train(photos, tmp_path / "out") == 2 and "data" in errors(capsys)[0]


def test_broken_images_are_named_or_left_out(photos, tmp_path, capsys):
    (photos / "train" / "cat" / "3.png").write_bytes(b"\x89PNG no more")
    assert train(photos, tmp_path / "out") == 2 and "3.png" in errors(capsys)[0]
    assert train(photos, tmp_path / "out", "--skip-broken") == 0
    card = json.loads((tmp_path / "out" / "mine.json").read_text())
    assert card["data"]["n_train"] == 50 and "1 broken" in card["data"]["title"]


def test_images_that_do_not_fit_into_memory_are_refused(photos, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(bench.training.train.os, "sysconf", lambda name: 1)
    assert train(photos, tmp_path / "out") == 2
    (error,) = errors(capsys)
    assert "memory" in error and "--image-size" in error and not (tmp_path / "out").exists()


@pytest.mark.parametrize(("change", "word"), [
    (lambda root: (root / "val").rename(root / "later"), "test"),
    (lambda root: (root / "train").rename(root / "later"), "train"),
    (lambda root: (root / "val" / "owl").rename(root / "val" / "fox"), "fox"),
    (lambda root: (root / "train" / "owl").rename(root / "train" / "fox"), "owl"),
])
def test_folders_that_do_not_fit_are_refused(photos, tmp_path, capsys, change, word):
    change(photos)
    assert train(photos, tmp_path / "out") == 2
    (error,) = errors(capsys)
    assert word in error and not (tmp_path / "out").exists()


def test_no_class_in_common_is_refused(photos, tmp_path, capsys):
    for i, name in enumerate(NAMES):
        (photos / "val" / name).rename(photos / "val" / f"other{i}")
    assert train(photos, tmp_path / "out") == 2
    assert "classes" in errors(capsys)[0]


def test_published_sets_take_no_image_size(tmp_path, data_root, capsys):
    assert main(["train", "--data-root", str(data_root), "--image-size", "16", "--out", str(tmp_path)]) == 2
    assert "--image-size" in errors(capsys)[0]


def test_images_that_are_too_small_for_the_architecture_are_refused(photos, tmp_path, capsys):
    assert train(photos, tmp_path / "out", "--image-size", "8") == 2
    assert "small" in errors(capsys)[0]


def test_a_folder_without_its_prefix_is_told_its_name(photos, tmp_path, capsys):
    assert main(["train", "--dataset", str(photos), "--out", str(tmp_path / "out")]) == 2
    assert f"folder:{photos}" in errors(capsys)[0]
