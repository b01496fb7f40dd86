"""Layer policies, options and the state of a resumed training."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from framebench.errors import InputError
from framebench.models.architectures import build as build_model
from framebench.models.regularizers import KINDS, OCNN_LAYERS, REGULARIZERS, build
from framebench.models.regularizers.layers import find_layers


def test_kinds_of_a_residual_network():
    kinds = {layer.name: layer.kind for layer in find_layers(build_model("resnet50", width=4))}
    assert list(kinds)[0] == "conv" and kinds["conv"] == "stem" and kinds["fc"] == "classifier"
    assert kinds["blocks.0.conv1"] == "1x1" and kinds["blocks.0.conv2"] == "body"
    assert kinds["blocks.0.shortcut.0"] == "shortcut" and kinds["blocks.3.shortcut.0"] == "shortcut"
    assert len(kinds) == 54


def test_kinds_by_structure_alone():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1, 2), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 3), nn.ReLU(),
                          nn.Linear(4, 4), nn.Linear(4, 2), nn.ConvTranspose2d(4, 4, 3))
    assert [layer.kind for layer in find_layers(model)] == ["stem", "shortcut", "1x1", "body", "body", "classifier"]
    assert [(x.name, x.kind) for x in find_layers(nn.Conv2d(3, 4, 3))] == [("conv2d", "stem")]
    assert [(x.name, x.kind) for x in find_layers(nn.Linear(3, 4))] == [("linear", "classifier")]


def test_policies_take_what_they_name():
    model = build_model("resnet18", width=4)
    penalty = REGULARIZERS["ocnn"](layers=OCNN_LAYERS)
    assert set(penalty.values(model)) == {f"blocks.{i}.conv1" for i in range(8)} | {
        f"blocks.{i}.shortcut.0" for i in (2, 4, 6)}
    assert set(REGULARIZERS["so"](layers=["classifier"]).values(model)) == {"fc"}
    assert list(REGULARIZERS["so"](first=3).values(model)) == ["conv", "blocks.0.conv1", "blocks.0.conv2"]
    assert list(REGULARIZERS["so"](layers="shortcut", first=2).values(model)) == [
        "blocks.2.shortcut.0", "blocks.4.shortcut.0"]
    assert len(REGULARIZERS["so"](first=99).values(model)) == 21
    parts = [REGULARIZERS["so"](layers=kind)(model) for kind in KINDS if kind != "1x1"]
    torch.testing.assert_close(sum(parts), REGULARIZERS["so"]()(model))


@pytest.mark.parametrize("name", REGULARIZERS)
def test_the_penalty_is_the_sum_of_its_values_and_reaches_every_layer(name):
    torch.manual_seed(0)
    model = build_model("resnet18", width=4)
    with torch.no_grad():
        values = REGULARIZERS[name]().values(model)
    assert len(values) == 21 and all(value.shape == () for value in values.values())
    total = REGULARIZERS[name]()(model)
    torch.testing.assert_close(total, torch.stack(list(values.values())).sum())
    total.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters() if p.ndim > 1)


@pytest.mark.parametrize("name", REGULARIZERS)
def test_how_each_is_trained(name):
    kind = REGULARIZERS[name]
    assert kind.gamma > 0 and kind.every >= 1 and kind.weight_decay is not name.startswith("frame")
    penalty = build(name, **kind.training_options)
    assert 0 <= penalty.schedule(0) <= 1 and 0 <= penalty.schedule(1) <= 1


@pytest.mark.parametrize(("name", "options"), [
    ("srip", {}), ("srip-ref", {}), ("frame-spectral", {"sample": 3})])
def test_a_resumed_training_is_identical(name, options):
    def step(model, penalty):
        optimizer = torch.optim.SGD(model.parameters(), 1e-3)
        optimizer.zero_grad()
        (penalty(model) * 1e-2).backward()
        optimizer.step()
    torch.manual_seed(0)
    model, penalty = build_model("resnet18", width=4), REGULARIZERS[name](**options)
    for _ in range(2):
        step(model, penalty)
    state = penalty.state_dict()
    assert set(state) <= {layer.name for layer in find_layers(model)} and len(state) > 10
    resumed_model, resumed = copy.deepcopy(model), REGULARIZERS[name](**options)
    resumed.load_state_dict(state)
    with torch.no_grad():
        penalty.values(model)  # a look for the log leaves no trace
    resumed_before = resumed.state_dict()
    for _ in range(2):
        step(model, penalty)
        step(resumed_model, resumed)
    for a, b in zip(model.parameters(), resumed_model.parameters(), strict=True):
        assert torch.equal(a, b)
    assert any(not torch.equal(tensor, state[key]) for key, tensor in resumed.state_dict().items())
    assert all(torch.equal(tensor, resumed_before[key]) for key, tensor in state.items())  # copies, both ways


def test_nothing_touches_torchs_global_generator(network):
    before = torch.get_rng_state()
    for kind in REGULARIZERS.values():
        kind(**kind.training_options)(network)
    assert torch.equal(torch.get_rng_state(), before)


def test_sampled_frequencies_are_unbiased():
    torch.manual_seed(0)
    layer = nn.Conv2d(3, 4, 3).double()
    full = REGULARIZERS["frame-spectral"](lower=0.4, upper=0.5, grid=4)(layer)
    want, = torch.autograd.grad(full, layer.weight)
    sampled = REGULARIZERS["frame-spectral"](lower=0.4, upper=0.5, grid=4, sample=4000)(layer)
    got, = torch.autograd.grad(sampled, layer.weight)
    assert sampled.item() == pytest.approx(full.item(), rel=0.05)
    assert (got - want).norm() < 0.05 * want.norm()


@pytest.mark.parametrize(("name", "options", "message"), [
    ("fram", {}, "unknown regularizer 'fram'; did you mean frame"),
    ("frame", {"lowr": 1}, "unknown option of frame 'lowr'; did you mean lower"),
    ("so", {"_state": {}}, "unknown option of so '_state'"),
    ("frame", {"lower": 2.0, "upper": 1.0}, "lower frame bound 2.0 is above the upper one 1.0"),
    ("srip", {"iterations": 10**9}, "option iterations must be at most"),
    ("frame-spectral", {"lower": -1}, "option lower must be a finite number of at least 0, not -1"),
    ("frame", {"upper": float("nan")}, "option upper must be a finite number"),
    ("frame-spectral", {"grid": 0}, "option grid must be a finite number of at least 1"),
    ("frame-spectral", {"grid": 8.5}, "option grid must be of type int, not 8.5"),
    ("frame", {"lower": "abc"}, "option lower must be of type float, not 'abc'"),
    ("frame", {"lower": True}, "option lower must be of type float, not True"),
    ("frame", {"relative": "yes"}, "option relative must be of type bool, not 'yes'"),
    ("frame-spectral", {"sample": -1}, "option sample must be"),
    ("frame", {"side": "uper"}, "option side 'uper'; did you mean upper"),
    ("frame", {"side": True}, "option side 'True'"),
    ("frame-spectral", {"scale": "ln"}, "option scale 'ln'"),
    ("frame-spectral", {"offset": 0}, "option offset must be"),
    ("so", {"first": -1}, "option first must be"),
    ("so", {"first": 1.5}, "option first must be of type int"),
    ("so", {"folded": 1}, "option folded must be of type bool"),
    ("srip", {"iterations": -1}, "option iterations must be"),
    ("mhe", {"power": 3}, "must be 0, 1 or 2, not 3"),
    ("mhe", {"classifier_weight": -1}, "option classifier_weight must be"),
    ("so", {"layers": ("bodi",)}, "unknown kind of layer 'bodi'; did you mean body"),
    ("so", {"layers": 5}, "option layers must name kinds of layers .*, not 5"),
    ("so", {"layers": None}, "option layers must name kinds of layers"),
    ("so", {"layers": ()}, "needs at least one kind of layer"),
])
def test_bad_options_are_refused(name, options, message):
    with pytest.raises(InputError, match=message):
        build(name, **options)


def test_a_policy_without_layers_is_refused():
    with pytest.raises(InputError, match="no layer of the kinds stem; it has classifier"):
        REGULARIZERS["so"](layers=("stem",))(nn.Linear(2, 2))
    with pytest.raises(InputError, match="no convolution or linear layer at all"):
        REGULARIZERS["so"]()(nn.ReLU())
