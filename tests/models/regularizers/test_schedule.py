"""The schedule of the coefficient: its options, how they are written, and where they are kept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from framebench import models
from framebench.errors import InputError
from framebench.keyvalue import parse_pairs
from framebench.models.checkpoint import read_card
from framebench.models.recipe import Recipe
from framebench.models.regularizers import REGULARIZERS, Schedule, build

CARDS = sorted((Path(models.__file__).parent / "checkpoints").glob("**/*.json"))
SRIP = ((0.1, 0.1), (0.25, 0.01), (0.35, 1e-4), (0.6, 0.0))


def test_the_factor():
    assert Schedule()(0) == 1
    warm = Schedule(warmup=0.2)
    assert [warm(x) for x in (0, 0.05, 0.1, 0.2, 1)] == pytest.approx([0, 0.25, 0.5, 1, 1])
    both = Schedule(warmup=0.5, steps=((0.25, 0.1), (0.75, 4.0)))
    assert [both(x) for x in (0.2, 0.25, 0.5, 0.75)] == pytest.approx([0.4, 0.05, 0.1, 4])


@pytest.mark.parametrize("name", REGULARIZERS)
def test_defaults(name):
    penalty = build(name)
    assert penalty.warmup == (0.1 if name == "frame" else 0)
    assert penalty.steps == (SRIP if name.startswith("srip") else ())
    factors = [penalty.schedule(epoch / 200) for epoch in (0, 10, 19, 20, 50, 70, 120, 200)]
    if name.startswith("srip"):  # 1e-2, then 1e-3, 1e-4, 1e-6 and 0 from epochs 20, 50, 70 and 120 of 200
        assert factors == [1, 1, 1, 0.1, 0.01, 1e-4, 0, 0]
    elif name == "frame":
        assert factors == pytest.approx([0, 0.5, 0.95, 1, 1, 1, 1, 1])
    else:
        assert factors == [1] * 8


@pytest.mark.parametrize("name", REGULARIZERS)
@pytest.mark.parametrize(("texts", "warmup", "steps"), [
    (["warmup=0.3"], 0.3, None),
    (["steps=0.5:0.1"], None, ((0.5, 0.1),)),
    (["warmup=0", "steps=0.5:0.1,0.75:1e-3,1:0"], 0, ((0.5, 0.1), (0.75, 1e-3), (1.0, 0.0))),
    (["warmup=0", "steps=none"], 0, ()),
    (["steps="], None, ()),
])
def test_options_of_the_command_line(name, texts, warmup, steps):
    penalty, plain = build(name, **parse_pairs(texts, "--option")), build(name)
    assert penalty.warmup == (plain.warmup if warmup is None else warmup)
    assert penalty.steps == (plain.steps if steps is None else steps)


@pytest.mark.parametrize("name", REGULARIZERS)
def test_a_recipe_says_the_schedule_and_survives_card_and_state(name, tmp_path):
    recipe = Recipe(regularizer=name, gamma=1.0, regularizer_options={"warmup": 0.25, "steps": "0.5:0.1,0.75:0"})
    options = recipe.regularizer_options
    assert (options["warmup"], options["steps"]) == (0.25, ((0.5, 0.1), (0.75, 0.0)))
    from_card = build(name, **json.loads(json.dumps(options)))
    assert from_card == build(name, **options) and from_card.schedule == Schedule(0.25, ((0.5, 0.1), (0.75, 0.0)))
    torch.save(options, tmp_path / "state.pt")
    assert torch.load(tmp_path / "state.pt", weights_only=True) == options
    assert Recipe(regularizer=name, gamma=1.0).regularizer_options["steps"] == build(name).steps


@pytest.mark.parametrize("path", CARDS, ids=lambda path: path.stem)
def test_shipped_cards_say_options_that_are_known(path):
    """Some were made before a schedule was an option; what it was then are the defaults, see `test_defaults`."""
    recipe = read_card(path.with_suffix(".safetensors")).recipe
    if recipe["regularizer"] != "none":
        penalty = build(recipe["regularizer"], **recipe["regularizer_options"])
        assert penalty.schedule(1) == (0 if recipe["regularizer"] == "srip" else 1)


@pytest.mark.parametrize(("options", "message"), [
    ({"warmup": 2.0}, "warm-up is a share"),
    ({"warmup": float("nan")}, "warm-up is a share"),
    ({"warmup": "long"}, "option warmup must be of type float, not 'long'"),
    ({"steps": ((0.5, 1), (0.2, 1))}, "rising shares"),
    ({"steps": "0.5:0.1,1.5:0"}, "rising shares"),
    ({"steps": ((0.5, -1),)}, "factors of a schedule"),
    ({"steps": "0.5:inf"}, "factors of a schedule"),
    ({"steps": 0}, "option steps must be pairs SHARE:FACTOR of numbers, such as 0.5:0.1,0.8:0, not 0"),
    ({"steps": "0.5"}, "must be pairs SHARE:FACTOR of numbers"),
    ({"steps": "0.5:0.1,"}, "must be pairs SHARE:FACTOR of numbers"),
    ({"steps": ("0.5:0.1:2",)}, "must be pairs SHARE:FACTOR of numbers"),
    ({"steps": ((0.5, "half"),)}, "must be pairs SHARE:FACTOR of numbers"),
    ({"schedule": "constant"}, "unknown option of so 'schedule'"),
])
def test_bad_schedules_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        build("so", **options)
