from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from bench.analysis.shift_tables import SHIFT_COLUMNS
from bench.rows.store import Store
from bench.run import main
from framebench.attacks.registry import make

SMALL = ["--corruptions", "fog", "contrast", "spatter", "--severities", "1", "5"]


def shift(out, model_file, *more, models=("linear",)):
    return main(["shift", "--models", *(f"python:{model_file}:{name}" for name in models), "--out", str(out),
                 "--threads", "1", *more])


def rows(out):
    return {rows.folder.name: rows.frame() for rows in Store(out).all()}


def same(a, b):
    first, second = rows(a), rows(b)
    assert first.keys() == second.keys()
    for name in first:
        pd.testing.assert_frame_equal(first[name], second[name], check_exact=True)


def test_bare_on_the_samples(tmp_path, model_file, capsys):
    out = tmp_path / "out"
    assert shift(out, model_file) == 0
    printed, bar = capsys.readouterr()
    assert printed.startswith("data: CIFAR-10 test sample (20 lossless images shipped by foolbox); for the full set")
    assert bar.count("image/s") < 20  # no terminal: not a line for each of the 96 cells
    table = pd.read_csv(out / "shift.csv", keep_default_na=False)
    assert list(table.columns) == SHIFT_COLUMNS and len(table) == 1 + 19 * 5
    assert (table["n"] == 20).all() and table["accuracy"].astype(float).between(0, 1).all()
    summary = pd.read_csv(out / "shift_summary.csv").set_index(["domain", "part"])
    assert summary.loc[("samples-c", "benchmark"), "cells"] == 75
    assert summary.loc[("samples-c", "extras"), "cells"] == 20
    own = table[(table.domain == "samples-c") & ~table.corruption.isin(
        ["speckle_noise", "gaussian_blur", "spatter", "saturate"])]
    assert summary.loc[("samples-c", "benchmark"), "accuracy"] == pytest.approx(own["accuracy"].astype(float).mean())
    page = (out / "report" / "index.html").read_text()
    assert page.count("<svg") == 3 and page.count("iVBORw0KGgo") >= 96 and "Domain shift" in page, "a PNG per cell"


def test_the_data_root_decides_and_a_second_call_redoes_nothing(tmp_path, model_file, data_root, capsys, monkeypatch):
    out, root = tmp_path / "out", ["--data-root", str(data_root), *SMALL]
    assert shift(out, model_file, *root, "-n", "10") == 0
    assert "CIFAR-10-C generated from CIFAR-10 test (lossless class folders)" in capsys.readouterr().out
    before = rows(out)
    assert shift(out, model_file, *root) == 0
    after = rows(out)
    assert before.keys() == after.keys() and len(after) == 7
    for name, frame in before.items():
        whole = after[name]
        pd.testing.assert_frame_equal(whole[whole["example"].isin(frame["example"])].reset_index(drop=True), frame)
    monkeypatch.setattr("bench.running.evaluate.classify", lambda *_, **__: pytest.fail("nothing is left"))
    assert shift(out, model_file, *root) == 0


def test_a_kept_set_gives_the_same_rows_as_one_made_on_the_fly(tmp_path, model_file, data_root, monkeypatch, capsys):
    root = ["--data-root", str(data_root), *SMALL]
    assert shift(tmp_path / "fly", model_file, *root, "-n", "30") == 0
    monkeypatch.setattr("bench.running.cells.KEEP_FROM", 5)
    assert shift(tmp_path / "kept", model_file, *root, "--batch-size", "7") == 0
    assert "making 6 cells" in capsys.readouterr().out
    same(tmp_path / "fly", tmp_path / "kept")


def test_models_are_compared_and_a_later_model_is_added(tmp_path, model_file, data_root):
    out, root = tmp_path / "out", ["--data-root", str(data_root), *SMALL]
    assert shift(out, model_file, *root, models=("linear", "other"), ) == 0
    paired = pd.read_csv(out / "shift_paired.csv")
    assert set(paired["part"]) == {"all", "benchmark", "extras"} and (paired["n"] == 30).all()
    assert "Models compared under shift" in (out / "report" / "index.html").read_text()
    assert shift(out, model_file, *root, "--baseline", "factories:linear") == 0
    summary = pd.read_csv(out / "shift_summary.csv").query("part == 'benchmark'").set_index("model")
    assert set(summary.index) == {"factories:linear", "factories:other"}
    assert summary.loc["factories:linear", "mce"] == 1


