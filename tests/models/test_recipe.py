from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
from torch import nn

from framebench.errors import InputError
from framebench.models.architectures import build
from framebench.models.checkpoint import read_card
from framebench.models.recipe import Recipe, best_precision, filled_in, parameter_groups
from framebench.models.registry import CHECKPOINTS
from framebench.models.regularizers import KINDS, REGULARIZERS
from framebench.models.regularizers import build as build_regularizer
from framebench.models.train import Trainer

#: What decays beside a regularizer: by default, and what must be found with a pair (of what it holds, of the rest).
DECAYS = [
    ("none", {}, 5e-4), ("so", {}, 5e-4), ("mhe", {"layers": ("body",)}, 5e-4), ("srip", {}, 5e-4),
    ("frame", {}, 0.0), ("frame-spectral", {}, 0.0), ("frame", {"layers": (*KINDS, "block-first")}, 0.0),
    ("frame", {"relative": True}, 5e-4), ("frame-spectral", {"relative": True, "layers": ("body",)}, 5e-4),
    ("frame", {"layers": ("body",)}, (0.0, 5e-4)), ("frame-spectral", {"layers": ("stem", "classifier")}, (0.0, 5e-4)),
    ("frame", {"layers": ("block-first",)}, (0.0, 5e-4)),
    ("frame", {"folded": True}, 5e-4), ("frame-spectral", {"folded": True, "side": "upper"}, 5e-4),
    ("frame", {"side": "lower"}, 5e-4), ("frame-spectral", {"side": "upper", "scale": "log"}, 0.0),
    ("frame", {"literal": True}, 0.0),
]


@pytest.mark.parametrize(("name", "options", "decay"), DECAYS)
def test_weight_decay_is_off_where_an_upper_bound_holds_the_scale(name, options, decay):
    recipe = Recipe(regularizer=name, regularizer_options=options)
    assert recipe.weight_decay == decay
    assert recipe.decays == (decay if isinstance(decay, tuple) else (decay, decay))
    assert dataclasses.replace(recipe, seed=3).weight_decay == decay
    assert Recipe(regularizer=name, regularizer_options=options, weight_decay=1e-3).weight_decay == 1e-3
    assert json.loads(json.dumps(dataclasses.asdict(recipe)))["weight_decay"] == (
        list(decay) if isinstance(decay, tuple) else decay)


@pytest.mark.parametrize(("name", "options", "decay"), DECAYS)
def test_what_decays_in_the_optimiser(tmp_path, name, options, decay):
    """Told from the layers' names, not by the regularizers' own search."""
    recipe = Recipe(arch="resnet20", width=4, epochs=1, batch_size=4, validation=0, regularizer=name,
                    regularizer_options=options)
    images, labels = np.zeros((8, 16, 16, 3), np.uint8), np.arange(8) % 4
    trainer = Trainer(images, labels, "abcd", recipe, tmp_path, torch.device("cpu"), "")
    found = _decay_by_name(trainer.model, trainer.optimizer.param_groups)
    held, rest = decay if isinstance(decay, tuple) else (decay, decay)
    layers = options.get("layers", KINDS)
    for parameter, value in found.items():
        kind = ("shortcut" if "shortcut" in parameter else "stem" if parameter.startswith("conv.") else
                "classifier" if parameter.startswith("fc.") else "body")
        taken = kind in layers or ("block-first" in layers and parameter.endswith("conv1.weight"))
        matrix = parameter.endswith("weight") and ".bn" not in f".{parameter}" and "shortcut.1" not in parameter
        assert value == ((held if taken else rest) if matrix else 0), parameter
    assert len({value for value in found.values()}) == len({held, rest, 0.0})


def _decay_by_name(model, groups):
    names = {id(p): name for name, p in model.named_parameters()}
    found = {names[id(p)]: group["weight_decay"] for group in groups for p in group["params"]}
    assert len(found) == len(names) == sum(len(group["params"]) for group in groups)
    return found


def test_a_pair_of_decays_reaches_the_layers_it_is_for():
    model, frame = build("resnet20", width=4), REGULARIZERS["frame"](layers="classifier")
    found = _decay_by_name(model, parameter_groups(model, (1e-2, 1e-3), frame))
    assert found["fc.weight"] == 1e-2 and found["conv.weight"] == 1e-3 and found["fc.bias"] == 0
    assert set(found.values()) == {1e-2, 1e-3, 0}
    plain = parameter_groups(model, (1e-3, 1e-3), None)
    assert [group["weight_decay"] for group in plain] == [1e-3, 0]


