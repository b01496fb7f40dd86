from __future__ import annotations

import json
import re

import numpy as np
import pandas as pd
import pytest
import torch

import bench.training.train
from bench.run import main
from framebench import domains
from framebench.domains import Domain
from framebench.errors import InputError
from framebench.files import lock
from framebench.keyvalue import parse_pairs
from framebench.models import load_model
from framebench.models.checkpoint import HELD_OUT
from framebench.models.recipe import Recipe
from framebench.models.registry import card_of, kept_epochs
from framebench.models.regularizers import KINDS
from framebench.models.train import Trainer

TINY = ["--arch", "resnet20", "--width", "4", "--epochs", "3", "--batch", "20", "--pad", "1", "--validation", "20",
        "--precision", "fp32", "--threads", "1"]
TINY_RECIPE = {"arch": "resnet20", "width": 4, "epochs": 3, "batch_size": 20, "pad": 1, "validation": 20}


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
        "layers": list(KINDS), "first": 0, "warmup": 0.1, "steps": [], "folded": False, "lower": 0.4, "upper": 1.5,
        "relative": True, "side": "both", "literal": False}
    assert recipe["weight_decay"] == 5e-4 and recipe["gamma"] > 0 and recipe["every"] > 1  # nothing holds the scale
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
    measured, real_run, real_measure = [], Trainer.run, bench.training.train.measure

    def run_to_a_large_variance(self):
        model = real_run(self)
        model.bn.running_var[0] = 1e6
        return model

    def spy(model, *rest):
        measured.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
        return real_measure(model, *rest)

    monkeypatch.setattr(Trainer, "run", run_to_a_large_variance)
    monkeypatch.setattr(bench.training.train, "measure", spy)
    assert train(data_root, tmp_path, "--epochs", "1", "--name", "m", "--half") == 0
    stored = load_model(str(tmp_path / "m.safetensors")).state_dict()
    assert len(measured) == 2 and stored["bn.running_var"][0] == 1e6
    assert all(torch.equal(tensor, state[name]) for state in measured for name, tensor in stored.items())


