from __future__ import annotations

import csv
import dataclasses

import numpy as np
import pytest
import torch

from framebench.errors import InputError
from models.recipe import Recipe
from models.regularizers import KINDS
from models.train import Trainer, split

RECIPE = Recipe(arch="resnet20", width=4, epochs=3, batch_size=20, lr=0.1, validation=20, pad=1)


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    labels = np.arange(120) % 4
    images = (rng.integers(0, 60, (120, 16, 16, 3)) + 60 * labels[:, None, None, None]).astype(np.uint8)
    return images, labels.astype(np.int64)


def _trainer(data, folder, recipe=RECIPE, **options):
    return Trainer(*data, 4, recipe, folder, torch.device("cpu"), "digest", **options)


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


@pytest.mark.parametrize("regularizer", ["none", "srip", "frame-spectral"])  # the latter two have a state
def test_killed_in_an_epoch_and_resumed_gives_the_same_weights(data, tmp_path, monkeypatch, regularizer):
    more = {} if regularizer == "none" else {"regularizer": regularizer, "gamma": 1e-2, "every": 2}
    if regularizer == "frame-spectral":
        more["regularizer_options"] = {"sample": 1}
    recipe = dataclasses.replace(RECIPE, **more)
    whole = _trainer(data, tmp_path / "whole", recipe).run(progress=False)
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
        _trainer(data, tmp_path / "cut", recipe).run(progress=False)
    resumed = _trainer(data, tmp_path / "cut", recipe)
    assert resumed.epoch == 1
    assert _equal(resumed.run(progress=False), whole)
    assert _equal(_trainer(data, tmp_path / "cut", recipe).run(progress=False), whole), "a finished run changes nothing"


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


def test_every_epoch_is_kept_and_half_epochs_where_the_schedule_is_steep(data, tmp_path):
    kept = []

    def keep(model, epoch, accuracy):
        assert not model.training and 0 <= accuracy <= 1
        kept.append((epoch, next(model.parameters()).detach().clone()))

    trainer = _trainer(data, tmp_path / "a", dataclasses.replace(RECIPE, epochs=6), keep=keep)
    model = trainer.run(progress=False)
    assert [epoch for epoch, _ in kept] == [1, 2, 3, 4, 4.5, 5, 5.5, 6]
    assert not torch.equal(kept[-1][1], kept[-2][1]) and torch.equal(kept[-1][1], next(model.parameters()))
    assert _equal(_trainer(data, tmp_path / "b", dataclasses.replace(RECIPE, epochs=6)).run(progress=False), model), \
        "looking at a training does not change it"


def test_a_penalty_pulls_the_weights_where_it_wants_them(data, tmp_path):
    """With a large coefficient the layers come near to orthogonal; without, they don't."""
    from models.regularizers import REGULARIZERS

    so = REGULARIZERS["so"]()
    values = {}
    for name, more in {"plain": {}, "so": {"regularizer": "so", "gamma": 0.1}}.items():
        recipe = dataclasses.replace(RECIPE, epochs=8, weight_decay=0.0, **more)
        trainer = _trainer(data, tmp_path / name, recipe)
        values[name] = float(so(trainer.run(progress=False)).detach())
        assert (trainer.log[0]["penalty"] > 0) == (name == "so")
    assert values["so"] < 0.1 * values["plain"]


