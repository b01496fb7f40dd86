"""Attacked images that are kept, and models asked what they say of them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch

import framebench
from bench.rows.adversarial import read
from bench.rows.store import Store
from bench.run import main
from bench.running import transferring
from framebench.domains import load_domain
from framebench.models.predictor import Predictor
from tests.bench.conftest import attack, table


def test_saved_images_are_the_rows_and_transfer(tmp_path, model_file, capsys):
    out = tmp_path / "out"
    assert attack(out, model_file, "--budgets", "60", "-n", "12", "--save-adversarial") == 0
    assert attack(out, model_file, "--budgets", "60", "--save-adversarial", "--batch-size", "7") == 0
    (path,), (rows,) = (out / "adversarial").iterdir(), Store(out).all()
    saved, frame = read(path), rows.frame()
    assert saved.images.shape == (20, 3, 32, 32) and saved.origin.model == "factories:linear"
    assert saved.ids.tolist() == frame["example"].tolist() and saved.labels.tolist() == frame["label"].tolist()
    clean, _ = load_domain("samples", None).load(saved.ids)
    np.testing.assert_allclose((saved.images - clean).flatten(1).norm(dim=1), frame["l2"], atol=1e-5)
    capsys.readouterr()
    assert attack(out, model_file, "--transfer-from", str(path), models=("linear", "other", "service")) == 0
    assert "factories:linear (simba-pixel) -> factories:other: " in capsys.readouterr().out
    transfers = pd.read_csv(out / "transfer.csv").set_index("target")
    broken = (frame["success_iteration"] > 0).sum()
    own = transfers.loc["factories:linear"]
    assert (own["successes"], own["n_correct"]) == (broken, (frame["success_iteration"] != 0).sum())
    # other has half the weights of the same seed, so it gives every image the same class as linear.
    for column in ("n_correct", "successes", "asr", "clean_accuracy", "attacked_accuracy"):
        assert transfers[column].nunique() == 1, column
    page = (out / "report" / "index.html").read_text()
    assert "factories:service" in page, "the report has them too"
    assert attack(out, model_file, "--transfer-from", str(path)) == 0
    assert len(pd.read_csv(out / "transfer.csv")) == 3, "the same pair is replaced"


def test_shards_are_joined_with_their_images_and_transfers(tmp_path, model_file):
    options = ["--budgets", "60", "--save-adversarial"]
    assert attack(tmp_path / "whole", model_file, *options) == 0
    (want,) = (tmp_path / "whole" / "adversarial").iterdir()
    for part in ("1", "2"):
        out = tmp_path / part
        assert attack(out, model_file, *options, "--l2", f"0.{part}", "--shard", f"{part}/2") == 0
        (path,) = (out / "adversarial").iterdir()
        assert attack(out, model_file, "--transfer-from", str(path), models=("linear", "other")[: int(part)]) == 0
    joined = tmp_path / "joined"
    assert main(["report", str(joined), str(tmp_path / "1"), str(tmp_path / "2")]) == 0
    (path,) = (joined / "adversarial").iterdir()
    saved, whole = read(path), read(want)
    assert torch.equal(saved.images, whole.images) and saved.ids.tolist() == whole.ids.tolist()
    assert saved.labels.tolist() == whole.labels.tolist()
    assert set(table(joined)["attack"]) == {"simba-pixel", "simba-pixel-L2cap0.1", "simba-pixel-L2cap0.2"}
    transfers = pd.read_csv(joined / "transfer.csv")
    assert transfers["target"].tolist() == ["factories:linear", "factories:other"]
    assert transfers["n"].tolist() == [10, 10], "the first part's entry stays where both have one"
    assert attack(joined, model_file, *options) == 0, "no image is missing"


def test_folders_of_one_evaluation_are_one_row(tmp_path, model_file):
    options = ["--budgets", "60", "--save-adversarial"]
    for name, shard in (("whole", []), ("1", ["--shard", "1/2"]), ("2", ["--shard", "2/2"])):
        assert attack(tmp_path / name, model_file, *options, *shard) == 0
    whole, *shards = (str(*(tmp_path / name / "adversarial").iterdir()) for name in ("whole", "1", "2"))
    found = {}
    for name, folders in (("whole", [whole]), ("shards", shards), ("overlapping", [shards[1], whole, whole])):
        assert attack(tmp_path / name, model_file, "--transfer-from", *folders, models=("linear", "other")) == 0
        found[name] = pd.read_csv(tmp_path / name / "transfer.csv")
        assert found[name]["n"].tolist() == [20, 20] and (found[name]["successes"] > 0).all()
    pd.testing.assert_frame_equal(found["shards"], found["whole"])
    pd.testing.assert_frame_equal(found["overlapping"], found["whole"])


def test_a_target_with_other_weights_is_another_target(tmp_path, model_file):
    out = tmp_path / "out"
    assert attack(out, model_file, "--budgets", "60", "--save-adversarial") == 0
    for seed in (0, 1, 1):  # the last time in the place of the one before
        torch.manual_seed(seed)
        target = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3072, 10))
        framebench.transfer(("target", target), transfer_from=(out / "adversarial").iterdir(), out=out)
    transfers = pd.read_csv(out / "transfer.csv")
    assert transfers["target"].tolist() == ["target"] * 2 and transfers["target_digest"].nunique() == 2
    page = (out / "report" / "index.html").read_text()
    assert all(f"target #{digest[:6]}" in page for digest in transfers["target_digest"])


def test_runs_of_two_lengths_have_an_entry_each(tmp_path, model_file):
    out = tmp_path / "out"
    for budget in ("3", "60"):
        assert attack(out, model_file, "--budgets", budget, "--save-adversarial") == 0
    files = [str(path) for path in (out / "adversarial").iterdir()]
    for _ in range(2):  # the second time in the place of the first
        assert attack(out, model_file, "--transfer-from", *files, models=("linear", "other")) == 0
        transfers = pd.read_csv(out / "transfer.csv")
        assert transfers.groupby("target")["budget"].apply(sorted).tolist() == [[3, 60], [3, 60]]
    own = transfers[transfers["target"] == "factories:linear"].set_index("budget")
    assert own.loc[3, "successes"] < own.loc[60, "successes"]


def test_a_transfer_makes_a_model_ready_once(tmp_path, model_file, capsys, monkeypatch):
    more = ["--budgets", "3", "-n", "4", "--save-adversarial", "--epsilon", "0.2", "0.4"]
    assert attack(tmp_path / "from", model_file, *more) == 0
    files = [str(path) for path in (tmp_path / "from" / "adversarial").iterdir()]
    made, real = [], Predictor.__init__

    def counting(self, model, *given, **options):
        made.append(model)
        real(self, model, *given, **options)

    monkeypatch.setattr(Predictor, "__init__", counting)
    transfer = ["--transfer-from", *files]
    assert attack(tmp_path / "to", model_file, *transfer, models=("linear", "other")) == 0
    assert len(made) == 2 and len(pd.read_csv(tmp_path / "to" / "transfer.csv")) == 4
    assert not (tmp_path / "to" / "report").exists(), "there are no results to be reported"

    before = (tmp_path / "to" / "transfer.csv").read_bytes()
    with Store(tmp_path / "to").lock():
        assert attack(tmp_path / "to", model_file, *transfer) == 2
    assert "another run is writing" in capsys.readouterr().err
    assert attack(tmp_path / "to", model_file, *transfer, models=("linear", "linear")) == 2
    assert "two models have the same name factories:linear" in capsys.readouterr().err
    assert attack(tmp_path / "to", model_file, *transfer, models=("other", "five")) == 2
    assert (tmp_path / "to" / "transfer.csv").read_bytes() == before


@pytest.mark.parametrize("change", [
    lambda saved: dataclasses.replace(saved, ids=saved.ids + 10**6),
    lambda saved: dataclasses.replace(saved, labels=(saved.labels + 1) % 10),
    lambda saved: dataclasses.replace(saved, labels=saved.labels + 70),
    lambda saved: dataclasses.replace(saved, images=saved.images[:, :1]),
    lambda saved: dataclasses.replace(saved, images=saved.images[:, :, :16, :16])])
def test_saved_images_that_are_not_the_domains_are_refused(tmp_path, model_file, capsys, monkeypatch, change):
    out = tmp_path / "out"
    assert attack(out, model_file, "--budgets", "3", "-n", "4", "--save-adversarial") == 0
    (path,) = (out / "adversarial").iterdir()
    monkeypatch.setattr(transferring, "read", lambda folder: change(read(folder)))
    assert attack(out, model_file, "--transfer-from", str(path)) == 2
    assert str(path) in capsys.readouterr().err and not (out / "transfer.csv").exists()


def test_images_that_were_not_kept_are_missed(tmp_path, model_file, capsys):
    assert attack(tmp_path, model_file, "--budgets", "3") == 0
    assert attack(tmp_path, model_file, "--budgets", "3", "--save-adversarial") == 2
    assert "20 rows of factories:linear have no attacked image" in capsys.readouterr().err


def test_a_damaged_table_is_refused_and_left(tmp_path, model_file, capsys):
    assert attack(tmp_path / "out", model_file, "--budgets", "3", "-n", "4", "--save-adversarial") == 0
    (path,) = (tmp_path / "out" / "adversarial").iterdir()
    assert attack(tmp_path / "out", model_file, "--transfer-from", str(path)) == 0
    (table,) = (tmp_path / "out" / "kept").glob("transfer-*")
    good = table.read_bytes()
    for damage in (b"", good[:-1], good.replace(b"0", b"1", 1)):
        table.write_bytes(damage)
        capsys.readouterr()
        for command in (["report", str(tmp_path / "out")], ["report", str(tmp_path / "joined"), str(tmp_path / "out")]):
            assert main(command) == 2
            assert f"{table} is damaged" in capsys.readouterr().err
        assert attack(tmp_path / "out", model_file, "--transfer-from", str(path)) == 2
        assert table.read_bytes() == damage and not list((tmp_path / "joined").rglob("*.parquet"))
    table.unlink()
    assert attack(tmp_path / "out", model_file, "--transfer-from", str(path)) == 0
    assert len(pd.read_csv(tmp_path / "out" / "transfer.csv")) == 1
