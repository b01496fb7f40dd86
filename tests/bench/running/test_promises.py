"""What the benchmark promises of rows and tables, whatever was run before."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.io import savemat

import bench.running.attacking
import bench.running.cells
from bench.rows.store import Store
from bench.run import main
from framebench.domains import Domain
from framebench.errors import InputError


@pytest.fixture
def attack(model_file, data_root):
    def run(out, *more):
        return main(["attack", "--models", f"python:{model_file}:linear", "--data-root", str(data_root), "--out",
                     str(out), "--threads", "1", "--targeted", *more])  # so that all images are attacked
    return run


@pytest.fixture
def shift(model_file, data_root):
    def run(out, *more):
        return main(["shift", "--models", f"python:{model_file}:linear", "--data-root", str(data_root), "--out",
                     str(out), "--threads", "1", *more])
    return run


def test_all_domains_of_a_shift_have_the_models_classes(tmp_path, shift, data_root, capsys):
    """Ten digits are not CIFAR-10's ten classes, wherever they are named."""
    rng = np.random.default_rng(0)
    (data_root / "svhn").mkdir()
    savemat(data_root / "svhn" / "test_32x32.mat", {"X": rng.integers(0, 256, (32, 32, 3, 20), dtype=np.uint8),
                                                    "y": np.arange(20)[:, None] % 10 + 1})
    assert shift(tmp_path / "out", "--domains", "svhn") == 0, "the set itself is fine"
    for order in (["cifar10", "svhn"], ["svhn", "cifar10"]):
        capsys.readouterr()
        assert shift(tmp_path / "out", "--domains", *order) == 2
        assert "classes" in capsys.readouterr().err


def test_images_without_a_row_are_attacked_no_longer_than_is_asked(tmp_path, attack):
    both, fresh = tmp_path / "both", tmp_path / "fresh"
    assert attack(both, "-n", "4", "--budgets", "60") == 0
    assert attack(both, "-n", "20", "--budgets", "1", "10") == 0
    assert attack(fresh, "-n", "20", "--budgets", "1", "10") == 0
    short, long = sorted(Store(both).all(), key=lambda rows: rows.evaluation.budget)
    assert (short.evaluation.budget, len(short.ids), long.evaluation.budget, len(long.ids)) == (10, 16, 60, 4)
    assert short.frame()["queries"].max() <= 21 < long.frame()["queries"].max()
    tables = [pd.read_csv(out / "attack.csv").query("n == 20 and budget <= 10") for out in (both, fresh)]
    assert len(tables[0]) == 6
    same = [column for column in tables[0] if column != "attack"]  # which tells the two lengths apart
    pd.testing.assert_frame_equal(*(table[same].reset_index(drop=True) for table in tables))


def test_a_longer_run_answers_a_shorter_one_without_a_new_row(tmp_path, attack, monkeypatch):
    assert attack(tmp_path, "--budgets", "60") == 0

    def never(*_, **__):
        raise AssertionError("nothing is left to be attacked")

    monkeypatch.setattr(bench.running.attacking, "attack_images", never)
    assert attack(tmp_path, "-n", "7", "--budgets", "5", "10") == 0
    (rows,) = Store(tmp_path).all()
    assert rows.facts.budgets == (5, 10, 60) and len(rows.ids) == 30
    assert sorted(set(pd.read_csv(tmp_path / "attack.csv")["budget"])) == [0, 5, 10, 60]


@pytest.mark.parametrize("command", ["attack", "shift"])
def test_a_command_that_computes_nothing_leaves_no_trace_of_its_machine(tmp_path, command, attack, shift, monkeypatch):
    run = {"attack": lambda *more: attack(tmp_path, "--budgets", "5", *more),
           "shift": lambda *more: shift(tmp_path, "--domains", "cifar10", *more)}[command]

    def on(machine):
        monkeypatch.setattr("bench.running.prepare.provenance", lambda device: {"machine": machine})

    on("a")
    assert run("-n", "10") == 0
    on("b")
    assert run("-n", "10") == 0
    (rows,) = Store(tmp_path).all()
    assert rows.facts.provenance == ({"machine": "a"},)
    on("c")
    assert run("-n", "20") == 0
    assert Store(tmp_path).all()[0].facts.provenance == ({"machine": "a"}, {"machine": "c"})


@pytest.mark.parametrize("more", [["--baseline", "nobody"], ["--log", "nowhere"]])
@pytest.mark.parametrize("command", ["attack", "shift"])
def test_what_the_report_would_refuse_is_refused_before_anything_is_computed(tmp_path, command, more, attack, shift,
                                                                             capsys):
    out = tmp_path / "out"
    run = {"attack": lambda: attack(out, *more), "shift": lambda: shift(out, "--domains", "cifar10", *more)}[command]
    assert run() == 2
    assert more[1] in capsys.readouterr().err and not list(out.rglob("*.parquet"))


