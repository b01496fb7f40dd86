from __future__ import annotations

import csv
import dataclasses
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from framebench.errors import DivergedError, InputError
from framebench.models.regularizers import KINDS
from framebench.models.train import split
from tests.models.training import RECIPE, change_state, equal, images_of, prepare


@pytest.fixture
def data():
    return images_of(120)


def test_learns_and_keeps_a_log(tmp_path):
    """Chance is 0.25; seeds 0 to 5, a decay of 6e-4 and bf16 all get 1.0, and nothing that was tried less than 0.75."""
    trainer = prepare(images_of(300), tmp_path, dataclasses.replace(RECIPE, epochs=8, validation=60))
    model = trainer.run()
    assert not model.training
    assert trainer.log[-1]["validation_accuracy"] >= 0.6 and trainer.log[-1]["train_accuracy"] >= 0.6
    assert trainer.log[-1]["train_loss"] < 0.8 * trainer.log[0]["train_loss"]
    with open(tmp_path / "log.csv") as log:
        rows = list(csv.DictReader(log))
    assert [int(row["epoch"]) for row in rows] == list(range(1, 9))
    rates = [float(row["lr"]) for row in rows]
    assert max(rates) == pytest.approx(0.1, rel=0.15) and rates[-1] < 0.01


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_the_precision_is_that_of_training_and_validation(data, tmp_path, precision, dtype):
    trainer = prepare(data, tmp_path, dataclasses.replace(RECIPE, epochs=1, precision=precision))
    seen = {True: set(), False: set()}
    trainer.model.conv.register_forward_hook(lambda module, _, y: seen[module.training].add(y.dtype))
    trainer.run()
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
    trainer = prepare(data, tmp_path / "a", dataclasses.replace(RECIPE, epochs=1), compile=compiled)
    trainer.run()
    assert calls == {"compile": compiled, "forward": compiled * trainer.steps}


