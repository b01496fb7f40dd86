from __future__ import annotations

import pytest
import torch

from framebench.models import load_model
from framebench.models.architectures import build
from framebench.models.differentiable import Differentiable


def differentiated(model, x):
    x = x.clone().requires_grad_()
    logits = model(x)
    return logits.detach(), torch.autograd.grad(logits[:, :3].square().sum(), x)[0]


@pytest.fixture
def images():
    return torch.rand(41, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("threads", [1, 2])
def test_logits_and_gradients_are_the_models_and_depend_on_no_batch(images, threads):
    torch.manual_seed(0)
    module = build("resnet20", width=8).eval()
    expected = differentiated(module, images)
    model = Differentiable(module, images[:32], threads=threads)
    whole = differentiated(model, images)
    for found, want in zip(whole, expected, strict=True):
        torch.testing.assert_close(found, want, rtol=1e-4, atol=1e-5)
    for n in (1, 2, 3, 9, 17, 33):
        for found, want in zip(differentiated(model, images[:n]), whole, strict=True):
            assert torch.equal(found, want[:n]), n


def test_a_shipped_models_gradients_depend_on_no_batch(images):
    model = Differentiable(load_model("baseline"), images[:32])
    whole = differentiated(model, images[:34])
    for n in (1, 5, 20):
        for found, want in zip(differentiated(model, images[:n]), whole, strict=True):
            assert torch.equal(found, want[:n]), n


def test_an_answer_can_be_differentiated_again(images):
    torch.manual_seed(0)
    model = Differentiable(build("resnet20", width=8).eval(), images[:8])
    x = images[:3].clone().requires_grad_()
    logits = model(x)
    (first,), (second,) = (torch.autograd.grad(logits[:, i].sum(), x, retain_graph=True) for i in (0, 1))
    assert not torch.equal(first, second)
    assert torch.equal(torch.autograd.grad(logits[:, 0].sum(), x)[0], first)


def test_images_that_need_no_gradient_get_plain_logits(images):
    model = Differentiable(build("resnet20", width=8).eval(), images[:8])
    assert not model(images[:3]).requires_grad
    with torch.no_grad():
        assert not model(images[:3].clone().requires_grad_()).requires_grad
