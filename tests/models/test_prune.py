from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from framebench.errors import InputError
from framebench.models.architectures import build
from framebench.models.prune import choose, filter_scores, find_prunable, prune_, weight_scores
from tests.conftest import make_network

LABELS = torch.arange(12) % 10


def outputs(model, x):
    """Run the model; return the output channels of every layer that `find_prunable` names."""
    kept = {}
    hooks = [layer.output.register_forward_hook(lambda m, i, y, name=layer.name: kept.__setitem__(name, y))
             for layer in find_prunable(model)]
    model(x)
    for hook in hooks:
        hook.remove()
    return kept


@pytest.mark.parametrize(("arch", "pairs"), [
    ("speednet", {"conv": None, "blocks.0.conv1": "blocks.0.bn1", "blocks.2.conv2": "blocks.2.bn2"}),
    ("resnet20", {"conv": "bn", "blocks.3.conv1": "blocks.3.bn1", "blocks.3.conv2": "blocks.3.bn2",
                  "blocks.3.shortcut.0": "blocks.3.shortcut.1"}),
    ("resnet50", {"blocks.0.conv3": "blocks.0.bn3", "blocks.0.shortcut.0": "blocks.0.shortcut.1"}),
])
def test_every_convolution_finds_its_own_batch_norm(arch, pairs):
    model = build(arch, width=4)
    found = {layer.name: layer for layer in find_prunable(model)}
    assert set(found) == {name for name, m in model.named_modules() if isinstance(m, nn.Conv2d)}
    norms = [layer.norm for layer in found.values() if layer.norm is not None]
    assert set(norms) == {m for m in model.modules() if isinstance(m, nn.BatchNorm2d)}, "each is found once"
    assert {name: found[name].norm for name in pairs} == {
        name: norm and model.get_submodule(norm) for name, norm in pairs.items()}


def test_a_batch_norm_behind_a_sum_is_nobodys_own():
    class PreActivation(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.bn = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

        def forward(self, x):
            return self.bn(self.conv(x) + x)

    (layer,) = find_prunable(PreActivation())
    assert layer.norm is None and layer.output is layer.conv


@pytest.mark.parametrize("arch", ["speednet", "resnet20", "resnet50"])
@pytest.mark.parametrize("criterion", ["taylor", "magnitude"])
def test_pruned_channels_are_zero_and_their_number_is_exact(images, arch, criterion):
    model = make_network(arch, 4)
    untouched = make_network(arch, 4)
    removed = prune_(model, 0.4, criterion=criterion, batches=[(images, LABELS)])
    total = sum(m.out_channels for m in model.modules() if isinstance(m, nn.Conv2d))
    assert sum(count for count, _ in removed.values()) == round(0.4 * total)
    assert sum(of for _, of in removed.values()) == total
    for name, y in outputs(model, images).items():
        dead = (y == 0).all(dim=(0, 2, 3))
        assert int(dead.sum()) == removed[name][0] < removed[name][1]
    for layer, before in zip(find_prunable(model), find_prunable(untouched), strict=True):
        kept = layer.output.weight.flatten(1).any(1) if layer.norm is None else layer.output.weight != 0
        assert torch.equal(layer.conv.weight[kept], before.conv.weight[kept])
    assert torch.equal(model.fc.weight, untouched.fc.weight), "the classifier stays"
    assert torch.isfinite(model(images)).all()


def test_zeroed_filters_compute_what_the_smaller_network_computes(images):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.MaxPool2d(2), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 4, 3),
                          nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10)).eval()
    nn.init.normal_(model[2].bias)
    model[2].running_mean.normal_()
    model[0].weight.data[[1, 4]] *= 1e-3
    model[4].weight.data *= 10  # the other layer's scale must not matter
    assert prune_(model, 0.2, criterion="magnitude") == {"0": (2, 6), "4": (0, 4)}
    kept = [0, 2, 3, 5]
    y = F.max_pool2d(F.conv2d(images, model[0].weight[kept], model[0].bias[kept]), 2)
    norm = model[2]
    y = F.batch_norm(y, norm.running_mean[kept], norm.running_var[kept], norm.weight[kept], norm.bias[kept])
    y = F.conv2d(y.relu(), model[4].weight[:, kept], model[4].bias).mean((2, 3))
    torch.testing.assert_close(model(images), model[7](y))


def test_a_channel_that_nothing_uses_goes_first_by_taylor_and_a_small_one_by_magnitude(images):
    def network():
        model = make_network("speednet", 4)
        model.blocks[1].conv2.weight.data[:, 5] = 0  # nothing reads channel 5 of blocks.1.conv1
        model.blocks[1].conv1.weight.data[5] *= 3
        model.blocks[1].conv1.weight.data[2] *= 1e-4
        return model

    share = 1 / sum(layer.conv.out_channels for layer in find_prunable(network()))
    for criterion, channel in (("taylor", 5), ("magnitude", 2)):
        model = network()
        removed = prune_(model, share, criterion=criterion, batches=[(images, LABELS)])
        assert [name for name, (count, _) in removed.items() if count] == ["blocks.1.conv1"]
        assert model.blocks[1].bn1.weight.eq(0).nonzero().tolist() == [[channel]], criterion