@pytest.mark.parametrize("flip", [False, True])
def test_every_image_is_mirrored_in_every_second_epoch_or_never(data, tmp_path, monkeypatch, flip):
    from framebench.models.augment import crop_flip_cutout

    seen = []

    def spy(padded, index, flips, *rest):
        seen.append((index, flips))
        return crop_flip_cutout(padded, index, flips, *rest)

    monkeypatch.setattr("framebench.models.train.crop_flip_cutout", spy)
    trainer = prepare(data, tmp_path, dataclasses.replace(RECIPE, epochs=4, flip=flip))
    trainer.run()
    mirrored = torch.zeros(4, len(trainer.training), dtype=torch.bool)
    for i, (index, flips) in enumerate(seen):
        mirrored[i // trainer.steps, index] = flips
    if not flip:
        assert not mirrored.any()
    else:
        assert torch.equal(mirrored[0], ~mirrored[1]) and torch.equal(mirrored[::2], ~mirrored[1::2])
        assert torch.equal(mirrored[0], mirrored[2]) and 25 < int(mirrored[0].sum()) < 75  # of 100


def test_the_seed_matters(data, tmp_path):
    first = prepare(data, tmp_path / "0").run()
    other = prepare(data, tmp_path / "1", dataclasses.replace(RECIPE, seed=1)).run()
    assert not equal(first, other)


def test_a_collapse_stops_the_run_within_its_epoch_and_keeps_the_last(data, tmp_path, monkeypatch):
    steps, real = 0, torch.optim.SGD.step

    def count(self, *args, **kwargs):
        nonlocal steps
        steps += 1
        return real(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.SGD, "step", count)
    monkeypatch.setattr("framebench.models.train.WATCH_EVERY", 2)
    recipe = dataclasses.replace(RECIPE, batch_size=5, lr=0.01, warmup=0.0, regularizer="frame", gamma=1.0,
                                 regularizer_options={"warmup": 0.0})  # 14 to 16 steps with seeds 0 to 2
    with pytest.raises(InputError, match="weights have collapsed in epoch 1: .* lower --gamma") as found:
        prepare(data, tmp_path / "a", recipe).run()
    assert steps % 2 == 0 and steps < 20 and "\n" not in str(found.value)

    resumable = dataclasses.replace(recipe, gamma=1e-5)
    prepare(data, tmp_path / "b", resumable).run()

    def shrink(state):
        state["log"] = state["log"][:1]
        with torch.no_grad():
            for name, tensor in state["model"].items():
                if tensor.ndim > 1:
                    state["model"][name] = tensor * math.sqrt(0.1)
    state = change_state(tmp_path / "b", shrink)
    before, trainer = state.read_bytes(), prepare(data, tmp_path / "b", resumable)
    with pytest.raises(InputError, match="collapsed in epoch 2"):  # compared with the start of the whole run
        trainer.run()
    assert trainer.epoch == 1 and state.read_bytes() == before


def test_a_loss_that_is_not_finite_stops_the_run(data, tmp_path):
    with pytest.raises(InputError, match="not finite in epoch 1; start again under another --name with a lower --lr$"):
        prepare(data, tmp_path, dataclasses.replace(RECIPE, lr=1e30)).run()


@pytest.mark.parametrize(("at", "kept_epochs"), [(1, [1, 2]), (3, [1, 2, 2.5])])
def test_no_half_epoch_is_kept_whose_losses_are_not_finite(data, tmp_path, monkeypatch, at, kept_epochs):
    """The third epoch is that of the steps 10 to 14; its half is kept before step 12."""
    kept, real, calls = [], F.cross_entropy, 0

    def cross_entropy(*args, **options):
        nonlocal calls
        calls += 1
        return real(*args, **options) * (math.nan if calls == 10 + at else 1)

    monkeypatch.setattr(F, "cross_entropy", cross_entropy)
    trainer = prepare(data, tmp_path, keep=lambda model, epoch, accuracy: kept.append(epoch))
    with pytest.raises(InputError, match="not finite in epoch 3"):
        trainer.run()
    assert kept == kept_epochs


def test_every_epoch_is_kept_and_half_epochs_where_the_schedule_is_steep(data, tmp_path):
    kept = []

    def keep(model, epoch, accuracy):
        assert not model.training and 0 <= accuracy <= 1
        kept.append((epoch, next(model.parameters()).detach().clone()))

    trainer = prepare(data, tmp_path / "a", dataclasses.replace(RECIPE, epochs=6), keep=keep)
    model = trainer.run()
    assert [epoch for epoch, _ in kept] == [1, 2, 3, 4, 4.5, 5, 5.5, 6]
    assert not torch.equal(kept[-1][1], kept[-2][1]) and torch.equal(kept[-1][1], next(model.parameters()))
    assert equal(prepare(data, tmp_path / "b", dataclasses.replace(RECIPE, epochs=6)).run(), model), \
        "looking at a training does not change it"


def test_a_penalty_pulls_the_weights_where_it_wants_them(data, tmp_path):
    """With a large coefficient the layers come near to orthogonal; without, they don't."""
    from framebench.models.regularizers import REGULARIZERS

    so = REGULARIZERS["so"]()
    values = {}
    for name, more in {"plain": {}, "so": {"regularizer": "so", "gamma": 0.1}}.items():
        recipe = dataclasses.replace(RECIPE, epochs=8, weight_decay=0.0, **more)
        trainer = prepare(data, tmp_path / name, recipe)
        values[name] = float(so(trainer.run()).detach())
        assert (trainer.log[0]["penalty"] > 0) == (name == "so")
    assert values["so"] < 0.1 * values["plain"]


def test_a_penalty_every_few_steps_counts_as_much_and_follows_its_schedule(data, tmp_path, monkeypatch):
    """A penalty of 1 a layer without a gradient adds gamma times the factors of the steps it is applied at."""
    from framebench.models.regularizers import Regularizer, Schedule

    class One(Regularizer):
        schedule = Schedule(warmup=0.5)

        def penalty(self, layer):
            return layer.module.weight.sum() * 0 + 1

    added, layers, real = {}, 22, torch.Tensor.backward
    monkeypatch.setattr("framebench.models.train.build_regularizer", lambda *_, **__: One())
    for every in (1, 2, 5):
        losses = []

        def spy(loss, *args, losses=losses, **kwargs):
            losses.append(float(loss.detach()))
            return real(loss, *args, **kwargs)

        recipe = dataclasses.replace(RECIPE, regularizer="so", gamma=0.5, every=every)
        trainer = prepare(data, tmp_path / str(every), recipe)
        with monkeypatch.context() as patch:
            patch.setattr(torch.Tensor, "backward", spy)
            trainer.run()
        cross_entropy = sum(entry["train_loss"] for entry in trainer.log) * trainer.steps
        added[every] = (sum(losses) - cross_entropy) / (0.5 * layers)
    # 15 steps in epochs of 5, of which the first half warms up linearly.
    for every, found in added.items():
        expected = every * sum(min(1, 2 * step / 15) for step in range(0, 15, every))
        assert found == pytest.approx(expected, abs=1e-3), every


@pytest.mark.parametrize("value", [2.0, math.inf, math.nan])
def test_a_penalty_whose_factor_is_0_is_logged_but_not_trained_with(data, tmp_path, monkeypatch, value):
    """From 0.4 of 15 steps on: the first of three epochs and a step of the second have it."""
    from framebench.models.regularizers import Regularizer, Schedule

    seen = []

    class Late(Regularizer):
        schedule = Schedule(steps=((0.4, 0.0),))

        def __call__(self, module):
            seen.append(torch.is_grad_enabled())
            return next(module.parameters()).sum() * 0 + (1 if torch.is_grad_enabled() else value)

    monkeypatch.setattr("framebench.models.train.build_regularizer", lambda *_, **__: Late())
    recipe = dataclasses.replace(RECIPE, weight_decay=5e-4, regularizer="so", gamma=0.1)
    trainer = prepare(data, tmp_path / "late", recipe)
    model = trainer.run()
    assert seen == [True] * 6 + [False]
    assert [entry["penalty"] for entry in trainer.log] == pytest.approx([1, 1, value], nan_ok=True)
    assert equal(model, prepare(data, tmp_path / "none").run()), "such a penalty has no gradient"


def test_an_infinite_penalty_that_is_added_stops_the_run(data, tmp_path, monkeypatch):
    from framebench.models.regularizers import Regularizer

    class Infinite(Regularizer):
        def __call__(self, module):
            return next(module.parameters()).sum() * 0 + math.inf

    monkeypatch.setattr("framebench.models.train.build_regularizer", lambda *_, **__: Infinite())
    recipe = dataclasses.replace(RECIPE, regularizer="so", gamma=0.1)
    with pytest.raises(InputError, match="not finite in epoch 1; .* a lower --lr or --gamma$"):
        prepare(data, tmp_path, recipe).run()


def test_a_recipe_says_all_options_of_its_regularizer(data, tmp_path):
    recipe = dataclasses.replace(RECIPE, epochs=1, regularizer="frame", gamma=1e-5, regularizer_options={"upper": 2.0})
    assert recipe.regularizer_options == {
        "layers": KINDS, "first": 0, "warmup": 0.1, "steps": (), "folded": False, "lower": 0.5, "upper": 2.0,
        "relative": False, "side": "both", "literal": False}
    assert dataclasses.replace(recipe, seed=1).regularizer_options == recipe.regularizer_options
    prepare(data, tmp_path, recipe).run()
    assert prepare(data, tmp_path, recipe).epoch == 1


def test_too_large_a_batch_pad_or_validation_is_refused(data, tmp_path):
    with pytest.raises(InputError, match="batch of 101 is more than the 100"):
        prepare(data, tmp_path, dataclasses.replace(RECIPE, batch_size=101))
    for pad, size in ((16, (16, 16)), (15, (20, 15)), (40, (16, 16))):
        images = np.zeros((120, *size, 3), np.uint8)
        with pytest.raises(InputError, match=f"a pad of {pad} needs .* {min(size)} of these; choose a smaller --pad"):
            prepare((images, data[1]), tmp_path, dataclasses.replace(RECIPE, pad=pad))
    prepare(data, tmp_path, dataclasses.replace(RECIPE, pad=15))
    with pytest.raises(InputError, match="can't hold 61 of 120 .*: the class a would .* 16 of its 30; .*--validation"):
        split(data[1], 61, "abcd")
    uneven = np.repeat([0, 1], [90, 10])
    with pytest.raises(InputError, match="can't hold 40 of 100 .*: the class b would .* 20 of its 10; .*--validation"):
        split(uneven, 40, "ab")
    assert np.bincount(uneven[split(uneven, 10, "ab")[0]]).tolist() == [85, 5]


def test_the_split_is_balanced_and_disjoint():
    labels = np.repeat(np.arange(10), 50)
    training, held_out = split(labels, 25, "abcdefghij")
    assert len(held_out) == 25 and not set(training) & set(held_out) and len(training) == 475
    assert set(np.bincount(labels[held_out])) == {2, 3}


def test_statistics_that_are_not_finite_end_a_training(tmp_path):
    """In training mode a batch norm does not use its running variance, so that the loss does not tell."""
    trainer = prepare(images_of(60), tmp_path)
    next(module for module in trainer.model.modules() if isinstance(module, nn.BatchNorm2d)).running_var.fill_(math.inf)
    with pytest.raises(DivergedError, match="epoch 1"):
        trainer.run()