def test_a_training_that_collapses_ends_with_one_line_and_keeps_its_state(tmp_path, data_root, capsys):
    out = tmp_path / "train"
    arguments = ["--name", "m", "--epochs", "8", "--lr", "0.01", "--regularizer", "frame", "--gamma", "1", "--every",
                 "1"]
    assert train(data_root, out, *arguments) == 2
    captured = capsys.readouterr()
    errors = [line for line in captured.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and "Traceback" not in captured.err
    assert re.search(r"error: the weights have collapsed in epoch \d: .* start again under another --name with a lower "
                     r"--gamma, --init delta-orthogonal, or --option relative=true$", errors[0])
    done = len(pd.read_csv(out / "m" / "log.csv"))
    assert 1 <= done < 8 and len(list((out / "m").glob("state-*.pt"))) == 1 and not (out / "m.safetensors").exists()
    assert max(kept_epochs(str(out / "m"))) == done == pd.read_csv(out / "m" / "layers.csv")["epoch"].max()
    assert train(data_root, out, *arguments) == 2, "it goes on from the state and comes to the same end"
    assert len(pd.read_csv(out / "m" / "log.csv")) == done


def test_a_folder_is_of_one_training_at_a_time(tmp_path, data_root, capsys):
    pytest.importorskip("fcntl")
    (tmp_path / "m").mkdir()
    with lock(tmp_path / "m" / ".lock", ""):
        assert train(data_root, tmp_path, "--name", "m", "--epochs", "1") == 2
    assert re.search(r"^error: another run is training in .*m; wait for it, or choose another --name$",
                     capsys.readouterr().err, re.M)
    assert not (tmp_path / "m" / "log.csv").exists()
    assert train(data_root, tmp_path, "--name", "m", "--epochs", "1") == 0


def test_kept_epochs_of_an_earlier_run_do_not_survive_its_state(tmp_path, data_root):
    assert train(data_root, tmp_path, "--name", "m", "--epochs", "3") == 0
    run, others = tmp_path / "m", [tmp_path / "m" / "epochs" / name for name in ("m.txt", "other@1.json", "m@1.txt")]
    for path in others:
        path.write_text("of someone else")
    assert train(data_root, tmp_path, "--name", "m", "--epochs", "3") == 0
    assert list(kept_epochs(str(run))) == [1, 2, 2.5, 3], "of a run that is resumed they stay"
    next(run.glob("state-*.pt")).unlink()
    assert train(data_root, tmp_path, "--name", "m", "--epochs", "2", "--keep-every", "2") == 0
    assert list(kept_epochs(str(run))) == [2] and all(path.exists() for path in others)
    assert sorted(path.name for path in (run / "epochs").glob("m@*.json")) == ["m@2.json"]


def test_a_card_says_where_each_part_of_a_resumed_run_was_trained(tmp_path, data_root, monkeypatch):
    real, machines, few = Trainer._save, iter("aabc"), ["--name", "m", "--epochs", "3", "--keep-every", "3"]
    monkeypatch.setattr(bench.training.train, "provenance", lambda device: {"machine": next(machines)})

    def save_and_die(self):
        real(self)
        if self.epoch < 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_save", save_and_die)
        assert [train(data_root, tmp_path, *few) for _ in range(2)] == [130, 130]
    assert train(data_root, tmp_path, *few) == 0
    for name in ("m.safetensors", "m/epochs/m@3.safetensors"):
        made = card_of(str(tmp_path / name)).provenance
        assert (made["machine"], [earlier["machine"] for earlier in made["resumed"]]) == ("b", ["a"])
        assert made["threads"] == made["resumed"][0]["threads"] == 1
    before = (tmp_path / "m.json").read_text()
    assert train(data_root, tmp_path, *few) == 0
    assert (tmp_path / "m.json").read_text() == before, "a process that only measures trained nothing"


def test_fewer_epochs_are_logged_and_kept_on_request(tmp_path, data_root):
    few = ["--epochs", "5", "--log-every", "2", "--keep-every", "3", "--name", "m"]
    assert train(data_root, tmp_path / "a", *few) == 0
    layers = pd.read_csv(tmp_path / "a" / "m" / "layers.csv")
    assert sorted(set(layers["epoch"])) == [0, 2, 4, 5]
    assert list(kept_epochs(str(tmp_path / "a" / "m"))) == [3, 5]
    assert train(data_root, tmp_path / "b", "--epochs", "5", "--name", "m") == 0
    assert list(kept_epochs(str(tmp_path / "b" / "m"))) == [1, 2, 3, 3.5, 4, 4.5, 5]
    one, other = (load_model(str(tmp_path / run / "m.safetensors")).state_dict() for run in "ab")
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items()), "looking changes nothing"


@pytest.mark.parametrize(("options", "decay"), [
    ([], 0.0), (["--option", "relative=true"], 5e-4), (["--option", "layers=body"], (0.0, 5e-4)),
    (["--option", "layers=body", "--weight-decay", "0.001"], 1e-3), (["--weight-decay", "0"], 0.0),
])
def test_the_command_and_python_mean_the_same_recipe(asked, options, decay):
    recipe, _ = asked("--regularizer", "frame", *options)
    chosen = parse_pairs(options[1:2], "--option") if options[:1] == ["--option"] else {}
    assert recipe.weight_decay == decay
    more = {"weight_decay": decay} if "--weight-decay" in options else {}
    assert recipe == Recipe(**TINY_RECIPE, regularizer="frame", regularizer_options=chosen, **more)


def test_each_seed_is_the_regularizers_too(tmp_path, data_root):
    few = ["--epochs", "1", "--name", "m", "--regularizer", "srip"]
    assert train(data_root, tmp_path, *few, "--seeds", "0", "2") == 0
    cards = [card_of(str(tmp_path / f"m-s{seed}.safetensors")).recipe for seed in (0, 2)]
    assert [(card["seed"], card["regularizer_options"]["seed"]) for card in cards] == [(0, 0), (2, 2)]


@pytest.mark.parametrize(("dataset", "flip"), [("cifar10", True), ("cifar100", True), ("svhn", False)])
def test_digits_are_not_mirrored(asked, dataset, flip):
    recipe, _ = asked("--dataset", dataset)
    assert recipe.flip is flip


