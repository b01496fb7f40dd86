from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import bench
from bench import api
from bench.run import main, parser
from framebench.errors import InputError


def _model(scale=40.0):
    torch.manual_seed(20)
    layer = nn.Linear(3072, 10)
    with torch.no_grad():
        layer.weight *= scale
    return nn.Sequential(nn.Flatten(), layer)


def test_attack_gives_the_tables_of_the_command(tmp_path, model_file):
    results = bench.attack(("mine", _model()), ("other", _model(20.0)), budgets=[1, 10, 60], threads=1)
    assert set(results.attack["model"]) == {"mine", "other"} and len(results.paired) == 6
    assert results.shift.empty and results.page.is_file()
    assert main(["attack", "--models", f"python:{model_file}:linear", "--budgets", "1", "10", "60", "--threads", "1",
                 "--out", str(tmp_path / "out")]) == 0
    table = pd.read_csv(tmp_path / "out" / "attack.csv")
    mine = results.attack[results.attack["model"] == "mine"].reset_index(drop=True)
    mine = mine.drop(columns="model").fillna(np.nan)  # a file has no None
    pd.testing.assert_frame_equal(mine, table.drop(columns="model"), check_dtype=False)


def test_shift_is_shown_inline_and_a_folder_of_results_grows(tmp_path):
    options = {"out": tmp_path / "out", "threads": 1, "corruptions": ["fog"], "severities": [1]}
    results = bench.shift(_model(), **options)
    assert results.shift["model"].tolist() == ["Sequential"] * 2
    assert results._repr_html_().startswith("<iframe srcdoc=") and "What the shift costs" in results._repr_html_()
    again = bench.shift(("other", _model(20.0)), "baseline", **options)
    assert set(again.shift["model"]) == {"Sequential", "other", "baseline"}


def test_frames_gives_the_table_of_the_command(tmp_path, model_file):
    run = tmp_path / "run"
    run.mkdir()
    (run / "layers.csv").write_text("epoch,layer,lower,upper\n1,a,0.1,2\n")
    options = {"out": tmp_path / "mine", "images": np.int64(1), "threads": 1}
    results = bench.frames(("mine", _model()), "baseline", log=run, **options)
    assert results.frames["model"].tolist() == ["baseline"] * 8 + ["mine"] and results.attack.empty
    drawn = "Bounds in the course of training</h2>"
    assert "At a glance" in results._repr_html_() and drawn in results.page.read_text()
    assert drawn not in bench.frames("baseline", log=[], **options).page.read_text()
    assert main(["frames", "--models", f"python:{model_file}:linear", "--images", "1", "--threads", "1", "--out",
                 str(tmp_path / "out")]) == 0
    table = pd.read_csv(tmp_path / "out" / "frames.csv", dtype={"layer": str}, keep_default_na=False)
    mine = results.frames[results.frames["model"] == "mine"].reset_index(drop=True)
    pd.testing.assert_frame_equal(mine.drop(columns="model"), table.drop(columns="model"), check_dtype=False)


def test_a_module_in_training_mode_is_put_into_eval_mode():
    model = _model().train()
    bench.attack(("m", model), budgets=[1], n=2, threads=1)
    assert not model.training


@pytest.mark.parametrize(("options", "words"), [
    ({"attack": "foolbox:PGD", "attack_option": "steps=5"}, ["--attack", "foolbox:PGD", "--attack-option", "steps=5"]),
    ({"budgets": np.array([1, 3]), "max_queries": np.int64(5)}, ["--budgets", "1", "3", "--max-queries", "5"]),
    ({"budgets": 3, "seeds": 0, "l2": 1}, ["--budgets", "3", "--seeds", "0", "--l2", "1"]),
    ({"budgets": range(1, 4), "seeds": (1, np.int32(2))}, ["--budgets", "1", "2", "3", "--seeds", "1", "2"]),
    ({"epsilon": "8/255", "linf": np.float64(0.1), "targeted": np.True_},
     ["--epsilon", "8/255", "--linf", "0.1", "--targeted"]),
    ({"seed": 3, "n": None, "epsilon": None, "data_root": None, "out": None}, ["--seed", "3"]),
])
def test_options_are_read_as_the_command_reads_its_words(options, words):
    given, expected = (vars(found) for found in (api._arguments("attack", ("baseline",), options),
                                                 parser().parse_args(["attack", "--models", "baseline", *words])))
    assert given.pop("out").is_dir() and expected.pop("out").name == "runs"
    assert given == expected


