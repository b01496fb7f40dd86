from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from bench.analysis.attack_tables import ATTACK_COLUMNS
from bench.rows.store import Store
from bench.run import main


def attack(out, model_file, *more, model="linear"):
    return main(["attack", "--models", f"python:{model_file}:{model}", "--out", str(out), "--threads", "1",
                 "--budgets", "1", "10", "60", *more])


def rows(out):
    return [stored.frame().drop(columns="steps").assign(steps=stored.frame()["steps"].map(bytes.hex))
            for stored in Store(out).all()]


def same(a, b):
    for x, y in zip(rows(a), rows(b), strict=True):
        pd.testing.assert_frame_equal(x, y, check_exact=True)


def test_samples_from_nothing(tmp_path, model_file, capsys):
    out = tmp_path / "out"
    assert attack(out, model_file) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("data: CIFAR-10 test sample (20 lossless images shipped by foolbox), n = 20; ")
    assert "--data-root" in printed[0]
    table = pd.read_csv(out / "attack.csv")
    assert list(table.columns) == ATTACK_COLUMNS
    assert table["budget"].tolist() == [0, 1, 10, 60] * 2
    iterations = table[table.unit == "iterations"]
    assert iterations["asr"].is_monotonic_increasing and iterations["asr"].iloc[0] == 0
    assert iterations["asr"].iloc[-1] > 0
    assert (table["n"] == 20).all() and table["n_correct"].between(1, 19).all()
    page = (out / "report" / "index.html").read_text()
    assert "factories:linear" in page and page.count("<svg") == 4
    drawn = re.findall(r'<figure id="([^"]+)"', page)
    assert sorted(drawn) == ["asr-iterations", "asr-queries", "attacked-images-factories-linear-simba-pixel", "classes"]
    assert [path.name for path in (out / "report").iterdir()] == ["index.html"]
    (stored,) = Store(out).all()
    assert {"torch", "commit", "processor"} <= set(stored.facts.provenance[0])
    assert stored.facts.predictor in ("fused", "eager")


def test_a_call_prints_its_own_results_and_counts_those_of_others(tmp_path, model_file, capsys):
    def printed(*more):
        assert attack(tmp_path / "out", model_file, "--quiet", *more) == 0
        lines = capsys.readouterr().out.splitlines()
        return [line for line in lines if "ASR over" in line], [line for line in lines if "more in the report" in line]

    first, none = printed()
    assert len(first) == 1 and not none
    second, more = printed("--seed", "1")
    assert len(second) == 1 and "-s1 on" in second[0] and more[0].startswith("1 ")
    assert printed() == (first, more), "rows that were there"
    assert printed("--budgets", "1", "5")[0] == first, "rows of a longer run"
    both, _ = printed("--seeds", "0", "1", "2")
    assert len(both) == 3


def test_a_second_call_adds_and_redoes_nothing(tmp_path, model_file, data_root, capsys, monkeypatch):
    out, root = tmp_path / "out", ["--data-root", str(data_root)]
    assert attack(out, model_file, *root, "-n", "10") == 0
    assert "CIFAR-10 test (lossless class folders), partial: 30 of 10000 images, n = 10" in capsys.readouterr().out
    (first,) = rows(out)
    assert attack(out, model_file, *root, "-n", "20") == 0
    (second,) = rows(out)
    pd.testing.assert_frame_equal(second[second["example"].isin(first["example"])].reset_index(drop=True), first)
    assert len(second) == 20 and set(np.bincount(second["label"])) == {2}, "the order is nested and balanced"

    def never(*_, **__):
        raise AssertionError("nothing is left to be attacked")

    monkeypatch.setattr("bench.running.attacking.attack_images", never)
    assert attack(out, model_file, *root, "-n", "20") == 0
    assert main(["attack", "--models", f"python:{model_file}:linear", "--out", str(out), *root, "-n", "15",
                 "--budgets", "5"]) == 0
    assert pd.read_csv(out / "attack.csv").query("unit == 'iterations'")["budget"].tolist() == [0, 1, 5, 10, 60]


def test_two_models_are_compared_on_the_same_images(tmp_path, model_file, data_root):
    out = tmp_path / "out"
    root = ["--data-root", str(data_root)]
    assert attack(out, model_file, *root) == 0
    assert attack(out, model_file, *root, model="other") == 0
    paired = pd.read_csv(out / "paired.csv")
    assert paired[paired.metric == "robust_accuracy"]["n"].tolist() == [30] * 3
    assert "Models compared under attack, on the same images" in (out / "report" / "index.html").read_text()


