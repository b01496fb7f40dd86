"""Models in bfloat16: other digits, a name and a digest of their own."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import framebench
from bench.rows.store import Store
from framebench.domains import load_domain
from framebench.errors import InputError
from framebench.models.differentiable import Differentiable
from framebench.models.foreign import Preprocessed, resizing
from framebench.models.precision import InBFloat16
from framebench.models.predictor import Predictor
from framebench.models.registry import card_of, in_bfloat16, load, wrap


@pytest.fixture(scope="module")
def samples():
    return load_domain("samples").load(range(20))


def test_it_is_another_model_with_nearly_the_same_logits(samples):
    x, y = samples
    plain, half = load("baseline"), load("bf16:baseline")
    assert (half.name, half.card) == ("bf16:baseline", plain.card) and half.digest != plain.digest
    assert half.digest == load("bf16:baseline").digest and card_of("bf16:baseline") == plain.card
    exact, rounded = (Predictor(model.module, x)(x) for model in (plain, half))
    assert rounded.dtype == torch.float32 and 1e-3 < float((rounded - exact).abs().max()) < 0.3
    assert (rounded.argmax(1) == y).float().mean() > 0.9


def test_an_images_logits_do_not_depend_on_its_batch(samples):
    x, _ = samples
    predict = Predictor(load("bf16:baseline").module, x)
    assert torch.equal(torch.cat([predict(x[:3]), predict(x[3:4]), predict(x[4:])]), predict(x))


def test_it_has_gradients(samples):
    x, _ = samples
    model = Differentiable(load("bf16:baseline").module, x)
    images = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(model(images).sum(), images)
    assert gradient.isfinite().all() and gradient.abs().sum() > 0


def test_twice_is_once():
    half = load("bf16:baseline")
    assert in_bfloat16(half) is half


def test_a_users_name_says_nothing_of_how_a_model_computes():
    named = in_bfloat16(wrap(load("baseline").module, "bf16:mine"))
    assert isinstance(named.module, InBFloat16)


def test_it_is_still_known_to_resize():
    assert resizing(InBFloat16(Preprocessed(nn.Identity(), size=(48, 48))), 32, 32) == "32x32 to 48x48 (bilinear)"


def test_a_black_box_is_refused(tmp_path):
    (tmp_path / "m.py").write_text("import torch\n\ndef ask(x):\n    return torch.zeros(len(x), 10)\n")
    with pytest.raises(InputError, match="black box"):
        load(f"bf16:blackbox:{tmp_path}/m.py:ask")


def test_both_are_compared_on_the_same_images(tmp_path):
    found = framebench.attack("baseline", "bf16:baseline", n=4, budgets=[10], out=tmp_path)
    assert set(found.attack["model"]) == {"baseline", "bf16:baseline"} and len(found.paired)


def test_precision_is_part_of_a_rows_key(tmp_path):
    for precision in ("fp32", "bf16", "bf16"):
        found = framebench.attack("baseline", n=4, budgets=[10], out=tmp_path, precision=precision)
    assert set(found.attack["model"]) == {"baseline", "bf16:baseline"} and len(Store(tmp_path).all()) == 2
    module = ("mine", load("baseline").module)
    shifted = framebench.shift(module, domains=["samples"], out=tmp_path / "shift", precision="bf16")
    assert set(shifted.shift["model"]) == {"bf16:mine"}
