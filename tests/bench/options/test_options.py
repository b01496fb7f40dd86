"""Options: the same from the command line and from Python, with one set of checks."""

from __future__ import annotations

import dataclasses
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from bench.cli.flags import read_flags
from bench.cli.main import COMMANDS, parser
from bench.options.attack import AttackOptions
from bench.options.common import options_of
from bench.options.frames import FramesOptions
from bench.options.prune import PruneOptions
from bench.options.report import ReportOptions, ReportSettings
from bench.options.shift import ShiftOptions
from bench.options.train import TrainOptions
from bench.options.values import convert
from framebench.attacks.options import SimBAOptions
from framebench.domains import load_domain
from framebench.errors import InputError
from framebench.models.recipe import Recipe


def typed(command, *words):
    """Return the options that a command line means."""
    return read_flags(COMMANDS[command].OPTIONS, parser().parse_args([command, *words]))


@pytest.mark.parametrize(("keywords", "words"), [
    ({"attack": "foolbox:PGD", "attack_options": {"steps": 5, "random_start": False}},
     ["--attack", "foolbox:PGD", "--attack-option", "steps=5", "--attack-option", "random-start=false"]),
    ({"attack_options": "norm=L2"}, ["--attack-option", "norm=L2"]),
    ({"budgets": np.array([1, 3]), "max_queries": np.int64(5)}, ["--budgets", "1", "3", "--max-queries", "5"]),
    ({"budgets": 3, "seeds": 0, "l2": 1}, ["--budgets", "3", "--seeds", "0", "--l2", "1"]),
    ({"budgets": range(1, 4), "seeds": (1, np.int32(2))}, ["--budgets", "1", "2", "3", "--seeds", "1", "2"]),
    ({"epsilon": "8/255", "linf": np.float64(0.1), "targeted": np.True_},
     ["--epsilon", "8/255", "--linf", "0.1", "--targeted"]),
    ({"linf": "8/255", "l2": "1/2"}, ["--linf", "8/255", "--l2", "0.5"]),
    ({"seed": 3, "n": None, "epsilon": None, "data_root": None, "out": None}, ["--seed", "3"]),
    ({"models": ["baseline", "ocnn"], "out": "a", "data_root": Path("b")},
     ["--models", "baseline", "ocnn", "--out", "a", "--data-root", "b"]),
    ({"models": "baseline", "log": Path("run")}, ["--models", "baseline", "--log", "run"]),
    ({"models": Path("a.safetensors"), "domain": Path("photos")},
     ["--models", "a.safetensors", "--domain", "folder:photos"]),
    ({"models": Path.home() / "a", "out": Path.home() / "b", "log": str(Path.home())},
     ["--models", "~/a", "--out", "~/b", "--log", "~"]),
    ({"shard": (1, 4)}, ["--shard", "1/4"]),
    ({"budgets": {10, 9, 8}, "seeds": (k for k in (2, 1)), "models": {"b", "a"}},
     ["--budgets", "8", "9", "10", "--seeds", "2", "1", "--models", "a", "b"]),
    ({"device": torch.device("cuda", 1)}, ["--device", "cuda:1"]),
    ({"shard": "2/2", "n": 5, "protocol": "demo"}, ["-n", "5", "--protocol", "demo", "--shard", "2/2"]),
], ids=str)
def test_python_and_the_command_line_mean_the_same(keywords, words):
    assert AttackOptions(**keywords) == typed("attack", *words)


def test_values_have_the_types_that_the_fields_say():
    options = AttackOptions(budgets=[1, 2], epsilon=1, out="a", shard="1/3", attack_options=["a=1,2"])
    assert (options.budgets, options.epsilon, options.out) == ((1, 2), (1.0,), Path("a"))
    assert type(options.epsilon[0]) is float and options.shard == (1, 3) and str(options.shard) == "1/3"
    assert options.attack_options == {"a": (1, 2)}
    with pytest.raises(dataclasses.FrozenInstanceError):
        options.n = 3


@pytest.mark.parametrize("module", [nn.Flatten(), ("Flatten", nn.Flatten())], ids=["alone", "named"])
def test_a_module_is_a_model_in_eval_mode(module):
    (model,) = AttackOptions(models=[module]).models
    assert model.name == "Flatten" and not model.module.training


def test_a_domain_may_be_one_at_hand():
    samples = load_domain("samples")
    assert AttackOptions(domain=samples).domain is samples and ShiftOptions(domains=samples).domains == (samples,)


@pytest.mark.parametrize("model", [5, ["baseline"], ("a", "b"), ("a", nn.Flatten(), 1), (nn.Flatten(), "a")], ids=str)
def test_bad_models(model):
    with pytest.raises(InputError, match="a name, a torch.nn.Module, or a pair"):
        AttackOptions(models=[model])


