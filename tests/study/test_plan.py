"""The manifest becomes trainings, in order; the held-out accuracy decides which coefficient an arm goes on with."""

import json

import pytest

from framebench.errors import InputError
from framebench.models.checkpoint import HELD_OUT
from study import plan

MANIFEST = """
seeds = [0, 1]
[recipe]
arch = "resnet20"
epochs = 1
[penalty]
every = 3
regularizer_options = {warmup = 0.5}
[arms.plain]
title = "plain"
[arms.so]
title = "SO"
regularizer = "so"
gammas = [1e-3, 1e-2]
regularizer_options = {first = 2}
"""


@pytest.fixture
def study(tmp_path, monkeypatch):
    (tmp_path / "manifest.toml").write_text(MANIFEST)
    monkeypatch.setattr(plan, "STUDY", tmp_path)
    monkeypatch.setattr(plan, "TRAININGS", tmp_path / "trainings")
    return tmp_path


def trained(training, accuracy):
    training.folder.mkdir(parents=True)
    entry = {"data": HELD_OUT, "n": 10, "correct": 1, "accuracy": accuracy}
    (training.folder / f"{training.name}.json").write_text(json.dumps({"accuracy": [entry]}))


def failed(training):
    training.folder.mkdir(parents=True)
    (training.folder / plan.FAILED).write_text("the loss is not finite")


def names():
    return [training.name for training in plan.trainings()]


def test_an_arm_goes_on_once_all_its_coefficients_were_tried(study):
    first, second = plan.tries("so")
    trained(plan.tries("plain")[0], 0.5)
    trained(first, 0.7)
    assert names() == ["plain-s0", "so-g0.001-s0", "so-g0.01-s0", "plain-s1"]
    with pytest.raises(InputError):
        plan.chosen("so")
    trained(second, 0.8)
    assert plan.chosen("so") == 0.01
    assert names()[-2:] == ["plain-s1", "so-g0.01-s1"]


def test_equals_are_decided_for_the_smaller_coefficient(study):
    for training in plan.tries("so"):
        trained(training, 0.7)
    assert plan.chosen("so") == 0.001


def test_a_failed_try_is_never_chosen(study):
    first, second = plan.tries("so")
    trained(first, 0.1)
    failed(second)
    assert plan.chosen("so") == 0.001


def test_an_arm_without_a_finished_try_ends(study):
    for training in plan.tries("so"):
        failed(training)
    trained(plan.tries("plain")[0], 0.5)
    with pytest.raises(InputError):
        plan.chosen("so")
    assert names()[-1] == "plain-s1"


def test_options_of_the_recipe_the_penalty_and_the_arm_are_joined(study):
    options = plan.tries("so")[1].options
    assert options == {"arch": "resnet20", "epochs": 1, "every": 3, "regularizer": "so", "gamma": 1e-2, "seeds": [0],
                       "regularizer_options": {"warmup": 0.5, "first": 2}}
    assert "every" not in plan.tries("plain")[0].options  # nothing to apply


def test_an_arm_that_is_like_another_takes_its_coefficient_and_has_seeds_of_its_own(study):
    more = """
[arms.other]
title = "SO elsewhere"
like = "so"
dataset = "cifar100"
seeds = [0, 2]
"""
    (study / "manifest.toml").write_text(MANIFEST.replace("seeds = [0, 1]", "seeds = [0, 1, 2]") + more)
    assert plan.tries("other") == [] and not any(name.startswith("other") for name in names())
    trained(plan.tries("so")[0], 0.5)
    trained(plan.tries("so")[1], 0.6)
    first, = plan.tries("other")
    assert first.dataset == "cifar100" and first.gamma is None and first.options["gamma"] == 1e-2
    assert first.options["regularizer_options"] == {"warmup": 0.5, "first": 2}
    assert "like" not in first.options and [name for name in names() if name.startswith("other")] == ["other-s0"]
    trained(first, 0.3)
    assert [name for name in names() if name.startswith("other")] == ["other-s0", "other-s2"]


def test_the_manifest_asks_for_trainings_that_can_be():
    from bench.options.train import TrainOptions

    every = [training for arm in plan.manifest()["arms"] for training in plan.tries(arm)]
    recipes = [TrainOptions(**training.options, name=training.name).recipe(training.seed) for training in every]
    assert len({(training.dataset, str(recipe)) for training, recipe in zip(every, recipes, strict=True)}) == len(every)
    assert {recipe.every for recipe in recipes if recipe.regularizer != "none"} == {2}