def test_a_penalty_every_few_steps_counts_as_much_and_follows_its_schedule(data, tmp_path, monkeypatch):
    """A penalty of 1 a layer without a gradient adds gamma times the factors of the steps it is applied at."""
    from models.regularizers import Regularizer, Schedule

    class One(Regularizer):
        schedule = Schedule(warmup=0.5)

        def penalty(self, layer):
            return layer.module.weight.sum() * 0 + 1

    added, layers, real = {}, 22, torch.Tensor.backward
    monkeypatch.setattr("models.train.build_regularizer", lambda *_, **__: One())
    for every in (1, 2, 5):
        losses = []

        def spy(loss, *args, losses=losses, **kwargs):
            losses.append(float(loss.detach()))
            return real(loss, *args, **kwargs)

        recipe = dataclasses.replace(RECIPE, regularizer="so", gamma=0.5, every=every)
        trainer = _trainer(data, tmp_path / str(every), recipe)
        with monkeypatch.context() as patch:
            patch.setattr(torch.Tensor, "backward", spy)
            trainer.run(progress=False)
        cross_entropy = sum(entry["train_loss"] for entry in trainer.log) * trainer.steps
        added[every] = (sum(losses) - cross_entropy) / (0.5 * layers)
    # 15 steps in epochs of 5, of which the first half warms up linearly.
    for every, found in added.items():
        expected = every * sum(min(1, 2 * step / 15) for step in range(0, 15, every))
        assert found == pytest.approx(expected, abs=1e-3), every


def test_a_recipe_says_all_options_of_its_regularizer(data, tmp_path):
    recipe = dataclasses.replace(RECIPE, epochs=1, regularizer="frame", gamma=1e-5, regularizer_options={"upper": 2.0})
    assert recipe.regularizer_options == {"layers": KINDS, "lower": 0.5, "upper": 2.0, "relative": False}
    assert dataclasses.replace(recipe, seed=1).regularizer_options == recipe.regularizer_options
    _trainer(data, tmp_path, recipe).run(progress=False)
    assert _trainer(data, tmp_path, recipe).epoch == 1


def test_a_run_that_does_not_say_all_options_is_not_resumed(data, tmp_path):
    """So did earlier versions, and what their defaults were is not known here."""
    recipe = dataclasses.replace(RECIPE, epochs=1, regularizer="frame", gamma=1e-5)
    _trainer(data, tmp_path, recipe).run(progress=False)
    state = torch.load(tmp_path / "state.pt")
    state["identity"]["regularizer_options"] = {}
    torch.save(state, tmp_path / "state.pt")
    with pytest.raises(InputError, match="holds a run with another regularizer_options; choose another --name"):
        _trainer(data, tmp_path, recipe)


@pytest.mark.parametrize(("options", "message"), [
    ({"precision": "fp16"}, "unknown precision 'fp16'; did you mean bf16 or fp32"),
    ({"regularizer": "frame", "gamma": 1.0, "regularizer_options": {"lover": 1}}, "unknown option of frame 'lover'"),
])
def test_unknown_names_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        Recipe(**options)


@pytest.mark.parametrize("options", [{"epochs": 0}, {"lr": -1.0}, {"lr": float("nan")}, {"warmup": 1.0},
                                     {"weight_decay": -1e-4}, {"batch_size": 0}, {"label_smoothing": 1.5}])
def test_bad_recipes_are_refused(options):
    with pytest.raises(InputError, match=next(iter(options)).replace("_", " ").replace("lr", "learning rate")):
        Recipe(**options)


def test_too_large_a_batch_or_validation_is_refused(data, tmp_path):
    with pytest.raises(InputError, match="batch of 101 is more than the 100"):
        _trainer(data, tmp_path, dataclasses.replace(RECIPE, batch_size=101))
    with pytest.raises(InputError, match="can't hold 61 of 120 .*: class 0 would lose 16 of its 30; choose fewer"):
        split(data[1], 61)
    uneven = np.repeat([0, 1], [90, 10])
    with pytest.raises(InputError, match="can't hold 40 of 100 .*: class 1 would lose 20 of its 10; choose fewer"):
        split(uneven, 40)
    assert np.bincount(uneven[split(uneven, 10)[0]]).tolist() == [85, 5]


def test_the_split_is_balanced_and_disjoint():
    labels = np.repeat(np.arange(10), 50)
    training, held_out = split(labels, 25)
    assert len(held_out) == 25 and not set(training) & set(held_out) and len(training) == 475
    assert set(np.bincount(labels[held_out])) == {2, 3}