@pytest.mark.parametrize(("more", "expected"), [
    ([], {"half": False, "compile": False, "log_every": 1, "keep_every": 1}),
    (["--half", "--compile", "--log-every", "5", "--keep-every", "10"],
     {"half": True, "compile": True, "log_every": 5, "keep_every": 10}),
])
def test_options_reach_the_training(asked, more, expected):
    assert asked(*more)[1] == expected


@pytest.mark.parametrize(("precision", "expected"), [("fp32", "fp32"), ("bf16", "bf16"), ("auto", "best")])
def test_the_precision_asked_for(asked, monkeypatch, precision, expected):
    best = "bf16" if expected == "best" else "fp32"
    monkeypatch.setattr("framebench.models.recipe.best_precision", lambda device: best)
    assert asked("--precision", precision)[0].precision == (best if expected == "best" else expected)


@pytest.fixture
def asked(tmp_path, monkeypatch):
    """The recipe and the options with which the command calls the training, which is left out."""
    def ask(*more):
        calls = []

        def train_checkpoint(name, recipe, *rest, **options):
            calls.append((recipe, options))
            raise InputError("left out")

        nothing = Domain("nothing", "nothing", ("a",), np.zeros((1, 8, 8, 3), np.uint8), np.zeros(1, int))

        monkeypatch.setattr(bench.training.train, "train_checkpoint", train_checkpoint)
        for load in ("load_training", "load_test"):
            monkeypatch.setattr(bench.training.train, load, lambda *_: nothing)
        assert train(tmp_path, tmp_path / "train", *more) == 2
        (call,) = calls
        return call
    return ask


def test_mps_is_refused_before_anything_is_written(tmp_path, data_root):
    training = domains.load_training("cifar10", data_root)
    with pytest.raises(InputError, match="need float64, which mps lacks; use --device cpu"):
        bench.training.train.train_checkpoint("m", Recipe(**TINY_RECIPE), training, [], tmp_path / "train",
                                        torch.device("mps"))
    assert not (tmp_path / "train").exists()


@pytest.mark.parametrize(("options", "message"), [
    (["--regularizer", "fram"], "unknown regularizer 'fram'; did you mean frame"),
    (["--gamma", "1"], "--gamma can't be used without a regularizer"),
    (["--option", "lower=1"], "--option can't be used without a regularizer"),
    (["--regularizer", "frame", "--option", "lower=2"], "lower"),
    (["--regularizer", "frame", "--option", "lover=2"], "unknown option of frame 'lover'; did you mean lower"),
    (["--regularizer", "frame", "--option", "lower"], "must read KEY=VALUE"),
    (["--regularizer", "frame", "--gamma", "-1"], "gamma must be a finite number, 0 or above"),
    (["--regularizer", "frame", "--gamma", "0"], "gamma 0 does nothing"),
    (["--regularizer", "so", "--init", "orthogonal"], "did you mean delta-orthogonal"),
    (["--dataset", "svhn"], "svhn"),
    (["--regularizer", "so", "--every", "0"], "must be finite and above 0"),
    (["--log-every", "0"], "must be at least 1"),
    (["--keep-every", "0"], "must be at least 1"),
    (["--regularizer", "frame", "--option", "lower=0.5", "lower=0.7"], "--option gives lower twice"),
    (["--every", "3"], "--every can't be used without a regularizer"),
    (["--weight-decay", "-1"], "weight decay must be a finite number, 0 or above"),
])
def test_bad_input(tmp_path, data_root, capsys, options, message):
    code = train(data_root, tmp_path / "train", *options)
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert code == 2 and len(errors) == 1 and message in errors[0]
    assert not list((tmp_path / "train").rglob("*.safetensors"))


def test_an_unknown_architecture_is_refused_before_anything_is_written(tmp_path, data_root, capsys):
    assert main(["train", "--data-root", str(data_root), "--out", str(tmp_path / "train"), "--arch", "resnet19"]) == 2
    assert "error: unknown architecture 'resnet19'; did you mean" in capsys.readouterr().err
    assert not (tmp_path / "train").exists()