@pytest.mark.parametrize(("options", "message"), [
    ({"budgets": []}, "--budgets needs one or more"),
    ({"budgets": "x"}, "--budgets must be an integer, not 'x'"),
    ({"budgets": "3"}, "--budgets must be an integer, not '3'"),
    ({"budgets": np.array([[1, 3]])}, r"--budgets must be an integer, not \[1, 3\]"),
    ({"budgets": {"a": 1}}, "--budgets must be an integer"),
    ({"budgets": {1, "3"}}, "--budgets must be an integer"),
    ({"attack_option": ["a=1"]}, "attack_options"),
    ({"device": 0}, "--device must be a device"),
    ({"attack": 5}, "--attack must be a name or a function"),
    ({"budgets": pd.DataFrame({"a": [1]})}, "--budgets must be an integer"),
    ({"budgets": [5, 1]}, "each must be larger"),
    ({"budgets": [1, 1]}, "each must be larger"),
    ({"budgets": [0, 1]}, "--budgets must be at least 1"),
    ({"max_queries": 5.0}, "--max-queries must be an integer, not 5.0"),
    ({"n": True}, "-n must be an integer, not True"),
    ({"n": 0}, "-n must be at least 1"),
    ({"l2": "x"}, "--l2 must be a number"),
    ({"l2": -1}, "--l2 must be above 0"),
    ({"linf": "1/0"}, "--linf must be a number"),
    ({"linf": 2}, r"must lie in \(0, 1\]"),
    ({"epsilon": "8/x"}, "--epsilon must be a number"),
    ({"epsilon": [0.1, None]}, "--epsilon must be a number, or a fraction such as 8/255, not None"),
    ({"epsilon": [0.1, 0.1]}, "give each value once"),
    ({"epsilon": float("nan")}, "--epsilon must be above 0"),
    ({"epsilon": [0.1, 0]}, "--epsilon must be above 0"),
    ({"seed": -1}, "--seed must lie between 0 and"),
    ({"seeds": [0, -1]}, "--seeds must lie between 0 and"),
    ({"seeds": [1, 1]}, "give each value once"),
    ({"seed": 1, "seeds": [2, 3]}, "exclude each other"),
    ({"threads": 0}, "--threads must be at least 1"),
    ({"batch_size": 0}, "--batch-size must be at least 1"),
    ({"basis": "dtc"}, "--basis 'dtc'; did you mean dct"),
    ({"order": "low-frequency"}, "needs the dct basis"),
    ({"targeted": 1}, "--targeted must be true or false, not 1"),
    ({"data_root": 1}, "--data-root must be a string, not 1"),
    ({"out": ""}, "--out is empty"), ({"domain": ""}, "--domain is empty"), ({"models": [""]}, "--models is empty"),
    ({"attack_options": 5}, "--attack-option must be KEY=VALUE pairs"),
    ({"attack_options": ["a"]}, "must read KEY=VALUE"),
    ({"attack_options": ["a=1", "a=2"]}, "gives a twice"),
    ({"shard": "3/2"}, "--shard must be I/N"),
    ({"shard": "1"}, "--shard must be I/N"),
    ({"shard": (1, 2, 3)}, "--shard must be I/N"),
    ({"protocol": "--help"}, "unknown protocol '--help'"),
    ({"protocol": 5}, "--protocol must be a name"),
    ({"bugdets": None}, "unknown option of attack 'bugdets'; did you mean budgets"),
    ({"bugdets": [1]}, "unknown option of attack 'bugdets'"),
], ids=str)
def test_bad_options(options, message):
    with pytest.raises(InputError, match=message) as raised:
        AttackOptions(**options)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(("kind", "options", "message"), [
    (ShiftOptions, {"corruptions": ["fogg"]}, "did you mean fog"),
    (ShiftOptions, {"severities": [0]}, "--severities '0'"),
    (ShiftOptions, {"severities": [2, 2]}, "give each value once"),
    (FramesOptions, {"images": 21}, "between 0 and 20"),
    (FramesOptions, {"padding": "zero"}, "--padding 'zero'"),
    (FramesOptions, {"n": 3}, "unknown option of frames 'n'"),
    (FramesOptions, {"protocol": "demo"}, "unknown option of frames 'protocol'"),
    (PruneOptions, {"model": "baseline"}, "prune needs --share"),
    (PruneOptions, {"share": 0.5}, "prune needs MODEL"),
    (PruneOptions, {"model": "baseline", "share": 1}, "between 0 and 1"),
    (PruneOptions, {"model": "baseline", "share": 0.5, "criterion": "magnitude", "images": 5}, "does nothing"),
    (TrainOptions, {"dataset": "cifar11"}, "did you mean cifar10"),
    (TrainOptions, {"gamma": 1}, "--gamma can't be used without a regularizer"),
    (TrainOptions, {"lr": 0}, "learning rate"),
    (TrainOptions, {"lr": "fast"}, "--lr must be a number"),
    (TrainOptions, {"seeds": [1, 1]}, "give each value once"),
    (TrainOptions, {"option": {"relative": True}}, "regularizer_options"),
    (TrainOptions, {"batch": 5}, "batch_size"),
    (PruneOptions, {"structured": "filters"}, "units"),
    (ReportOptions, {"format": "md"}, "formats"),
    (ReportOptions, {"out": []}, "OUT needs one or more"),
], ids=str)
def test_bad_options_of_other_commands(kind, options, message):
    with pytest.raises(InputError, match=message):
        kind(**options)


