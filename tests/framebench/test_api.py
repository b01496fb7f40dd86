"""The public API: results are those of the commands, and nothing is left behind."""

from __future__ import annotations

import inspect
import subprocess
import sys
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import framebench
from bench.analysis import stats
from bench.cli.main import COMMANDS
from bench.options.common import options_of
from bench.run import main
from framebench.attacks.simba import simba


def _model(scale=40.0):
    torch.manual_seed(20)
    layer = nn.Linear(3072, 10)
    with torch.no_grad():
        layer.weight *= scale
    return nn.Sequential(nn.Flatten(), layer)


def _write_log(run):
    run.mkdir()
    (run / "layers.csv").write_text("epoch,layer,lower,upper\n1,a,0.1,2\n")


def test_attack_gives_the_tables_of_the_command(tmp_path, model_file):
    results = framebench.attack(("mine", _model()), ("other", _model(20.0)), budgets=[1, 10, 60], threads=1)
    assert set(results.attack["model"]) == {"mine", "other"} and len(results.paired)
    assert results.shift.empty and results.page.is_file()
    assert main(["attack", "--models", f"python:{model_file}:linear", "--budgets", "1", "10", "60", "--threads", "1",
                 "--out", str(tmp_path / "out")]) == 0
    table = pd.read_csv(tmp_path / "out" / "attack.csv")
    mine = results.attack[results.attack["model"] == "mine"].reset_index(drop=True)
    mine = mine.drop(columns="model").fillna(np.nan)  # a file has no None
    pd.testing.assert_frame_equal(mine, table.drop(columns="model"), check_dtype=False)


def test_a_domain_at_hand_is_attacked(tmp_path):
    samples = framebench.load_domain("samples")
    results = framebench.attack(_model(), domain=samples, n=4, budgets=[1], threads=1)
    assert set(results.attack["domain"]) == {"samples"}


def test_shift_is_shown_inline_and_a_folder_of_results_grows(tmp_path):
    options = {"out": tmp_path / "out", "threads": 1, "corruptions": ["fog"], "severities": [1]}
    results = framebench.shift(_model(), **options)
    assert results.shift["model"].tolist() == ["Sequential"] * 2
    assert results._repr_html_().startswith("<iframe srcdoc=")
    again = framebench.shift(("other", _model(20.0)), "baseline", **options)
    assert set(again.shift["model"]) == {"Sequential", "other", "baseline"}
    rebuilt = framebench.report(tmp_path / "out", baseline="other")
    assert set(rebuilt.shift["model"]) == {"Sequential", "other", "baseline"}
    mce = rebuilt.shift_summary.query("part == 'benchmark'").set_index("model")["mce"]
    assert mce["other"] == 1


def test_frames_gives_the_table_of_the_command(tmp_path, model_file):
    _write_log(tmp_path / "run")
    options = {"out": tmp_path / "mine", "images": np.int64(1), "threads": 1}
    results = framebench.frames(("mine", _model()), "baseline", log=tmp_path / "run", **options)
    assert results.frames["model"].tolist() == ["baseline"] * 8 + ["mine"] and results.attack.empty
    drawn = "Bounds in the course of training</h2>"
    assert drawn in results.page.read_text()
    assert drawn not in framebench.frames("baseline", **options).page.read_text(), "nothing is remembered"
    assert main(["frames", "--models", f"python:{model_file}:linear", "--images", "1", "--threads", "1", "--out",
                 str(tmp_path / "out")]) == 0
    table = pd.read_csv(tmp_path / "out" / "frames.csv", dtype={"layer": str}, keep_default_na=False)
    mine = results.frames[results.frames["model"] == "mine"].reset_index(drop=True)
    pd.testing.assert_frame_equal(mine.drop(columns="model"), table.drop(columns="model"), check_dtype=False)


def test_train_writes_a_model_that_attack_takes(tmp_path, data_root):
    ((path, card),) = framebench.train(arch="resnet20", width=4, epochs=1, batch_size=20, pad=1, validation=20,
                                       precision="fp32", threads=1, data_root=data_root, out=tmp_path, name="mine")
    assert card.name == "mine" and card.accuracy[0]["n"] == 20
    results = framebench.attack(str(path), n=2, budgets=1, threads=1)
    assert set(results.attack["model"]) == {"mine"}


def test_a_module_in_training_mode_is_put_into_eval_mode():
    model = _model().train()
    framebench.attack(("m", model), budgets=[1], n=2, threads=1)
    assert not model.training


def test_the_temporary_folder_goes_when_python_ends(monkeypatch):
    at_exit = []
    monkeypatch.setattr("atexit.register", lambda *call, **options: at_exit.append(partial(*call, **options)))
    out = framebench.attack(_model(), budgets=[1], n=1, threads=1).page.parent.parent
    (remove,) = (call for call in at_exit if call.args == (str(out),))
    assert (out / "attack.csv").is_file()
    remove()
    assert not out.exists()


@pytest.mark.parametrize(("call", "options", "message"), [
    ("attack", {"shard": "4/4", "n": 3}, "has none of the images"),
    ("attack", {"transfer_from": ["x"]}, "framebench.transfer"),
    ("transfer", {}, "needs transfer_from"),
    ("transfer", {"transfer_from": "nowhere"}, "nowhere"),
    ("attack", {"bugdets": [1]}, "did you mean budgets"),
    ("attack", {"n": 21}, "^n 21 is not possible"),
    ("attack", {"budgets": {"a": 1}}, "^budgets must be an integer"),
    ("attack", {"batch_size": 0}, "^batch_size must be"),
    ("attack", {"resize": 40, "domain": "samples"}, "image_size, resize"),
    ("shift", {"corruptions": "fogg"}, "did you mean fog"),
    ("frames", {"log": "nowhere"}, "nowhere is not a log of a training"),
    ("frames", {"images": 21}, "between 0 and 20"),
])
def test_bad_options(call, options, message):
    with pytest.raises(framebench.InputError, match=message):
        getattr(framebench, call)(_model(), **options)


