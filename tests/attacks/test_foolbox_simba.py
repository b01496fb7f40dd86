from __future__ import annotations

import pytest
import torch

from framebench.attacks.simba import SimBA, simba


@pytest.fixture
def setting(network, images):
    foolbox = pytest.importorskip("foolbox")
    model = foolbox.PyTorchModel(network, bounds=(0, 1), device="cpu")
    with torch.inference_mode():
        labels = network(images).argmax(1)
    return model, labels.clone()


@pytest.mark.parametrize("options", [{}, {"basis": "dct", "seed": 4, "linf": 0.1}])
def test_gives_the_same_images(setting, network, images, options):
    model, labels = setting
    labels[0] = (labels[0] + 1) % 10
    raw, clipped, success = SimBA(max_iterations=30, ids=list(range(50, 62)), **options)(
        model, images, labels, epsilons=None)
    ours = simba(network, images, labels, max_iterations=30, ids=range(50, 62), **options)
    assert torch.equal(raw, ours.x_adv)
    assert torch.equal(clipped, ours.x_adv)
    assert torch.equal(success, ours.success_iteration >= 0)


def test_targeted_criterion(setting, network, images):
    from foolbox.criteria import TargetedMisclassification

    model, labels = setting
    targets = (labels + 1) % 10
    raw, _, _ = SimBA(max_iterations=20)(model, images, TargetedMisclassification(targets), epsilons=None)
    assert torch.equal(raw, simba(network, images, labels, targets=targets, max_iterations=20).x_adv)


def test_other_bounds_and_criteria_are_refused(setting, network, images):
    import foolbox

    model, labels = setting
    with pytest.raises(ValueError, match="bounds are"):
        SimBA()(foolbox.PyTorchModel(network, bounds=(0, 255), device="cpu"), images * 255, labels, epsilons=None)
    class Anything(foolbox.criteria.Criterion):
        def __repr__(self):
            return "Anything()"

        def __call__(self, perturbed, outputs):
            return perturbed

    with pytest.raises(ValueError, match=r"misclassification, targeted or not, but not Anything"):
        SimBA()(model, images, Anything(), epsilons=None)
