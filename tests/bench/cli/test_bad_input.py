"""Bad input: one line that says what is wrong and what to do, exit code 2, nothing written, nothing lost."""

from __future__ import annotations

import shutil

import pytest
import torch

from bench.run import main
from framebench.classes import CIFAR10
from framebench.models.architectures import build
from framebench.models.checkpoint import Card, save


@pytest.mark.parametrize(("options", "message"), [
    (["--models", "basline"], "unknown model 'basline'; did you mean baseline?"),
    (["--models", "{file}"], "factories.py is not a .safetensors file"),
    (["--models", "python:{file}:five"], "the data have 10 classes"),
    (["--models", "python:{file}:broken"], "returns logits that are not finite"),
    (["--budgets", "-1", "5"], "--budgets must be at least 1"),
    (["--budgets", "0"], "--budgets must be at least 1"),
    (["--budgets", "10", "5"], "each must be larger"),
    (["--budgets", "10", "10"], "each must be larger"),
    (["--budgets", "5000"], "no direction repeats"),
    (["--budgets", "ten"], "must be an integer, not 'ten'"),
    (["-n", "21"], "-n 21 is not possible"),
    (["-n", "0"], "-n must be at least 1"),
    (["--domain", "cifar"], "unknown domain 'cifar'; did you mean cifar10"),
    (["--domain", "cifar10"], "needs --data-root"),
    (["--data-root", "/no/such/folder"], "is not a folder"),
    (["--data-root", "{folder}"], "neither cifar-10-batches-py/ nor"),
    (["--basis", "dft"], "--basis 'dft'"),
    (["--attack", "simab"], "did you mean simba"),
    (["--epsilon", "0"], "--epsilon must be above 0"),
    (["--epsilon", "nan"], "epsilon must be above 0"),
    (["--linf", "-0.1"], "Linf bound must lie in"),
    (["--max-queries", "0"], "--max-queries must be at least 1"),
    (["--order", "low-frequency"], "needs the dct basis"),
    (["--seed", "-1"], "must lie between 0"),
    (["--batch-size", "0"], "must be at least 1"),
    (["--threads", "0"], "must be at least 1"),
    (["--device", "tpu9"], "the device 'tpu9' is not available"),
    (["--device", "hpu"], "the device 'hpu' is not available"),
    (["--threads", "10000"], "--threads must be at least 1 and at most"),
    (["--image-size", "100000"], "--image-size must be"),
    (["--epsilon", "1e308"], "--epsilon must be above 0"),
    (["--data-root", "~nouser/x"], "~nouser/x is not a folder"),
    (["--domain", "folder:~nouser/x"], "~nouser/x is not a folder"),
    (["--protocol", "~nouser/x.toml"], "~nouser/x.toml"),
    (["--models", "x" * 300], "File name too long"),
    (["--domain", "folder:" + "x" * 300], "File name too long"),
    (["--out", "a\0b"], "--out must be a path"),
    (["--models", "a\0b"], "--models must be a name"),
    (["--shard", "3/2"], "must be I/N"),
    (["--out", "{file}/out"], "can't write to the folder"),
    (["--surprise"], "see bench attack --help"),
    (["--max-querys", "5"], "did you mean --max-queries?"),
    (["--max-iterations", "5"], "did you mean --budgets?"),
    (["--dataset=cifar10", "--num-sample", "5"], "did you mean --domain or -n?"),
])
def test_attack(tmp_path, model_file, capsys, options, message):
    given = [option.format(file=model_file, folder=model_file.parent) for option in options]
    defaults = {"--models": f"python:{model_file}:linear", "--out": str(tmp_path / "out"), "--budgets": "3"}
    more = [word for key, value in defaults.items() if key not in given for word in (key, value)]
    code = main(["attack", *given, *more])
    captured = capsys.readouterr()
    errors = [line for line in captured.err.splitlines() if line.startswith("error: ")]
    assert code == 2 and len(errors) == 1 and message in errors[0], captured.err
    assert "Traceback" not in captured.err
    assert not list((tmp_path / "out").rglob("*.parquet")) and not (tmp_path / "out" / "attack.csv").exists()


@pytest.mark.parametrize(("spoil", "message"), [
    (lambda root: shutil.rmtree(root / "cifar10" / "test" / "frog"), "has no folder 'frog'"),
    (lambda root: shutil.rmtree(root / "cifar10"), "has neither cifar-10-batches-py/ nor"),
    (lambda root: [p.unlink() for p in (root / "cifar10" / "test" / "frog").iterdir()], "holds no image"),
    (lambda root: (root / "cifar10" / "test" / "frog" / "0000.png").write_bytes(b"\x89PNG"), "can't decode the image"),
])
def test_half_empty_data_roots(tmp_path, model_file, data_root, capsys, spoil, message):
    spoil(data_root)
    code = main(["attack", "--models", f"python:{model_file}:linear", "--data-root", str(data_root),
                 "--domain", "cifar10", "--out", str(tmp_path / "out")])
    assert code == 2
    assert message in capsys.readouterr().err


def test_an_error_loses_no_earlier_rows(tmp_path, model_file, capsys):
    out = tmp_path / "out"
    good = ["attack", "--models", f"python:{model_file}:linear", "--out", str(out), "--budgets", "3"]
    assert main(good) == 0
    before = {path: path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}
    for bad in (["--models", f"python:{model_file}:five"], ["--budgets", "9999"], ["-n", "99"]):
        assert main([*good, *bad]) == 2
    assert {path: path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()} == before


@pytest.mark.parametrize("command", [["report"], ["browse"]])
def test_report_and_browse_without_results(tmp_path, capsys, command):
    assert main([*command, str(tmp_path / "none")]) == 2
    assert str(tmp_path / "none") in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_a_card_with_other_classes_is_refused_though_the_rows_are_there(tmp_path, capsys):
    names = ("mine", "twin", "reversed")
    for name, classes in zip(names, (CIFAR10, CIFAR10, CIFAR10[::-1]), strict=True):
        torch.manual_seed(0)
        save(build("speednet", width=4), Card(name, "speednet", 4, classes, {}, {}, [], {}), tmp_path)
    codes = [main(["attack", "--models", str(tmp_path / f"{name}.safetensors"), "--out", str(tmp_path / "out"),
                   "--budgets", "1", "-n", "3", "--threads", "1"]) for name in names]
    said = capsys.readouterr()
    assert codes == [0, 0, 2] and "twin is the same model as mine, whose rows are used" in said.out
    assert "the model reversed was trained for other classes" in said.err
    codes = [main(["shift", "--models", str(tmp_path / f"{name}.safetensors"), "--out", str(tmp_path / "out"),
                   "--domains", "samples", "-n", "3", "--threads", "1"]) for name in names]
    assert codes == [0, 0, 2] and "the model reversed was trained for other classes" in capsys.readouterr().err


@pytest.mark.parametrize(("command", "hint"), [
    (["shift", "--dataset", "cifar10"], "did you mean --domains?"),
    (["train", "--domain", "cifar10"], "did you mean --dataset?"),
    (["shift", "--max-iterations", "5"], "--max-iterations 5 (see"), (["train", "--limit", "5"], "--limit 5 (see")])
def test_hints_are_flags_of_the_command(capsys, command, hint):
    assert main(command) == 2
    assert hint in capsys.readouterr().err


def test_train_without_data(tmp_path, capsys):
    assert main(["train", "--out", str(tmp_path / "t")]) == 2
    assert "needs --data-root" in capsys.readouterr().err
