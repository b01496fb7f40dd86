from __future__ import annotations

import dataclasses

import pytest
import torch

from framebench.errors import InputError
from tests.models.training import RECIPE, change_state, equal, images_of, prepare, state_of


@pytest.fixture
def data():
    return images_of(120)


@pytest.mark.parametrize("more", [
    {}, {"precision": "bf16"},
    {"regularizer": "srip", "gamma": 1e-2, "every": 2},  # has a state, as has the next
    {"regularizer": "frame-spectral", "gamma": 1e-2, "every": 2, "regularizer_options": {"sample": 1}},
    {"regularizer": "frame", "gamma": 1e-5, "weight_decay": (0.0, 1e-3), "precision": "bf16"},
], ids=["none", "bf16", "srip", "frame-spectral", "frame-bf16"])
def test_killed_in_an_epoch_and_resumed_gives_the_same_weights(data, tmp_path, monkeypatch, more):
    recipe = dataclasses.replace(RECIPE, **more)
    whole = prepare(data, tmp_path / "whole", recipe).run()
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
        prepare(data, tmp_path / "cut", recipe).run()
    resumed = prepare(data, tmp_path / "cut", recipe)
    assert resumed.epoch == 1
    assert equal(resumed.run(), whole)
    assert equal(prepare(data, tmp_path / "cut", recipe).run(), whole), "a finished run changes nothing"


def test_another_recipe_or_damaged_state_is_refused(data, tmp_path):
    prepare(data, tmp_path, dataclasses.replace(RECIPE, epochs=1)).run()
    with pytest.raises(InputError, match=r"another epochs \(1, now 3\), lr \(0.1, now 0.2\); choose another --name"):
        prepare(data, tmp_path, dataclasses.replace(RECIPE, lr=0.2))
    good = bytearray(state_of(tmp_path).read_bytes())
    for damaged in (good[:500], good[:2000] + bytes([good[2000] ^ 1]) + good[2001:]):
        state_of(tmp_path).write_bytes(damaged)
        with pytest.raises(InputError, match="can't be read"):
            prepare(data, tmp_path, dataclasses.replace(RECIPE, epochs=1))


@pytest.mark.parametrize("damage", [
    lambda state: state.pop("model"), lambda state: state["model"].popitem(), lambda state: state.pop("optimizer"),
    lambda state: state["optimizer"].update(param_groups=[]), lambda state: state.pop("regularizer"),
    lambda state: state.update(regularizer=[1]), lambda state: state.pop("log"), lambda state: state.update(log=None),
    lambda state: state["log"][0].pop("seconds"), lambda state: state.update(identity=None)])
def test_a_state_that_lacks_something_is_named(data, tmp_path, damage):
    recipe = dataclasses.replace(RECIPE, epochs=1, regularizer="srip", gamma=1e-2)
    prepare(data, tmp_path, recipe).run()
    change_state(tmp_path, damage)
    with pytest.raises(InputError, match=r"state .*state-00001-.*.pt can't be read \(\w+\); remove it to start anew"):
        prepare(data, tmp_path, recipe)


def test_the_log_lacks_no_epoch_of_a_run_killed_as_it_saves_the_last(data, tmp_path, monkeypatch):
    def die(*_):
        raise KeyboardInterrupt

    recipe = dataclasses.replace(RECIPE, epochs=1)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(torch, "save", die)
        prepare(data, tmp_path, recipe).run()
    assert {path.name for path in tmp_path.iterdir()} == {"log.csv", "SHA256SUMS"}
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 2


def test_a_process_that_trains_nothing_leaves_no_provenance(data, tmp_path):
    recipe = dataclasses.replace(RECIPE, epochs=2)
    prepare(data, tmp_path, recipe, provenance={"torch": "1"}).run()
    assert prepare(data, tmp_path, recipe, provenance={"torch": "2"}).provenances == [{"torch": "1"}]

    change_state(tmp_path, lambda state: state["log"].pop())
    assert prepare(data, tmp_path, recipe, provenance={"torch": "2"}).provenances == [{"torch": "1"}, {"torch": "2"}]
