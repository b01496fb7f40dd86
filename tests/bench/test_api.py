from __future__ import annotations

import pandas as pd
import pytest
import torch
from torch import nn

import bench
from bench.run import main
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
    pd.testing.assert_frame_equal(mine.drop(columns="model"), table.drop(columns="model"), check_dtype=False)


def test_shift_is_shown_inline_and_a_folder_of_results_grows(tmp_path):
    options = {"out": tmp_path / "out", "threads": 1, "corruptions": ["fog"], "severities": [1]}
    results = bench.shift(_model(), **options)
    assert results.shift["model"].tolist() == ["Sequential"] * 2
    assert results._repr_html_().startswith("<iframe srcdoc=") and "What the shift costs" in results._repr_html_()
    again = bench.shift(("other", _model(20.0)), "baseline", **options)
    assert set(again.shift["model"]) == {"Sequential", "other", "baseline"}


def test_a_module_in_training_mode_is_put_into_eval_mode():
    model = _model().train()
    bench.attack(("m", model), budgets=[1], n=2, threads=1)
    assert not model.training


@pytest.mark.parametrize(("options", "message"), [
    ({"bugdets": [1]}, "unknown option of bench.attack 'bugdets'; did you mean budgets"),
    ({"transfer_from": ["x"]}, "unknown option of bench.attack 'transfer_from'"),
    ({"n": 0}, "-n 0 is not possible"),
])
def test_bad_options(options, message):
    with pytest.raises(InputError, match=message):
        bench.attack(_model(), **options)


def test_bench_has_no_other_attribute():
    with pytest.raises(AttributeError, match="no attribute 'atack'"):
        bench.atack  # noqa: B018
