from __future__ import annotations

import pytest
import torch

from framebench.errors import InputError
from models.registry import load, shipped


def test_a_users_factory_by_file(model_file, images):
    model = load(f"python:{model_file}:linear")
    assert model.name == "factories:linear"
    assert model.module(images).shape == (12, 10)
    assert load(f"python:{model_file}:linear").digest == model.digest
    assert load(f"python:{model_file}:other").digest != model.digest


def test_a_users_factory_by_module():
    assert isinstance(load("python:torch.nn:Flatten").module, torch.nn.Flatten)


@pytest.mark.parametrize(("name", "message"), [
    ("python:linear", "must read python:MODULE:FUNCTION"),
    ("python:/nowhere/file.py:f", "there is no file"),
    ("python:no_such_module_here:f", "can't import no_such_module_here"),
    ("python:{file}:linaer", "did you mean linear"),
    ("python:{file}:text", "returned a str, not a torch.nn.Module"),
    ("python:{file}:raising", "raised OSError: no weights here"),
])
def test_factories_that_give_no_model_are_refused(model_file, name, message):
    with pytest.raises(InputError, match=message):
        load(name.format(file=model_file))


def test_unknown_names_are_answered_with_a_suggestion():
    with pytest.raises(InputError, match="unknown model 'basline'; did you mean baseline"):
        load("basline")


def test_every_shipped_checkpoint_loads_and_its_card_is_full(images):
    cards = shipped()
    assert "baseline" in cards
    for name, card in cards.items():
        model = load(name)
        assert model.module(images).shape == (12, len(card.classes))
        assert {"title", "sha256", "n_train", "n_validation"} <= set(card.data)
        assert card.accuracy and all({"data", "n", "correct", "accuracy"} == set(entry) for entry in card.accuracy)