def test_the_temporary_folder_goes_when_python_ends(monkeypatch):
    at_exit = []
    monkeypatch.setattr("atexit.register", lambda *call, **options: at_exit.append(partial(*call, **options)))
    out = bench.attack(_model(), budgets=[1], n=1, threads=1).page.parent.parent
    (remove,) = (call for call in at_exit if call.args == (str(out),))
    assert (out / "attack.csv").is_file()
    remove()
    assert not out.exists()


@pytest.mark.parametrize(("options", "message"), [
    ({"budgets": []}, "budgets must be a list of one or more values"),
    ({"budgets": "x"}, "budgets must be an integer, not 'x'"),
    ({"budgets": np.array([[1, 3]])}, r"budgets must be an integer, not \[1, 3\]"),
    ({"budgets": {1, 3}}, "budgets must be an integer, not {1, 3}"),
    ({"budgets": pd.DataFrame({"a": [1]})}, "budgets must be an integer, not a 0 1"),
    ({"max_queries": 5.0}, "max_queries must be an integer, not 5.0"),
    ({"n": True}, "n must be an integer, not True"),
    ({"l2": "x"}, "l2 must be a number, not 'x'"),
    ({"epsilon": "1/0"}, "epsilon can't be '1/0': 1/0 divides by zero"),
    ({"seed": -1}, "seed can't be -1: must lie between 0 and"),
    ({"seeds": [0, -1]}, "seeds can't be -1: must lie between 0 and"),
    ({"threads": 0}, "threads can't be 0: must be at least 1"),
    ({"attack": "squre"}, "attack can't be 'squre': invalid choice: 'squre'; did you mean square"),
    ({"basis": "dtc"}, "unknown value of basis 'dtc'; did you mean dct"),
    ({"targeted": 1}, "targeted must be true or false, not 1"),
    ({"data_root": 1}, "data_root must be a string, not 1"),
    ({"protocol": "--help"}, "unknown protocol '--help'"),
    ({"shard": "4/4", "n": 3}, "the shard 4/4 has none of the images"),
    ({"bugdets": None}, "unknown option of bench.attack 'bugdets'"),
    ({"bugdets": [1]}, "unknown option of bench.attack 'bugdets'; did you mean budgets"),
    ({"transfer_from": ["x"]}, "unknown option of bench.attack 'transfer_from'"),
    ({"n": 0}, "-n 0 is not possible"),
])
def test_bad_options(options, message):
    with pytest.raises(InputError, match=message) as raised:
        bench.attack(_model(), **options)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(("options", "message"), [
    ({"log": 1}, "log must be a string, not 1"),
    ({"log": "nowhere"}, "nowhere is not a log of a training"),
    ({"images": 21}, "choose 0 to 20"),
    ({"protocol": "demo"}, "unknown option of bench.frames 'protocol'"),
    ({"n": 3}, "unknown option of bench.frames 'n'"),
])
def test_bad_options_of_frames(options, message):
    with pytest.raises(InputError, match=message):
        bench.frames(_model(), **options)


def test_frames_of_models_that_can_not_be_told_apart_are_refused():
    with pytest.raises(InputError, match="two models have the same name Sequential"):
        bench.frames(_model(), _model(20.0))


@pytest.mark.parametrize("model", [5, ["baseline"], ("a", "b"), ("a", nn.Flatten(), 1), (nn.Flatten(), "a")])
def test_bad_models(model):
    with pytest.raises(InputError, match="a model must be a name, a torch.nn.Module, or a pair"):
        bench.shift(model)


def test_the_threads_of_others_are_left_alone():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3072, 10))
        bench.attack(("flat", model), n=1, budgets=1, threads=1)
        assert torch.get_num_threads() == 3
        bench.frames(("flat", model), images=0, threads=1)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_bench_has_no_other_attribute():
    with pytest.raises(AttributeError, match="no attribute 'atack'"):
        bench.atack  # noqa: B018