@pytest.mark.parametrize("basis", ["pixel", "dct"])
def test_batches_shards_and_threads_give_the_same_rows(tmp_path, model_file, data_root, basis):
    more = ["--data-root", str(data_root), "--basis", basis]
    whole = tmp_path / "whole"
    assert attack(whole, model_file, *more) == 0
    for size, threads in (("1", "1"), ("7", "2")):
        assert attack(tmp_path / size, model_file, *more, "--batch-size", size, "--threads", threads) == 0
        same(whole, tmp_path / size)
    for shard in ("1/2", "2/2"):
        assert attack(tmp_path / f"s{shard[0]}", model_file, *more, "--shard", shard) == 0
    assert main(["report", str(tmp_path / "joined"), str(tmp_path / "s1"), str(tmp_path / "s2")]) == 0
    same(whole, tmp_path / "joined")
    pd.testing.assert_frame_equal(*(pd.read_csv(tmp_path / d / "attack.csv") for d in ("whole", "joined")))


def test_killed_and_resumed_gives_the_same_rows(tmp_path, model_file, data_root):
    """The process gets SIGKILL as soon as some rows are on disk: nothing can be tidied up."""
    more = ["--data-root", str(data_root), "--batch-size", "4"]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert attack(whole, model_file, *more) == 0
    script = ("import sys, time, bench.rows.parts, bench.running.evaluate as e; bench.rows.parts._WRITE_EVERY = 0\n"
              "real = e.columns\n"
              "def slow(done):\n"
              "    time.sleep(0.1)\n"
              "    return real(done)\n"
              "e.columns = slow\n"
              "from bench.run import main; sys.exit(main(sys.argv[1:]))\n")
    command = [sys.executable, "-c", script, "attack", "--models", f"python:{model_file}:linear", "--out", str(cut),
               "--threads", "1", "--budgets", "1", "10", "60", *more]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if sum(pq.read_metadata(p).num_rows for p in (cut / "examples").rglob("*.parquet")) >= 3:
            break
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    (partial,) = rows(cut)
    assert 0 < len(partial) < 30
    assert attack(cut, model_file, *more) == 0
    same(whole, cut)
    (kept,), (resumed,) = (list((out / "examples").rglob("pictures-*")) for out in (whole, cut))
    assert kept.read_bytes() == resumed.read_bytes(), "images, confidences and margins' paths"
    (whole_csv, cut_csv) = (pd.read_csv(d / "attack.csv") for d in (whole, cut))
    pd.testing.assert_frame_equal(whole_csv, cut_csv)


def test_interrupted_by_the_user_keeps_what_is_finished(tmp_path, model_file, data_root, capsys, monkeypatch):
    import bench.running.progress

    real = bench.running.progress.AttackProgress.update

    def interrupt(self, done):
        real(self, done)
        raise KeyboardInterrupt

    monkeypatch.setattr(bench.running.progress.AttackProgress, "update", interrupt)
    out = tmp_path / "out"
    assert attack(out, model_file, "--data-root", str(data_root)) == 130
    assert "the same command resumes" in capsys.readouterr().err
    assert len(rows(out)[0]) >= 1


def test_probabilities_are_warned_of(tmp_path, model_file, capsys):
    out = tmp_path / "out"
    assert attack(out, model_file, model="probabilities") == 0
    captured = capsys.readouterr()
    assert "probabilities, not logits" in captured.out + captured.err
    assert "probabilities, not logits" in (out / "report" / "index.html").read_text()


def test_more_shards_than_images(tmp_path, model_file, capsys):
    parts = [tmp_path / f"part {i}" for i in (1, 2, 3)]
    for i, part in enumerate(parts, 1):
        assert attack(part, model_file, "-n", "2", "--shard", f"{i}/3") == 0
        printed = capsys.readouterr().out
        assert ("nothing to do: shard 3/3 has none of the 2 images" in printed) == (i == 3)
        assert (f"(bench browse '{part}')" in printed) == (i != 3), "a path that a shell takes as one word"
    assert main(["report", str(tmp_path / "all"), *map(str, parts)]) == 0
    (joined,) = rows(tmp_path / "all")
    assert len(joined) == 2