def test_attack_and_shift_share_a_folder_and_a_report(tmp_path, model_file, capsys):
    out = tmp_path / "out"
    assert main(["attack", "--models", f"python:{model_file}:linear", "--out", str(out), "--budgets", "5",
                 "--threads", "1"]) == 0
    assert shift(out, model_file, *SMALL) == 0
    page = (out / "report" / "index.html").read_text()
    assert "Black-box attack, domain shift" in page and "ASR at 5" in page and "Accuracy loss under shift" in page
    assert len(pd.read_csv(out / "attack.csv")) == 4 and len(pd.read_csv(out / "shift.csv")) == 7
    tables = {path: path.read_bytes() for path in out.glob("*.csv")}
    assert main(["report", str(out)]) == 0
    assert {path: path.read_bytes() for path in out.glob("*.csv")} == tables


def test_a_folder_of_the_users_own(tmp_path, model_file, data_root):
    for name in ("airplane", "automobile", "bird", "cat", "deer", "dog", "horse"):
        for path in (data_root / "cifar10" / "test" / name).iterdir():
            path.unlink()
        (data_root / "cifar10" / "test" / name).rmdir()
    own = data_root / "cifar10" / "test"
    out = tmp_path / "out"
    assert shift(out, model_file, "--domains", f"folder:{own}") == 0
    ((_, frame),) = rows(out).items()
    assert frame["label"].tolist() == [6] * 3 + [8] * 3 + [9] * 3


def test_edited_weights_and_other_seeds_are_told_apart_not_averaged(tmp_path, model_file, data_root):
    out, root = tmp_path / "out", ["--data-root", str(data_root), "--corruptions", "fog", "--severities", "1"]
    assert shift(out, model_file, *root) == 0
    first = pd.read_csv(out / "shift.csv")
    model_file.write_text(model_file.read_text().replace("manual_seed(20)", "manual_seed(21)"))
    assert shift(out, model_file, *root) == 0
    table = pd.read_csv(out / "shift.csv")
    assert table["model"].str.fullmatch(r"factories:linear #[0-9a-f]{6}").all() and table["model"].nunique() == 2
    assert len(table) == 4 and set(first["accuracy"]) <= set(table["accuracy"])
    assert shift(out, model_file, *root, "--seed", "1") == 0
    summary = pd.read_csv(out / "shift_summary.csv").query("part == 'benchmark'")
    assert summary["domain"].str.fullmatch(r"cifar10-c #[0-9a-f]{6}").all() and (summary["cells"] == 1).all()
    assert pd.read_csv(out / "shift_paired.csv")["domain"].nunique() == 2, "the edited model was run at seed 1 alone"


def test_the_baseline_comes_from_the_command_and_nothing_is_remembered(tmp_path, model_file):
    out = tmp_path / "out"
    other = ["--baseline", "factories:other"]
    assert shift(out, model_file, *SMALL, models=("linear", "other")) == 0
    bare = (out / "shift_summary.csv").read_bytes()
    assert shift(out, model_file, *SMALL, *other, models=("linear", "other")) == 0
    divided, page = (out / "shift_summary.csv").read_bytes(), (out / "report" / "index.html").read_text()
    assert divided != bare and "bench shift" in page and "--baseline factories:other" in page, "it says so"
    assert main(["report", str(out)]) == 0
    assert (out / "shift_summary.csv").read_bytes() == bare
    assert main(["report", str(out), *other]) == 0
    assert (out / "shift_summary.csv").read_bytes() == divided
    assert not (out / "report" / "settings.json").exists()


def test_a_single_cell_is_one_of_its_set(tmp_path, model_file):
    out = tmp_path / "out"
    assert shift(out, model_file, "--domains", "samples-c/fog/3", "samples-c/contrast/5") == 0
    table = pd.read_csv(out / "shift.csv", keep_default_na=False)
    assert list(zip(table["domain"], table["corruption"], table["severity"], strict=True)) == [
        ("samples", "", 0), ("samples-c", "fog", 3), ("samples-c", "contrast", 5)]
    assert pd.read_csv(out / "shift_summary.csv").query("domain == 'samples-c'")["gap"].notna().all()


