from __future__ import annotations

import random
import re

import pytest
import torch
from torch import nn

from bench.rows.flags import PAGE
from bench.rows.store import Store
from bench.run import main
from bench.running.flags import gradient_flags, model_flags
from framebench.domains import load_domain
from framebench.models import load_model


class Scaled(nn.Module):
    """The shipped model behind another reading of its inputs or outputs."""

    def __init__(self, before=None, after=None):
        super().__init__()
        self.model, self.before, self.after = load_model("baseline"), before, after

    def forward(self, x):
        x = x if self.before is None else self.before(x)
        z = self.model(x)
        return z if self.after is None else self.after(z)


@pytest.fixture(scope="module")
def samples():
    return load_domain("samples").load(range(20))


def _flags(model, samples):
    with torch.no_grad():
        return [re.search(rf"\({PAGE}#([a-z-]+)\)$", flag).group(1) for flag in model_flags(model, *samples)]


def test_the_shipped_model_has_none(samples):
    assert _flags(load_model("baseline"), samples) == []


@pytest.mark.parametrize(("before", "after", "anchor"), [
    (None, lambda z: z.softmax(1), "probabilities"),
    (None, lambda z: 20 * z, "saturated"),
    (None, lambda z: z + 0.01 * torch.randn_like(z), "random"),
    (None, lambda z: random.choice([z, z + 0.01]), "random"),
    (None, lambda z: z - z.mean(0), "batch"),
    (None, lambda z: z.roll(1, 1), "labels"),
    (lambda x: x / 255, None, "normalisation"),
    (lambda x: 0.47 + 0.15 * x, None, "normalisation"),
])
def test_each_mistake_has_its_flag(samples, before, after, anchor):
    random.seed(0)  # by chance all eight answers agree once in 128 times
    assert _flags(Scaled(before, after), samples) == [anchor]


def test_of_two_explanations_the_better_one_is_told():
    """Classes by brightness, in another order: scaled to [-1, 1], two of three are correct by chance."""
    y = torch.arange(12) % 3
    x = torch.tensor([0.2, 0.5, 0.8])[y, None, None, None].expand(-1, 3, 8, 8)
    centres = torch.tensor([0.2, 0.5, 0.8])
    assert _flags(lambda x: -40 * (x.mean((1, 2, 3))[:, None] - centres).square().roll(1, 1), (x, y)) == ["labels"]


class Detached(nn.Module):
    """A model that leaves torch on its way."""

    def __init__(self, step):
        super().__init__()
        self.model, self.step = load_model("baseline"), step

    def forward(self, x):
        return self.model(self.step(x))


class Root(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x

    @staticmethod
    def backward(ctx, gradient):
        return gradient * float("nan")


def _half(x):
    return torch.where(torch.arange(len(x)).view(-1, 1, 1, 1) % 2 == 0, x, x.detach())


def test_confident_and_scaled_models_have_gradients(samples):
    x, y = samples
    for after in (None, lambda z: 100 * z, lambda z: 1e-4 * z, lambda z: z.log_softmax(1)):
        assert gradient_flags(Scaled(after=after).eval(), x[:16], y[:16]) == []


@pytest.mark.parametrize(("module", "words"), [
    (Detached(lambda x: (255 * x).round() / 255), "vanish or are not finite on 100% of 16 images"),
    (Detached(Root.apply), "not finite on 100%"),
    (Detached(_half), "on 50% of 16 images"),
    (Detached(lambda x: x.detach()), "not differentiable"),
    (Detached(lambda x: torch.from_numpy(x.numpy())), "(RuntimeError)"),
    (Scaled(after=lambda z: (40 * z).softmax(1)), "vanish"),
])
def test_masked_gradients_are_told(samples, module, words):
    x, y = samples
    (flag,) = gradient_flags(module.requires_grad_(words != "not differentiable").eval(), x[:16], y[:16])
    assert words in flag and flag.endswith("#gradients)")


def test_looking_at_gradients_leaves_nothing_behind(samples):
    x, y = samples
    module = load_model("baseline")
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    grads = [parameter.requires_grad for parameter in module.parameters()]
    with torch.inference_mode():
        assert gradient_flags(module, x[:4], y[:4]) == []
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())
    assert [parameter.requires_grad for parameter in module.parameters()] == grads and not module.training
    assert all(parameter.grad is None for parameter in module.parameters()) and not x.requires_grad


def test_flags_are_printed_and_head_the_report(tmp_path, capsys):
    path = tmp_path / "shifted.py"
    path.write_text("import torch\nfrom framebench.models import load_model\n"
                    "class Shifted(torch.nn.Module):\n"
                    "    def __init__(self):\n        super().__init__()\n        self.model = load_model('baseline')\n"
                    "    def forward(self, x):\n        return self.model(x).roll(1, 1)\n"
                    "def make(): return Shifted()\n")
    out = tmp_path / "out"
    assert main(["shift", "--models", f"python:{path}:make", "--domains", "samples", "--out", str(out),
                 "--threads", "1"]) == 0
    captured = capsys.readouterr()
    assert "the labels are shifted" in captured.out + captured.err
    assert "the labels are shifted" in (out / "report" / "index.html").read_text()
    capsys.readouterr()
    assert main(["attack", "--models", f"python:{path}:make", "--domain", "samples", "--out", str(out), "-n", "2",
                 "--budgets", "1", "--epsilon", "0.1", "0.2", "--threads", "1"]) == 0
    captured = capsys.readouterr()
    assert (captured.out + captured.err).count("the labels are shifted") == 1, "once, not for every epsilon"
    attacked = [rows for rows in Store(out).all() if rows.evaluation.attack == "simba"]
    assert [any("labels are shifted" in flag for flag in rows.facts.warnings) for rows in attacked] == [True, True]