def test_the_taylor_criterion_is_its_formula(images):
    """Against the derivative by a gate of 1 on every output channel, image by image."""
    model = make_network("resnet20", 4).double()
    layers = find_prunable(model)
    batches = [(images[:5].double(), LABELS[:5]), (images[5:].double(), LABELS[5:])]
    scores = filter_scores(model, layers, batches)
    for i in (0, 4, len(layers) - 1):
        gate = torch.ones(layers[i].conv.out_channels, dtype=torch.float64, requires_grad=True)
        hook = layers[i].output.register_forward_hook(lambda m, x, y, g=gate: y * g[:, None, None])
        total = torch.zeros_like(gate)
        for x, label in zip(images.double(), LABELS, strict=True):
            loss = F.cross_entropy(model(x[None]), label[None])
            total += torch.autograd.grad(loss, gate)[0].abs()
        hook.remove()
        torch.testing.assert_close(scores[i], total / total.norm())


def test_the_scores_of_weights_are_their_formulas(images):
    model = make_network("speednet", 4).double()
    layers = find_prunable(model)
    x = images.double()
    scores = weight_scores(model, layers, [(x[:5], LABELS[:5]), (x[5:], LABELS[5:])])
    F.cross_entropy(model(x), LABELS).backward()
    for layer, score in zip(layers, scores, strict=True):
        weight = layer.conv.weight
        torch.testing.assert_close(score, (weight * weight.grad).abs().detach())
    for layer, score in zip(layers, weight_scores(model, layers, None), strict=True):
        assert torch.equal(score, layer.conv.weight.detach().abs())


def test_weights_go_by_size_over_all_layers(images):
    model = make_network("speednet", 4)
    before = torch.cat([layer.conv.weight.detach().flatten() for layer in find_prunable(model)])
    removed = prune_(model, 0.3, criterion="magnitude", units="weights")
    after = torch.cat([layer.conv.weight.detach().flatten() for layer in find_prunable(model)])
    count = round(0.3 * len(before))
    assert sum(n for n, _ in removed.values()) == count == int((after == 0).sum())
    assert before.abs()[after == 0].max() <= before.abs()[after != 0].min()
    assert torch.equal(after[after != 0], before[after != 0])


def test_no_layer_is_emptied():
    scores = [torch.tensor([1e-9, 2e-9]), torch.tensor([1.0, 2.0, 3.0]), torch.zeros(2)]
    removed = choose(scores, 4 / 7)
    assert [mask.tolist() for mask in removed[:2]] == [[True, False], [True, True, False]]
    assert int(removed[2].sum()) == 1
    assert torch.equal(scores[0], torch.tensor([1e-9, 2e-9])), "the scores stay as they are"


def test_a_growing_share_goes_on_where_it_stopped(images):
    model = make_network("speednet", 4)
    prune_(model, 0.2, batches=[(images, LABELS)])
    zero = [layer.output.weight == 0 for layer in find_prunable(model) if layer.norm]
    removed = prune_(model, 0.4, batches=[(images, LABELS)])
    assert all((layer.output.weight[was] == 0).all()
               for layer, was in zip([p for p in find_prunable(model) if p.norm], zero, strict=True))
    assert sum(n for n, _ in removed.values()) == round(0.4 * sum(of for _, of in removed.values()))


class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x):
        return self.conv(x) if x.sum() > 0 else x


def shared_norm():
    norm = nn.BatchNorm2d(3)
    return nn.Sequential(nn.Conv2d(3, 3, 1), norm, nn.Conv2d(3, 3, 1), norm)


@pytest.mark.parametrize(("model", "message"), [
    (Branching(), "can't be traced to find its batch norms"),
    (nn.Sequential(nn.Flatten(), nn.Linear(3072, 10)), "has no nn.Conv2d"),
    (shared_norm(), "the convolution 0 or its batch norm is used more than once"),
    (nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3, affine=False)), "behind 0 has no scale and shift"),
])
def test_models_that_cannot_be_pruned(model, message):
    with pytest.raises(InputError, match=message) as caught:
        prune_(model, 0.5, criterion="magnitude")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("options", "message"), [
    ({"share": 0}, "must lie between 0 and 1"), ({"share": 1}, "must lie between 0 and 1"),
    ({"share": math.nan}, "must lie between 0 and 1, both excluded, not nan"),
    ({"share": 0.001}, "a share of 0.001 is 0 of"), ({"share": 0.99}, "choose a share from"),
    ({"criterion": "tailor"}, "unknown criterion 'tailor'; did you mean taylor"),
    ({"units": "filter"}, "did you mean filters"),
    ({"criterion": "taylor"}, "needs labelled images"), ({"criterion": "taylor", "batches": []}, "at least one image"),
])
def test_bad_options(options, message):
    model = make_network("speednet", 4)
    before = [p.clone() for p in model.parameters()]
    with pytest.raises(InputError, match=message):
        prune_(model, **{"share": 0.5, "criterion": "magnitude", **options})
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_weights_that_are_not_finite_are_refused():
    model = make_network("speednet", 4)
    model.conv.weight.data[0] = math.nan
    with pytest.raises(InputError, match="not finite"):
        prune_(model, 0.5, criterion="magnitude")
