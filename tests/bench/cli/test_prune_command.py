from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch

from bench.run import main
from framebench.classes import CIFAR10
from framebench.domains import load_domain, load_training
from framebench.models.checkpoint import HELD_OUT, Card, save
from framebench.models.registry import load
from framebench.models.train import split
from tests.conftest import make_network


def checkpoint(folder, *, root=None, classes=CIFAR10, name="source"):
    """Write a small checkpoint, with 20 of the training images under `root` held out, and return its path."""
    data = {"title": "none", "sha256": "", "n_train": 0, "n_validation": 0}
    if root is not None:
        training = load_training("cifar10", root)
        data = {"title": training.title, "sha256": training.digest, "n_train": 100, "n_validation": 20}
    card = Card(name=name, arch="speednet", width=4, classes=classes, data=data, recipe={"epochs": 1}, accuracy=[],
                provenance={})
    return save(make_network("speednet", 4), card, folder)


def prune(source, out, *more):
    return main(["prune", str(source), "--out", str(out), "--threads", "1", *more])


def accuracy(path, domain, ids):
    x, y = domain.load(ids)
    with torch.inference_mode():
        return float((load(str(path)).module(x).argmax(1) == y).float().mean())


def test_a_pruned_checkpoint_says_what_it_is(tmp_path, data_root, capsys):
    source = checkpoint(tmp_path, root=data_root)
    out = tmp_path / "prune"
    assert prune(source, out, "--data-root", str(data_root), "--share", "0.3", "--images", "50") == 0
    printed = capsys.readouterr().out
    path = out / "source-taylor-filters-0.3.safetensors"
    card = json.loads(path.with_suffix(".json").read_text())
    recipe = card["recipe"]
    before = json.loads(source.with_suffix(".json").read_text())
    assert recipe["source"] == {"name": "source", "sha256": before["sha256"], "recipe": {"epochs": 1}}
    assert [recipe[key] for key in ("method", "criterion", "units", "share", "images")] == [
        "pruning", "taylor", "filters", 0.3, 50]
    assert recipe["scored_on"]["sha256"] == before["data"]["sha256"] and card["data"] == before["data"]
    assert sum(layer["of"] for layer in recipe["removed"].values()) == 24 + 2 * (4 + 16 + 16)
    assert sum(layer["removed"] for layer in recipe["removed"].values()) == round(0.3 * 96)
    model = load(str(path)).module
    for layer, count in recipe["removed"].items():
        assert int(model.get_submodule(layer).weight.flatten(1).any(1).logical_not().sum()) == count["removed"]
        assert f"{layer}: {count['removed']} of {count['of']} filters removed" in printed
    training = load_training("cifar10", data_root)
    sets = [(load_domain("samples"), range(20)), (load_domain("cifar10", data_root), range(30)),
            (training, split(training.labels, 20, training.classes)[1])]
    assert [entry["n"] for entry in card["accuracy"]] == [20, 30, 20] and card["accuracy"][-1]["data"] == HELD_OUT
    for entry, (domain, ids) in zip(card["accuracy"], sets, strict=True):
        assert entry["accuracy"] == pytest.approx(accuracy(path, domain, ids)) == entry["correct"] / entry["n"]
    assert source.with_suffix(".json").read_text() == json.dumps(before, indent=1) + "\n", "the source stays"


def test_held_out_images_score_nothing_and_the_first_of_the_order_do(tmp_path, data_root, monkeypatch):
    source = checkpoint(tmp_path, root=data_root)
    training = load_training("cifar10", data_root)
    kept = training.order[~np.isin(training.order, split(training.labels, 20, training.classes)[1])]
    seen = []
    monkeypatch.setattr("bench.training.prune.prune_", lambda model, share, *, criterion, units, batches:
                        seen.extend(batches) or {})
    assert prune(source, tmp_path / "out", "--data-root", str(data_root), "--share", "0.3", "--images", "7") == 0
    x, y = training.load(kept[:7])
    assert torch.equal(seen[0][0], x) and torch.equal(seen[0][1], y) and len(seen) == 1


def test_the_same_call_gives_the_same_file_and_shift_takes_it(tmp_path, data_root):
    source = checkpoint(tmp_path, root=data_root)
    out = tmp_path / "prune"
    call = ["--data-root", str(data_root), "--share", "0.2", "--structured", "weights", "--images", "60",
            "--name", "mine"]
    assert prune(source, out, *call) == 0
    first = (out / "mine.safetensors").read_bytes()
    assert prune(source, out, *call) == 0
    assert (out / "mine.safetensors").read_bytes() == first
    removed = json.loads((out / "mine.json").read_text())["recipe"]["removed"]
    conv = load(str(out / "mine.safetensors")).module.blocks[2].conv2.weight
    assert removed["blocks.2.conv2"] == {"removed": int((conv == 0).sum()), "of": conv.numel()}
    assert main(["shift", "--models", str(source), str(out / "mine.safetensors"), "--domains", "samples",
                 "--out", str(tmp_path / "runs"), "--threads", "1"]) == 0
    table = pd.read_csv(tmp_path / "runs" / "shift.csv")
    assert sorted(table["model"]) == ["mine", "source"] and (table["n"] == 20).all()