def test_a_set_that_nobody_named_and_can_not_be_read_is_left_out(tmp_path, model_file, data_root, capsys):
    (data_root / "CIFAR-10.1").mkdir()
    for part in ("data", "labels"):
        (data_root / "CIFAR-10.1" / f"cifar10.1_v6_{part}.npy").write_bytes(b"no array")
    assert shift(tmp_path / "out", model_file, "--data-root", str(data_root), *SMALL) == 0
    assert "warning: cifar10.1 is left out: " in capsys.readouterr().out


def test_training_images_among_them_are_named_and_flagged(tmp_path, model_file, data_root, capsys):
    rng = np.random.default_rng(1)
    for path in (data_root / "cifar10" / "test").rglob("*.png"):  # else they are the training images, but brighter
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8)).save(path)
    for name in ("bird", "cat"):
        train = data_root / "cifar10" / "train" / name / "0003.png"
        (data_root / "cifar10" / "test" / name / "0001.png").write_bytes(train.read_bytes())
    out, root = tmp_path / "out", ["--data-root", str(data_root), "--corruptions", "fog", "--severities", "1"]
    assert shift(out, model_file, *root) == 0
    table = pd.read_csv(out / "duplicates.csv")
    assert table[["domain", "example", "train_example"]].values.tolist() == [["cifar10", 7, 27], ["cifar10", 10, 39]]
    assert table["exact"].all() and (table["similarity"] == 1).all() and not table["mirrored"].any()
    (frame,) = [rows.frame() for rows in Store(out).all() if not rows.evaluation.corruption]
    right = (frame["label"] == frame["prediction"])
    counts = "2 of 30 images of cifar10 (6.7%)"
    change = f"{100 * (right[~frame['example'].isin([7, 10])].mean() - right.mean()):+.1f} points"
    printed = capsys.readouterr().out
    assert counts in printed and change in printed
    assert shift(out, model_file, *root, "--domains", f"folder:{data_root / 'cifar10' / 'train'}") == 0
    table = pd.read_csv(out / "duplicates.csv")
    assert (table["domain"] == "cifar10").sum() == 2 and len(table) == 122
    page = (out / "report" / "index.html").read_text()
    assert counts in page and change in page and "no others are left" in page


def test_training_images_that_can_not_be_read_are_not_looked_for(tmp_path, model_file, data_root, capsys):
    (data_root / "cifar10" / "train" / "cat" / "0003.png").write_bytes(b"no image")
    out = tmp_path / "out"
    assert shift(out, model_file, "--data-root", str(data_root), *SMALL) == 0
    assert "the images are not checked for copies of training images: can't decode" in capsys.readouterr().out
    assert not (out / "duplicates.csv").exists()


def test_other_sets_are_loaded_once(tmp_path, model_file, data_root, monkeypatch):
    import bench.running.cells

    pixels = np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), np.uint8)
    (data_root / "CIFAR-10.1").mkdir()
    np.save(data_root / "CIFAR-10.1" / "cifar10.1_v6_data.npy", pixels)
    np.save(data_root / "CIFAR-10.1" / "cifar10.1_v6_labels.npy", np.arange(20) % 10)
    loaded = []
    real = bench.running.cells.load_domain
    monkeypatch.setattr("bench.running.cells.load_domain",
                        lambda name, *more: loaded.append(name) or real(name, *more))
    assert shift(tmp_path / "out", model_file, "--data-root", str(data_root), *SMALL) == 0
    assert loaded.count("cifar10.1") == 1 and loaded.count("cifar10") == 1
    assert "cifar10.1" in set(pd.read_csv(tmp_path / "out" / "shift.csv")["domain"])


def test_only_models_with_rows_to_make_are_prepared_and_all_before_the_first_row(tmp_path, model_file, monkeypatch):
    import bench.running.shifting

    out, prepared = tmp_path / "out", []
    real = bench.running.shifting.prepare
    monkeypatch.setattr("bench.running.shifting.prepare", lambda *a, **k: prepared.append(a[0]) or real(*a, **k))
    assert shift(out, model_file, *SMALL) == 0
    before = rows(out)
    assert shift(out, model_file, *SMALL, models=("linear", "other")) == 0
    assert shift(out, model_file, *SMALL, models=("linear", "other")) == 0
    assert len(prepared) == 2 and len(rows(out)) == 2 * len(before)
    assert shift(out, model_file, "--domains", "samples-c/snow/1", models=("linear", "broken")) == 2
    assert len(rows(out)) == 2 * len(before)