def test_a_second_name_for_the_same_images_is_said(tmp_path, shift, data_root, capsys):
    mine, copy = tmp_path / "mine", tmp_path / "copy"
    shutil.copytree(data_root / "cifar10" / "test", mine)
    shutil.copytree(mine, copy)
    assert shift(tmp_path / "out", "--domains", f"folder:{mine}", f"folder:{copy}") == 0
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning:")]
    assert any(f"folder:{copy}" in line and f"folder:{mine}" in line for line in said)


def test_two_sets_of_one_name_are_refused():
    def made(value):
        return Domain("mine", "mine", ("a", "b"), np.full((2, 4, 4, 3), value, np.uint8), np.array([0, 1]))

    def listed(*domains):
        return bench.running.cells.list_cells(domains, None, None, (1,), None, 0)

    assert len(listed(made(1), made(1))) == 1, "the same images twice"
    with pytest.raises(InputError, match="called mine"):
        listed(made(1), made(2))
    with pytest.raises(InputError, match="called samples"):
        listed(replace(made(1), name="samples"), "samples-c/fog/1")


def test_a_set_is_found_where_its_loader_finds_it(data_root):
    shutil.copytree(data_root / "cifar10" / "test", data_root / "cinic10" / "test")
    for number, path in enumerate(sorted((data_root / "cinic10" / "test").rglob("*.png"))):
        path.rename(path.with_name(f"n0000000{number % 10}_{number}.png"))
    names = [domain if isinstance(domain, str) else domain.name
             for domain in bench.running.cells.default_domains(data_root)]
    assert names == ["cifar10", "cifar10-c", "cinic10"]


def test_a_model_that_writes_into_its_images_changes_nothing(tmp_path, model_file, data_root):
    model_file.write_text(model_file.read_text() + (
        "class Careless(nn.Module):\n"
        "    def __init__(self, spoil):\n"
        "        super().__init__()\n"
        "        self.inner, self.spoil = linear(), spoil\n"
        "    def forward(self, x):\n"
        "        logits = self.inner(x)\n"
        "        if self.spoil: x.sub_(0.5).mul_(4)\n"
        "        return logits\n"
        "def careful(): return Careless(False)\n"
        "def careless(): return Careless(True)\n"))
    for basis in ("pixel", "dct"):
        for name in ("careful", "careless"):
            assert main(["attack", "--models", f"python:{model_file}:{name}", "--data-root", str(data_root), "--out",
                         str(tmp_path / name), "--threads", "1", "--budgets", "30", "--basis", basis,
                         "--targeted"]) == 0
    careful, careless = ([rows.frame() for rows in Store(tmp_path / name).all()] for name in ("careful", "careless"))
    assert len(careful) == 2 and all(frame["queries"].mean() > 30 for frame in careful)
    for a, b in zip(careful, careless, strict=True):
        pd.testing.assert_frame_equal(a, b, check_exact=True)


def test_an_edited_attack_is_told_from_the_one_before(tmp_path, attack):
    file = tmp_path / "mine.py"
    for step in (0.1, 0.3):
        file.write_text(f"def push(model, images, labels, *, epsilon, budget, generator):\n"
                        f"    for k in range(budget): model((images + {step} * (k + 1)).clamp(0, 1))\n")
        arguments = ["--attack", f"python:{file}:push", "--budgets", "3"]
        assert main(["attack", "--models", "baseline", "--domain", "samples", "-n", "4", "--out", str(tmp_path / "out"),
                     "--threads", "1", *arguments]) == 0
    table = pd.read_csv(tmp_path / "out" / "attack.csv")
    assert not table.duplicated(["model", "domain", "attack", "unit", "budget"]).any()
    assert table["attack"].nunique() == 2


def test_a_run_without_a_row_leaves_no_trace_of_its_machine(tmp_path, attack, monkeypatch):
    monkeypatch.setattr("bench.running.prepare.provenance", lambda device: {"machine": "a"})
    assert attack(tmp_path, "--budgets", "5", "-n", "10") == 0
    monkeypatch.setattr("bench.running.prepare.provenance", lambda device: {"machine": "b"})
    real = bench.running.attacking.attack_images

    def fails(rows, attack, predict, *more, **options):
        def broken(x):
            raise KeyboardInterrupt
        real(rows, attack, broken, *more, **options)

    monkeypatch.setattr(bench.running.attacking, "attack_images", fails)
    assert attack(tmp_path, "--budgets", "5", "-n", "20") == 130
    (rows,) = Store(tmp_path).all()
    assert rows.facts.provenance == ({"machine": "a"},) and len(rows.ids) == 10