def test_models_that_can_not_be_told_apart_are_refused():
    with pytest.raises(framebench.InputError, match=r"the same name Sequential.*\(name, module\)"):
        framebench.frames(_model(), _model(20.0))


def test_the_threads_of_others_are_left_alone():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        framebench.attack(("flat", _model()), n=1, budgets=1, threads=1)
        assert torch.get_num_threads() == 3
        framebench.frames(("flat", _model()), images=0, threads=1)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_quiet_shows_no_progress(capsys):
    framebench.attack(("m", _model()), budgets=[1], n=2, threads=1, quiet=True)
    assert capsys.readouterr() == ("", "")
    framebench.attack(("m", _model()), budgets=[1], n=2, threads=1)
    assert capsys.readouterr().err, "a progress bar"


def test_every_public_name_is_there_and_no_other():
    assert all(getattr(framebench, name) is not None and name in dir(framebench) for name in framebench.__all__)
    assert framebench.stats is stats and framebench.simba is simba
    with pytest.raises(AttributeError, match="no attribute 'atack'"):
        framebench.atack  # noqa: B018


def test_importing_it_imports_nothing_that_takes_time():
    code = "import sys, framebench\nprint(sorted({'torch', 'numpy', 'bench'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


@pytest.mark.parametrize("name", ["attack", "shift", "frames", "train", "report"])
def test_help_and_signature_have_every_option(name):
    function = getattr(framebench, name)
    parameters = inspect.signature(function).parameters
    assert {*options_of(COMMANDS[name].OPTIONS)} - {"transfer_from"} == {*parameters}
    named = [one for one in parameters.values() if one.kind is one.KEYWORD_ONLY]
    assert all(f"\n    {one.name}: " in function.__doc__ for one in named) and len(named) > 5
    assert "--" not in function.__doc__, "flags are the command line's"


def test_help_says_defaults_and_choices():
    assert inspect.signature(framebench.attack).parameters["budgets"].default == (1, 10, 50, 100, 1000)
    text = " ".join(framebench.attack.__doc__.split())
    assert "one of pixel, dct (default: pixel)" in text and "(default: 1 10 50 100 1000)" in text
    assert "cifar10 under data_root" in text


def test_attacked_images_are_classified_by_other_models(tmp_path):
    options = {"threads": 1, "out": tmp_path}
    framebench.attack(("mine", _model()), n=4, budgets=[60], epsilon=0.5, save_adversarial=True, **options)
    saved = (tmp_path / "adversarial").iterdir()
    table = framebench.transfer(("mine", _model()), ("other", _model(20.0)), transfer_from=saved, **options)
    assert table["target"].tolist() == ["mine", "other"] and set(table["source"]) == {"mine"}
    pd.testing.assert_frame_equal(framebench.report(tmp_path).transfer[["target", "asr"]], table[["target", "asr"]])
    assert {"transfer_from", "domain", "out"} <= {*inspect.signature(framebench.transfer).parameters}


def test_a_function_is_an_attack():
    def darken(model, images, labels, *, epsilon, budget, generator, steps=5):
        for step in range(steps):
            model(images * (1 - step / steps))

    results = framebench.attack(_model(), attack=darken, attack_options={"steps": 3}, n=4, budgets=[5], threads=1)
    (label,) = set(results.attack["attack"])
    assert label.startswith("python:darken") and "steps=3" in label
    assert "--attack python:darken" in results.page.read_text()
    pytest.importorskip("distributed")
    with pytest.raises(framebench.InputError, match="attacks by name, or leave workers out"):
        framebench.attack("baseline", attack=darken, n=1, budgets=[1], threads=1, workers=1)


def test_a_black_box_is_a_model_and_a_bare_function_is_not():
    def classify(images):
        assert images.shape[1:] == (32, 32, 3)
        return np.argsort(images.mean((1, 2)))[:, 0]

    results = framebench.attack(("service", framebench.black_box(classify, answers="labels", classes=10)),
                                attack="noise", n=4, budgets=[2], threads=1)
    assert set(results.attack["model"]) == {"service"}
    with pytest.raises(framebench.InputError, match="black_box"):
        framebench.attack(("service", classify))
    with pytest.raises(framebench.InputError, match="did you mean answers"):
        framebench.black_box(classify, answer="labels")
    with pytest.raises(framebench.InputError, match="module"):
        framebench.black_box(_model())


def test_several_may_be_one_list(tmp_path):
    options = {"images": 0, "threads": 1}
    models = [("mine", _model()), ("other", _model(20.0))]
    for given in ([models], [tuple(models)], [iter(models)], models):
        assert set(framebench.frames(*given, **options).frames["model"]) == {"mine", "other"}
    framebench.frames(models, out=tmp_path, **options)
    assert set(framebench.report([tmp_path]).frames["model"]) == {"mine", "other"}


def test_models_and_folders_may_be_given_by_name_but_not_twice(tmp_path):
    options = {"n": 4, "budgets": [1], "threads": 1, "out": tmp_path}
    assert set(framebench.attack(models=[("mine", _model())], **options).attack["model"]) == {"mine"}
    assert set(framebench.report(out=tmp_path).attack["model"]) == {"mine"}
    with pytest.raises(framebench.InputError, match="twice"):
        framebench.attack("baseline", models=["baseline"], **options)