def test_the_form_of_a_model_is_that_of_its_rows_under_shift(tmp_path, model_file):
    few = ["--domains", "samples", "-n"]
    assert shift(tmp_path, model_file, *few, "5") == 0
    (first,) = Store(tmp_path).all()
    other = "eager" if first.facts.predictor == "fused" else "fused"
    attack = make("apgd", budget=1)
    attacked = Store(tmp_path).open(
        dataclasses.replace(first.evaluation, attack="apgd", settings=attack.settings, budget=1),
        dataclasses.replace(first.facts, predictor=other, traits=attack.traits, budgets=(1,)))
    attacked.join(first)
    attacked.flush()
    assert shift(tmp_path, model_file, *few, "10") == 0
    after = {rows.evaluation.attack: rows.facts.predictor for rows in Store(tmp_path).all()}
    assert after == {"none": first.facts.predictor, "apgd": other}


def test_the_same_images_under_two_names_have_one_row_each(tmp_path, model_file, data_root):
    out = tmp_path / "out"
    assert shift(out, model_file, "--data-root", str(data_root), "--domains", "cifar10",
                 f"folder:{data_root / 'cifar10' / 'test'}") == 0
    assert all(frame["example"].is_unique and len(frame) == 30 for frame in rows(out).values())


def test_killed_and_resumed_gives_the_same_rows(tmp_path, model_file, data_root):
    more = ["--data-root", str(data_root), *SMALL]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert shift(whole, model_file, *more) == 0
    script = ("import sys, time, bench.running.evaluate as s\n"
              "real = s.classify\n"
              "def slow(*a, **k):\n"
              "    real(*a, **k)\n"
              "    time.sleep(0.3)\n"
              "s.classify = slow\n"
              "from bench.run import main; sys.exit(main(sys.argv[1:]))\n")
    process = subprocess.Popen(
        [sys.executable, "-c", script, "shift", "--models", f"python:{model_file}:linear", "--out", str(cut),
         "--threads", "1", *more], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if len(list((cut / "examples").rglob("*.parquet"))) >= 2:
            break
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert 0 < len(rows(cut)) < 7
    assert shift(cut, model_file, *more) == 0
    same(whole, cut)


@pytest.mark.parametrize(("options", "message"), [
    (["--corruptions", "fogg"], "did you mean fog"),
    (["--severities", "0"], "--severities '0'; known: 1, 2, 3, 4, 5"),
    (["--severities", "2", "2"], "--severities 2 2: give each value once"),
    (["--domains", "cifar10-d"], "unknown domain 'cifar10-d'; did you mean cifar10"),
    (["--domains", "cifar10-c"], "needs --data-root"),
    (["--data-root", "{folder}"], "neither cifar-10-batches-py/ nor"),
    (["--domains", "folder:/no/such"], "/no/such"),
    (["--baseline", "other"], "factories:linear"),
    (["--match-clean", "{file}"], "is not a .safetensors file"),
    (["-n", "0"], "must be at least 1"),
    (["--models", "python:{file}:five"], "but the data have 10 classes"),
    (["--models", "python:{file}:broken"], "not finite"),
    (["--models", "python:{file}:linear", "python:{file}:linear"], "two models have the same name"),
    (["--models", "python:{file}:tuple_"], "the model factories:tuple_ returns tuple"),
    (["--models", "python:{file}:raising_later"], "(ValueError: only on weekdays)"),
    (["-n", "21"], "-n 21 is not possible: the largest set has 20 images"),
])
def test_bad_input(tmp_path, model_file, capsys, options, message):
    given = [option.format(file=model_file, folder=model_file.parent) for option in options]
    models = [] if "--models" in given else ["--models", f"python:{model_file}:linear"]
    code = main(["shift", *models, *given, "--out", str(tmp_path / "out")])
    captured = capsys.readouterr()
    errors = [line for line in captured.err.splitlines() if line.startswith("error: ")]
    assert code == 2 and len(errors) == 1 and message in errors[0], captured.err
    assert not list((tmp_path / "out").rglob("*.parquet")) and not (tmp_path / "out" / "shift.csv").exists()


def test_the_order_of_a_cell_is_that_of_its_clean_set(tmp_path, model_file, data_root):
    out = tmp_path / "out"
    assert shift(out, model_file, "--data-root", str(data_root), *SMALL, "-n", "10") == 0
    examples = [frame["example"].tolist() for frame in rows(out).values()]
    assert all(own == examples[0] for own in examples)
    assert set(np.bincount(next(iter(rows(out).values()))["label"])) == {1}