@pytest.mark.parametrize(("words", "message"), [
    (["--budgets", "ten"], "--budgets must be an integer, not 'ten'"),
    (["--budgets", "-1", "5"], "--budgets must be at least 1"),
    (["--epsilon", "1/0"], "--epsilon must be a number"),
    (["--shard", "2/1"], "--shard must be I/N"),
    (["--surprise"], "unrecognized arguments: --surprise"),
    (["--budgets"], "expected at least one argument"),
])
def test_bad_flags_are_one_line(words, message):
    with pytest.raises(InputError, match=message) as raised:
        typed("attack", *words)
    assert "\n" not in str(raised.value)


def test_arrays_as_a_domain_are_told_what_takes_them():
    with pytest.raises(InputError, match="framebench.domains.Domain"):
        AttackOptions(domain=([0.5], [1]))


def test_what_is_simbas_comes_from_simba():
    bare = SimBAOptions()
    options = AttackOptions()
    assert options.simba_options() == {} and options.basis == bare.basis and options.linf is bare.linf
    given = {"basis": "dct", "step": "best-of-two", "linf": 0.1, "targeted": True, "clip": "cumulative"}
    assert AttackOptions(**given, order="random").simba_options() == given


def test_what_is_the_recipes_comes_from_the_recipe():
    assert TrainOptions().recipe(0) == Recipe()
    given = {"arch": "resnet20", "epochs": 3, "lr": 0.1, "weight_decay": 0.0, "init": "delta-orthogonal"}
    assert TrainOptions(**given).recipe(2) == Recipe(**given, seed=2)


def test_seeds_and_images():
    assert AttackOptions(seed=3).all_seeds == (3,) and AttackOptions(seeds=[1, 2]).all_seeds == (1, 2)
    assert [AttackOptions().count(n) for n in (20, 10_000)] == [20, 1000]
    assert AttackOptions(n=30).count(20) == 30, "refused where the images are known"
    assert AttackOptions().shard is None and AttackOptions(shard="2/3").shard == (2, 3)
    assert ShiftOptions().severities == (1, 2, 3, 4, 5)
    assert PruneOptions(model="m", share=0.5).images > PruneOptions(model="m", share=0.5, images=5).images == 5


def test_the_command_that_a_report_shows_makes_the_same_options():
    words = ["-n", "5", "--epsilon", "0.5", "1.0", "--basis", "dct", "--targeted", "--attack-option", "a=1",
             "--models", "a model", "--log", "x", "y", "--protocol", "demo", "--baseline", "m"]
    options = typed("attack", *words, "--out", "elsewhere", "--threads", "1", "--quiet")
    line = options.command_line()
    assert "elsewhere" not in line and "--threads" not in line and "--quiet" not in line
    bench, *again = shlex.split(line)
    assert bench == "bench" and again[0] == "attack"
    assert typed(*again) == typed("attack", *words)
    assert typed("report", "one", "two").command_line() == "bench report one two"
    assert ShiftOptions().command_line() == "bench shift"
    assert ShiftOptions(precision="bf16", threads=1).command_line() == "bench shift --precision bf16"
    named = AttackOptions(models=[("mine", nn.Flatten())], seed=0).command_line()
    assert named == "bench attack --models mine", "the default is no news"


def test_a_report_is_made_by_its_command_alone():
    options = ShiftOptions(baseline="m", log=["run"])
    assert options.report_settings(("a: matched",)) == ReportSettings(
        "m", ("a: matched",), (Path("run"),), "bench shift --baseline m --log run")


def test_every_flag_reads_its_own_default():
    """What help says of a default can be typed."""
    for module in COMMANDS.values():
        kind = module.OPTIONS
        for name, how in options_of(kind).items():
            default = next(f for f in dataclasses.fields(kind) if f.name == name).default
            if default not in (None, (), dataclasses.MISSING):
                assert convert(how, default, how.flag) == default, (kind.command, name)


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_is_instant(command):
    """It imports nothing that takes time."""
    code = ("import sys\nfrom bench.run import main\ntry: main([*sys.argv[1:], '--help'])\nexcept SystemExit: pass\n"
            "print(sorted({'torch', 'numpy', 'pandas', 'matplotlib', 'foolbox'} & set(sys.modules)))")
    done = subprocess.run([sys.executable, "-c", code, *([command] if command else [])], capture_output=True, text=True,
                          check=True)
    assert "usage: bench" in done.stdout and done.stdout.splitlines()[-1] == "[]"


def test_help_says_every_default(capsys):
    with pytest.raises(SystemExit):
        parser().parse_args(["attack", "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    for default in ("1 10 50 100 1000", "simba", "margin", "runs", "at most 1000", "256", "$BENCH_DATA"):
        assert f"(default: {default})" in shown
