from __future__ import annotations

import json

import pandas as pd
import pytest
import torch

import bench.training
from bench.commands.train import parse_option
from bench.run import main
from framebench.errors import InputError
from models import load_model
from models.checkpoint import HELD_OUT
from models.registry import card_of, kept_epochs
from models.regularizers import KINDS
from models.train import Trainer

TINY = ["--arch", "resnet20", "--width", "4", "--epochs", "3", "--batch", "20", "--pad", "1", "--validation", "20",
        "--precision", "fp32", "--threads", "1"]


def train(root, out, *more):
    return main(["train", "--data-root", str(root), "--out", str(out), *TINY, *more])


def test_a_regularized_run_leaves_a_checkpoint_logs_and_epochs(tmp_path, data_root, capsys):
    out = tmp_path / "train"
    assert train(data_root, out, "--regularizer", "frame", "--init", "delta-orthogonal", "--option", "relative=true",
                 "lower=0.4", "--name", "mine", "--half") == 0
    assert "training mine on CIFAR-10 train (lossless class folders)" in capsys.readouterr().out
    card = json.loads((out / "mine.json").read_text())
    recipe = card["recipe"]
    assert recipe["regularizer"] == "frame" and recipe["regularizer_options"] == {
        "layers": list(KINDS), "lower": 0.4, "upper": 1.5, "relative": True}
    assert recipe["weight_decay"] == 0 and recipe["gamma"] > 0 and recipe["every"] > 1
    assert [entry["n"] for entry in card["accuracy"]] == [20, 30, 20] and card["accuracy"][-1]["data"] == HELD_OUT
    assert card["data"]["n_train"] == 100 and card["data"]["n_validation"] == 20
    log = pd.read_csv(out / "mine" / "log.csv")
    assert log["epoch"].tolist() == [1, 2, 3] and log["penalty"].iloc[-1] > 0
    assert set(pd.read_csv(out / "mine" / "layers.csv")["epoch"]) == {0, 1, 2, 3}
    assert list(kept_epochs(str(out / "mine"))) == [1, 2, 2.5, 3]
    last = load_model(f"{out / 'mine'}@3")
    final = load_model(str(out / "mine.safetensors"))
    assert all(torch.equal(a, b) for a, b in zip(last.state_dict().values(), final.state_dict().values(), strict=True))
    assert card_of(f"{out / 'mine'}@2.5").name == "mine@2.5"
    with pytest.raises(InputError, match="keeps no epoch 1.5; it keeps 1, 2, 2.5, 3"):
        load_model(f"{out / 'mine'}@1.5")
    with pytest.raises(InputError, match="is a folder; of a training run name an epoch"):
        load_model(str(out / "mine"))


def test_several_seeds_by_one_command_and_again_at_once(tmp_path, data_root, capsys):
    out = tmp_path / "train"
    arguments = ["--seeds", "0", "1", "--name", "m", "--regularizer", "so"]
    assert train(data_root, out, *arguments) == 0
    first, second = (load_model(str(out / f"m-s{seed}.safetensors")) for seed in (0, 1))
    assert not torch.equal(first.fc.weight, second.fc.weight)
    before = (out / "m-s0.safetensors").read_bytes()
    assert train(data_root, out, *arguments) == 0
    assert (out / "m-s0.safetensors").read_bytes() == before
    assert card_of(str(out / "m-s0.safetensors")).recipe["weight_decay"] == 5e-4


def test_what_is_measured_is_what_is_stored(tmp_path, data_root, monkeypatch):
    """Also where a tensor does not fit into half precision."""
    measured, real_run, real_measure = [], Trainer.run, bench.training.measure

    def run_to_a_large_variance(self):
        model = real_run(self)
        model.bn.running_var[0] = 1e6
        return model

    def spy(model, *rest):
        measured.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
        return real_measure(model, *rest)

    monkeypatch.setattr(Trainer, "run", run_to_a_large_variance)
    monkeypatch.setattr(bench.training, "measure", spy)
    assert train(data_root, tmp_path, "--epochs", "1", "--name", "m", "--half") == 0
    stored = load_model(str(tmp_path / "m.safetensors")).state_dict()
    assert len(measured) == 2 and stored["bn.running_var"][0] == 1e6
    assert all(torch.equal(tensor, state[name]) for state in measured for name, tensor in stored.items())


@pytest.mark.parametrize(("options", "message"), [
    (["--regularizer", "fram"], "unknown regularizer 'fram'; did you mean frame"),
    (["--gamma", "1"], "--gamma without a regularizer"),
    (["--option", "lower=1"], "--option without a regularizer"),
    (["--regularizer", "frame", "--option", "lower=2"], "lower"),
    (["--regularizer", "frame", "--option", "lover=2"], "unknown option of frame 'lover'; did you mean lower"),
    (["--regularizer", "frame", "--option", "lower"], "must read KEY=VALUE"),
    (["--regularizer", "frame", "--gamma", "-1"], "gamma must not be negative"),
    (["--regularizer", "frame", "--gamma", "0"], "gamma 0 does nothing"),
    (["--regularizer", "so", "--init", "orthogonal"], "unknown init 'orthogonal'; did you mean delta-orthogonal"),
    (["--arch", "resnet19"], "unknown architecture 'resnet19'"),
    (["--dataset", "svhn"], "svhn"),
    (["--every", "0"], "must be at least 1"),
])
def test_bad_input(tmp_path, data_root, capsys, options, message):
    try:
        code = train(data_root, tmp_path / "train", *options)
    except SystemExit as stopped:  # of the argument parser
        code = stopped.code
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert code == 2 and len(errors) == 1 and message in errors[0]
    assert not list((tmp_path / "train").rglob("*.safetensors"))


@pytest.mark.parametrize(("text", "pair"), [
    ("lower=0.5", ("lower", 0.5)), ("power=2", ("power", 2)), ("relative=true", ("relative", True)),
    ("layers=stem,body", ("layers", ("stem", "body"))), ("layers=body", ("layers", "body")), ("x=None", ("x", None)),
])
def test_options_are_read_as_what_they_look_like(text, pair):
    assert parse_option(text) == pair