def test_magnitude_needs_no_data(tmp_path, capsys):
    source = checkpoint(tmp_path)
    assert prune(source, tmp_path / "out", "--share", "0.5", "--criterion", "magnitude") == 0
    printed = capsys.readouterr().out
    assert "no accuracy on held-out images: " in printed and "no accuracy on the test set: " in printed
    card = json.loads((tmp_path / "out" / "source-magnitude-filters-0.5.json").read_text())
    assert [entry["n"] for entry in card["accuracy"]] == [20]
    assert card["recipe"]["images"] is None and "scored_on" not in card["recipe"]
    again = tmp_path / "out" / "source-magnitude-filters-0.5.safetensors"
    assert prune(again, tmp_path / "out", "--share", "0.6", "--criterion", "magnitude", "--name", "more") == 0
    chain = json.loads((tmp_path / "out" / "more.json").read_text())["recipe"]["source"]
    assert chain["sha256"] == card["sha256"] and chain["recipe"]["source"]["name"] == "source"


def test_a_training_set_of_other_files_has_no_held_out_part(tmp_path, data_root, capsys):
    source = checkpoint(tmp_path)
    assert prune(source, tmp_path / "out", "--share", "0.5", "--data-root", str(data_root), "--images", "5") == 0
    assert "no accuracy on held-out images: source was trained without any, or not on these" in capsys.readouterr().out


@pytest.mark.parametrize(("options", "message"), [
    (["--share", "0"], "between 0 and 1"),
    (["--share", "1"], "between 0 and 1"),
    (["--share", "abc"], "must be a number"),
    (["--share", "nan"], "between 0 and 1"),
    (["--share", "half"], "half"),
    (["--share", "0.001"], "a share of 0.001 is 0 of 96"),
    (["--share", "0.99"], "choose a share from"),
    (["--criterion", "tailor"], "did you mean taylor"),
    (["--structured", "layers"], "did you mean filters"),
    (["--criterion", "taylor"], "--criterion taylor needs training images, magnitude needs none: "),
    (["--images", "5"], "--images without --criterion taylor does nothing"),
    (["--criterion", "taylor", "--data-root", "{root}", "--images", "101"], "choose 1 to 100"),
    (["--name", "a/b"], "a checkpoint can't be called 'a/b'"),
    (["--name", ".."], "a checkpoint can't be called '..'"),
    (["--out", "{source}"], "can't write to the folder"),
    (["--out", "{folder}", "--name", "source"], "is another checkpoint; choose another --name or --out"),
])
def test_bad_input(tmp_path, data_root, capsys, options, message):
    source = checkpoint(tmp_path, root=data_root)
    content = source.read_bytes()
    given = [option.format(root=data_root, source=source, folder=tmp_path) for option in options]
    defaults = {"--share": "0.5", "--criterion": "magnitude", "--out": str(tmp_path / "out")}
    more = [word for key, value in defaults.items() if key not in given for word in (key, value)]
    code = main(["prune", str(source), *given, *more])
    captured = capsys.readouterr()
    errors = [line for line in captured.err.splitlines() if line.startswith("error: ")]
    assert code == 2 and len(errors) == 1 and message in errors[0], captured.err
    assert "Traceback" not in captured.err
    assert not list((tmp_path / "out").glob("*")) and source.read_bytes() == content


def test_a_checkpoint_of_another_data_set_is_told_so(tmp_path, capsys):
    digits = checkpoint(tmp_path, classes=tuple("0123456789"))
    call = ["--share", "0.5", "--criterion", "magnitude"]
    assert prune(digits, tmp_path / "out", *call) == 2
    assert "source has other classes than CIFAR-10 test sample" in capsys.readouterr().err
    assert prune(digits, tmp_path / "out", *call, "--dataset", "svhn") == 0
    assert json.loads((tmp_path / "out" / "source-magnitude-filters-0.5.json").read_text())["accuracy"] == []


def test_only_checkpoints_are_pruned(tmp_path, model_file, capsys):
    assert prune(f"python:{model_file}:linear", tmp_path / "out", "--share", "0.5") == 2
    assert "is not a checkpoint, and a pruned copy without a card" in capsys.readouterr().err
    assert prune("basline", tmp_path / "out", "--share", "0.5") == 2
    assert "did you mean baseline" in capsys.readouterr().err
