from __future__ import annotations

import csv
import dataclasses

import numpy as np
import pytest
import torch

from framebench.errors import InputError
from models.train import Recipe, Trainer, split

RECIPE = Recipe(arch="resnet20", width=4, epochs=3, batch_size=20, lr=0.1, validation=20, pad=1)


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    labels = np.arange(120) % 4
    images = (rng.integers(0, 60, (120, 16, 16, 3)) + 60 * labels[:, None, None, None]).astype(np.uint8)
    return images, labels.astype(np.int64)


def _trainer(data, folder, recipe=RECIPE):
    return Trainer(*data, 4, recipe, folder, torch.device("cpu"), "digest")


def _equal(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_learns_and_keeps_a_log(data, tmp_path):
    trainer = _trainer(data, tmp_path, dataclasses.replace(RECIPE, epochs=8))
    model = trainer.run(progress=False)
    assert not model.training
    assert trainer.log[-1]["validation_accuracy"] >= 0.9
    with open(tmp_path / "log.csv") as log:
        rows = list(csv.DictReader(log))
    assert [int(row["epoch"]) for row in rows] == list(range(1, 9))
    rates = [float(row["lr"]) for row in rows]
    assert max(rates) == pytest.approx(0.1, rel=0.15) and rates[-1] < 0.01


def test_killed_in_an_epoch_and_resumed_gives_the_same_weights(data, tmp_path, monkeypatch):
    whole = _trainer(data, tmp_path / "whole").run(progress=False)
    steps = 0
    real = torch.optim.SGD.step

    def dying(self, *args, **kwargs):
        nonlocal steps
        steps += 1
        if steps == 8:  # in the middle of the second epoch of five steps
            raise KeyboardInterrupt
        return real(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.SGD, "step", dying)
    with pytest.raises(KeyboardInterrupt):
        _trainer(data, tmp_path / "cut").run(progress=False)
    resumed = _trainer(data, tmp_path / "cut")
    assert resumed.epoch == 1
    assert _equal(resumed.run(progress=False), whole)
    assert _equal(_trainer(data, tmp_path / "cut").run(progress=False), whole), "a finished run changes nothing"


def test_the_seed_matters(data, tmp_path):
    first = _trainer(data, tmp_path / "0").run(progress=False)
    other = _trainer(data, tmp_path / "1", dataclasses.replace(RECIPE, seed=1)).run(progress=False)
    assert not _equal(first, other)


def test_another_recipe_or_damaged_state_is_refused(data, tmp_path):
    _trainer(data, tmp_path, dataclasses.replace(RECIPE, epochs=1)).run(progress=False)
    with pytest.raises(InputError, match="holds a run with another epochs, lr; choose another --name"):
        _trainer(data, tmp_path, dataclasses.replace(RECIPE, lr=0.2))
    (tmp_path / "state.pt").write_bytes((tmp_path / "state.pt").read_bytes()[:500])
    with pytest.raises(InputError, match="can't be read"):
        _trainer(data, tmp_path, dataclasses.replace(RECIPE, epochs=1))


def test_a_loss_that_is_not_finite_stops_the_run(data, tmp_path):
    with pytest.raises(InputError, match="loss is not finite in epoch"):
        _trainer(data, tmp_path, dataclasses.replace(RECIPE, lr=1e30)).run(progress=False)


@pytest.mark.parametrize("options", [{"epochs": 0}, {"lr": -1.0}, {"lr": float("nan")}, {"warmup": 1.0},
                                     {"weight_decay": -1e-4}, {"batch_size": 0}, {"label_smoothing": 1.5}])
def test_bad_recipes_are_refused(options):
    with pytest.raises(InputError, match=next(iter(options)).replace("_", " ").replace("lr", "learning rate")):
        Recipe(**options)


def test_too_large_a_batch_or_validation_is_refused(data, tmp_path):
    with pytest.raises(InputError, match="batch of 101 is more than the 100"):
        _trainer(data, tmp_path, dataclasses.replace(RECIPE, batch_size=101))
    with pytest.raises(InputError, match="can't hold 61 of 120"):
        split(data[1], 61)


def test_the_split_is_balanced_and_disjoint():
    labels = np.repeat(np.arange(10), 50)
    training, held_out = split(labels, 25)
    assert len(held_out) == 25 and not set(training) & set(held_out) and len(training) == 475
    assert set(np.bincount(labels[held_out])) == {2, 3}