def test_without_decay_a_scale_free_frame_grows_and_with_it_less():
    """One layer and its penalty alone: the slope of a scale-free penalty has no part along the weights."""
    norms = {}
    for decay in (0.0, 0.1):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(8, 8, 3, bias=False))
        frame = REGULARIZERS["frame"](relative=True)
        optimizer = torch.optim.SGD(parameter_groups(model, (decay, decay), frame), lr=0.02)
        before = float(model[0].weight.detach().norm())
        for _ in range(50):
            optimizer.zero_grad()
            frame(model).backward()
            optimizer.step()
        norms[decay] = float(model[0].weight.detach().norm()) / before
    assert norms[0.0] > 1.01 and norms[0.1] < norms[0.0]


@pytest.mark.parametrize("name", REGULARIZERS)
def test_a_recipe_fills_in_what_its_regularizer_is_trained_with(name):
    kind, recipe = REGULARIZERS[name], Recipe(regularizer=name)
    assert (recipe.gamma, recipe.every) == (kind.gamma, kind.every)
    assert build_regularizer(name, **recipe.regularizer_options) == kind(**kind.training_options)
    given = Recipe(regularizer=name, gamma=0.5, every=7)
    assert (given.gamma, given.every) == (0.5, 7)


@pytest.mark.parametrize("name", ["frame-spectral", "srip", "srip-ref"])
def test_a_regularizer_draws_by_the_seed_of_the_training(name):
    assert Recipe(regularizer=name, seed=3).regularizer_options["seed"] == 3
    assert Recipe(regularizer=name, seed=3, regularizer_options={"seed": 0}).regularizer_options["seed"] == 0


def test_a_recipe_of_a_card_is_compared_as_a_training_has_it():
    recipe = dataclasses.asdict(Recipe(regularizer="frame", regularizer_options={"layers": "body"}))
    assert isinstance(recipe["weight_decay"], tuple)
    assert filled_in(json.loads(json.dumps(recipe))) == recipe
    assert filled_in({"pruned": 0.3}) == {"pruned": 0.3}


def test_a_recipe_without_a_regularizer():
    recipe = Recipe()
    assert (recipe.weight_decay, recipe.gamma, recipe.every, recipe.regularizer_options) == (5e-4, 0.0, 1, {})
    assert Recipe(gamma=0.0, every=1, regularizer_options={}) == recipe == dataclasses.replace(recipe)


def test_new_recipes_have_the_entries_of_shipped_cards():
    """So that another seed of a shipped training is summarized with it (`bench.analysis.seeds`)."""
    shipped = read_card(CHECKPOINTS / "baseline.safetensors").recipe
    recipe = Recipe(arch="speednet", width=48, epochs=44, cutout=8, precision="bf16")
    assert dataclasses.asdict(recipe) == shipped
    frame = read_card(CHECKPOINTS / "frame.safetensors").recipe
    left_away = {"weight_decay": None, "gamma": None, "every": None}
    assert json.loads(json.dumps(dataclasses.asdict(Recipe(**{**frame, **left_away})))) == frame


@pytest.mark.parametrize(("type_", "precision"), [("mps", "fp32"), ("meta", "fp32"), ("cpu", "bf16")])
def test_the_best_precision_is_the_devices_own(monkeypatch, type_, precision):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True}, raising=False)
    assert best_precision(torch.device(type_)) == precision
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict, raising=False)
    assert best_precision(torch.device(type_)) == "fp32"


@pytest.mark.parametrize(("options", "message"), [
    ({"arch": "resnet19"}, "unknown architecture 'resnet19'; did you mean"),
    ({"gamma": 1e-3, "every": 2}, "--gamma and --every can't be used without a regularizer"),
    ({"regularizer_options": {"lower": 1.0}}, "--option can't be used without a regularizer"),
    ({"precision": "fp16"}, "unknown precision 'fp16'; did you mean bf16 or fp32"),
    ({"regularizer": "fram"}, "unknown regularizer 'fram'; did you mean frame"),
    ({"weight_decay": (0.0, 1e-3)}, r"a pair of weight decays \(0.0, 0.001\) needs a regularizer .*; give one number"),
    ({"regularizer": "frame", "gamma": 0.0}, "gamma 0 does nothing"),
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
