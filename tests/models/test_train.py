from __future__ import annotations

import csv
import dataclasses
import math

import numpy as np
import pytest
import torch

from framebench.errors import InputError
from models.recipe import Recipe
from models.regularizers import KINDS
from models.train import Trainer, split

RECIPE = Recipe(arch="resnet20", width=4, epochs=3, batch_size=20, lr=0.1, validation=20, pad=1)


def _data(n):
    rng = np.random.default_rng(0)
    labels = np.arange(n) % 4
    images = (rng.integers(0, 60, (n, 16, 16, 3)) + 60 * labels[:, None, None, None]).astype(np.uint8)
    return images, labels.astype(np.int64)


@pytest.fixture
def data():
    return _data(120)


def _trainer(data, folder, recipe=RECIPE, **options):
    return Trainer(*data, 4, recipe, folder, torch.device("cpu"), "digest", **options)


def _equal(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_learns_and_keeps_a_log(tmp_path):
    """Chance is 0.25; seeds 0 to 5, a decay of 6e-4 and bf16 all get 1.0, and nothing that was tried less than 0.75."""
    trainer = _trainer(_data(300), tmp_path, dataclasses.replace(RECIPE, epochs=8, validation=60))
    model = trainer.run(progress=False)
    assert not model.training
    assert trainer.log[-1]["validation_accuracy"] >= 0.6 and trainer.log[-1]["train_accuracy"] >= 0.6
    assert trainer.log[-1]["train_loss"] < 0.8 * trainer.log[0]["train_loss"]
    with open(tmp_path / "log.csv") as log:
        rows = list(csv.DictReader(log))
    assert [int(row["epoch"]) for row in rows] == list(range(1, 9))
    rates = [float(row["lr"]) for row in rows]
    assert max(rates) == pytest.approx(0.1, rel=0.15) and rates[-1] < 0.01


@pytest.mark.parametrize("more", [
    {}, {"precision": "bf16"},
    {"regularizer": "srip", "gamma": 1e-2, "every": 2},  # has a state, as has the next
    {"regularizer": "frame-spectral", "gamma": 1e-2, "every": 2, "regularizer_options": {"sample": 1}},
    {"regularizer": "frame", "gamma": 1e-5, "weight_decay": (0.0, 1e-3), "precision": "bf16"},
], ids=["none", "bf16", "srip", "frame-spectral", "frame-bf16"])
def test_killed_in_an_epoch_and_resumed_gives_the_same_weights(data, tmp_path, monkeypatch, more):
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


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_the_precision_is_that_of_training_and_validation(data, tmp_path, precision, dtype):
    trainer = _trainer(data, tmp_path, dataclasses.replace(RECIPE, epochs=1, precision=precision))
    seen = {True: set(), False: set()}
    trainer.model.conv.register_forward_hook(lambda module, _, y: seen[module.training].add(y.dtype))
    trainer.run(progress=False)
    assert seen == {True: {dtype}, False: {dtype}}
    assert {p.dtype for p in trainer.model.parameters()} == {torch.float32}


@pytest.mark.parametrize("compiled", [False, True])
def test_the_model_is_compiled_on_request(data, tmp_path, monkeypatch, compiled):
    calls = {"compile": 0, "forward": 0}

    def compile(model):
        calls["compile"] += 1

        def forward(x):
            calls["forward"] += 1
            return model(x)
        return forward

    monkeypatch.setattr(torch, "compile", compile)
    trainer = _trainer(data, tmp_path / "a", dataclasses.replace(RECIPE, epochs=1), compile=compiled)
    trainer.run(progress=False)
    assert calls == {"compile": compiled, "forward": compiled * trainer.steps}


@pytest.mark.parametrize("flip", [False, True])
def test_every_image_is_mirrored_in_every_second_epoch_or_never(data, tmp_path, monkeypatch, flip):
    from models.augment import crop_flip_cutout

    seen = []

    def spy(padded, index, flips, *rest):
        seen.append((index, flips))
        return crop_flip_cutout(padded, index, flips, *rest)

    monkeypatch.setattr("models.train.crop_flip_cutout", spy)
    trainer = _trainer(data, tmp_path, dataclasses.replace(RECIPE, epochs=4, flip=flip))
    trainer.run(progress=False)
    mirrored = torch.zeros(4, len(trainer.training), dtype=torch.bool)
    for i, (index, flips) in enumerate(seen):
        mirrored[i // trainer.steps, index] = flips
    if not flip:
        assert not mirrored.any()
    else:
        assert torch.equal(mirrored[0], ~mirrored[1]) and torch.equal(mirrored[::2], ~mirrored[1::2])
        assert torch.equal(mirrored[0], mirrored[2]) and 25 < int(mirrored[0].sum()) < 75  # of 100


def test_the_seed_matters(data, tmp_path):
    first = _trainer(data, tmp_path / "0").run(progress=False)
    other = _trainer(data, tmp_path / "1", dataclasses.replace(RECIPE, seed=1)).run(progress=False)
    assert not _equal(first, other)


def test_another_recipe_or_damaged_state_is_refused(data, tmp_path):
    _trainer(data, tmp_path, dataclasses.replace(RECIPE, epochs=1)).run(progress=False)
    with pytest.raises(InputError, match=r"another epochs \(1, now 3\), lr \(0.1, now 0.2\); choose another --name"):
        _trainer(data, tmp_path, dataclasses.replace(RECIPE, lr=0.2))
    (tmp_path / "state.pt").write_bytes((tmp_path / "state.pt").read_bytes()[:500])
    with pytest.raises(InputError, match="can't be read"):
        _trainer(data, tmp_path, dataclasses.replace(RECIPE, epochs=1))


def test_a_collapse_stops_the_run_within_its_epoch_and_keeps_the_last(data, tmp_path, monkeypatch):
    steps, real = 0, torch.optim.SGD.step

    def count(self, *args, **kwargs):
        nonlocal steps
        steps += 1
        return real(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.SGD, "step", count)
    monkeypatch.setattr("models.train.WATCH_EVERY", 2)
    recipe = dataclasses.replace(RECIPE, batch_size=5, lr=0.03, regularizer="frame", gamma=1.0)
    with pytest.raises(InputError, match="weights have collapsed in epoch 1: .* lower --gamma") as found:
        _trainer(data, tmp_path / "a", recipe).run(progress=False)
    assert steps % 2 == 0 and steps < 20 and "\n" not in str(found.value)

    resumable = dataclasses.replace(recipe, gamma=1e-5)
    _trainer(data, tmp_path / "b", resumable).run(progress=False)
    state = torch.load(tmp_path / "b" / "state.pt")
    state["log"] = state["log"][:1]
    with torch.no_grad():
        for name, tensor in state["model"].items():
            if tensor.ndim > 1:
                state["model"][name] = tensor * math.sqrt(0.1)
    torch.save(state, tmp_path / "b" / "state.pt")
    before, trainer = (tmp_path / "b" / "state.pt").read_bytes(), _trainer(data, tmp_path / "b", resumable)
    with pytest.raises(InputError, match="collapsed in epoch 2"):  # compared with the start of the whole run
        trainer.run(progress=False)
    assert trainer.epoch == 1 and (tmp_path / "b" / "state.pt").read_bytes() == before


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
    assert recipe.regularizer_options == {
        "layers": KINDS, "warmup": 0.1, "steps": (), "lower": 0.5, "upper": 2.0, "relative": False}
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
    with pytest.raises(InputError, match=r"another regularizer options \({}, now {.*}\); choose another --name"):
        _trainer(data, tmp_path, recipe)


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
