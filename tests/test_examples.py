"""Every example runs as it is, on the 20 samples."""

from __future__ import annotations

import json
import re
import runpy
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch

from bench.run import main

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch):
    """Let the examples, which name no number of threads, use one, as the tests do."""
    monkeypatch.setattr("bench.running.computing.threads", lambda given: given or 1)


def _run(monkeypatch, capsys, name, *arguments):
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    return capsys.readouterr().out


def test_every_example_is_tested_and_fits_a_screen():
    files = [path for path in EXAMPLES.iterdir() if path.is_file()]
    assert {path.name for path in files} == {
        "attack_your_model.py", "attack_a_service.py", "my_attack.py", "shift_on_a_folder.py", "train_with_frame.py",
        "my_protocol.toml", "notebook.ipynb"}
    assert max(len(path.read_text().splitlines()) for path in files if path.suffix != ".ipynb") <= 60


def test_attack_your_model(monkeypatch, capsys):
    out = _run(monkeypatch, capsys, "attack_your_model.py")
    entries = re.findall(r"^ *(baseline|blurred) +(\d+) +(\d+) +(\S+)", out, re.MULTILINE)
    assert [(model, budget) for model, budget, *_ in entries] == [
        (model, budget) for model in ("baseline", "blurred") for budget in ("0", "1", "10", "30")]
    assert {(model, n) for model, _, n, _ in entries} == {("baseline", "20"), ("blurred", "11")}
    assert all(float(asr) == 0 for _, budget, _, asr in entries if budget == "0"), "the control"


def test_its_model_by_file(tmp_path):
    command = ["attack", "--models", f"python:{EXAMPLES / 'attack_your_model.py'}:make_model", "--protocol", "demo",
               "-n", "2", "--budgets", "1", "--threads", "1", "--out", str(tmp_path)]
    assert main(command) == 0 and (tmp_path / "attack.csv").is_file()


def test_my_attack_beside_simba_on_the_same_images(tmp_path):
    mine = ["--attack", f"python:{EXAMPLES / 'my_attack.py'}:random_search", "--attack-option", "share=0.1"]
    for attack in ([], mine):
        assert main(["attack", "--models", "baseline", "--budgets", "5", "-n", "4", "--threads", "1", *attack, "--out",
                     str(tmp_path)]) == 0
    table = pd.read_csv(tmp_path / "attack.csv").query("unit == 'queries' and budget == 5").set_index("attack")
    (own,) = (name for name in table.index if "random_search" in name)
    assert table.loc[own, "n"] == table.loc["simba-pixel", "n"] == 4 and table.loc[own, "norm"] == "linf"
    assert own in (tmp_path / "report" / "index.html").read_text()


def test_attack_a_service(monkeypatch, capsys):
    monkeypatch.setenv("SERVICE", "set by the example")
    out = _run(monkeypatch, capsys, "attack_a_service.py")
    entries = re.findall(r"^attack_a_service:classify +(\w+) +(\d+) +5 +(\S+) +(\S+)", out, re.MULTILINE)
    assert [entry[:2] for entry in entries] == [(unit, budget) for unit in ("iterations", "queries")
                                                for budget in ("0", "10", "40")]
    assert float(entries[2][2]) > 0 and float(entries[2][3]) <= 40


def test_shift_on_a_folder(monkeypatch, capsys):
    out = _run(monkeypatch, capsys, "shift_on_a_folder.py")
    cells = re.findall(r"^ *folder\S* +(fog|contrast)? +([015]) +20 +(\d\.\d+)", out, re.MULTILINE)
    assert sorted(cell[:2] for cell in cells) == [("", "0"), ("contrast", "1"), ("contrast", "5"), ("fog", "1"),
                                                  ("fog", "5")]
    assert float(dict((cell[:2], cell[2]) for cell in cells)["", "0"]) == 1, "the card's 20 of 20"


def test_shift_on_a_folder_of_the_users(monkeypatch, capsys, data_root):
    out = _run(monkeypatch, capsys, "shift_on_a_folder.py", str(data_root / "cifar10" / "test"))
    assert re.search(r"^ *folder:\S* +0 +30 ", out, re.MULTILINE)


def test_train_with_frame(monkeypatch, capsys):
    out = _run(monkeypatch, capsys, "train_with_frame.py")
    penalties = [float(value) for value in re.findall(r"R = (\S+)", out)]
    conditions = [float(value) for value in re.findall(r"B/A = (\S+)", out)]
    assert len(penalties) == 2 and penalties[1] < penalties[0] / 100
    assert len(conditions) == 6 and all(conditions[3 + i] < conditions[i] / 1.5 for i in range(3))


def test_my_protocol(tmp_path):
    common = ["--protocol", str(EXAMPLES / "my_protocol.toml"), "--threads", "1", "--out", str(tmp_path)]
    assert main(["attack", *common, "-n", "2", "--budgets", "2"]) == 0
    assert main(["shift", *common, "--severities", "5"]) == 0
    assert pd.read_csv(tmp_path / "attack.csv")["attack"].tolist()[0] == "simba-dct-low-frequency"
    assert set(pd.read_csv(tmp_path / "shift.csv")["severity"]) == {0, 5}


def test_the_notebook(capsys):
    notebook = json.loads((EXAMPLES / "notebook.ipynb").read_text(encoding="utf-8"))
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    ids = [cell["id"] for cell in notebook["cells"]]
    assert len(set(ids)) == len(ids)
    codes = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in codes), "kept clean"
    names: dict[str, object] = {}
    shown = [_execute("".join(cell["source"]), names) for cell in codes]
    attack, paired, shift, demo, results = shown
    assert list(attack["budget"][attack["unit"] == "iterations"]) == [0, 1, 10, 30]
    assert set(paired["metric"]) == {"asr", "robust_accuracy"} and len(shift) == 4
    assert set(demo["n"]) == {5} and demo["budget"].max() >= 10
    assert results._repr_html_().startswith("<iframe srcdoc=")
    assert isinstance(names["mine"][1], torch.nn.Module)


def _execute(code, names):
    """Run a cell and return the value of its last line, which a notebook shows."""
    *body, last = code.splitlines()
    exec(compile("\n".join(body), "cell", "exec"), names)
    return eval(last, names)
