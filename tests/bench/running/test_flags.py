from __future__ import annotations

import random
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from bench.rows.store import Store
from bench.run import main
from bench.running.flags import PAGE, duplicate_flags, gradient_flags, model_flags, result_flags
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
    assert _flags(Scaled(before, after), samples) == [anchor]


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
    (Detached(lambda x: x.detach()), "is not differentiable"),
    (Detached(lambda x: torch.from_numpy(x.numpy())), "fails when gradients are asked for (RuntimeError)"),
    (Scaled(after=lambda z: (40 * z).softmax(1)), "vanish"),
])
def test_masked_gradients_are_told(samples, module, words):
    x, y = samples
    (flag,) = gradient_flags(module.requires_grad_("differentiable" not in words).eval(), x[:16], y[:16])
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


def test_training_images_are_counted_and_left_out():
    right, twice = np.arange(2000) % 10 > 0, np.arange(2000) < 50
    right[:50] = True
    (flag,) = duplicate_flags("mine", right, twice)
    assert flag.startswith("50 of 2,000 images of mine (2.5%) are, exactly or nearly, images of CIFAR-10's training")
    assert f"accuracy is {right.mean():.1%}, 90.0% without them" in flag and right.mean() > 0.9
    assert duplicate_flags("mine", right, np.arange(2000) < 1) == []
    assert "no others are left" in duplicate_flags("mine", right[:3], np.ones(3, bool))[0]


def test_every_flag_has_its_section():
    page = (Path(__file__).parents[3] / PAGE).read_text()
    source = (Path(__file__).parents[3] / "bench" / "running" / "flags.py").read_text()
    anchors = set(re.findall(r'_flag\("([a-z-]+)"', source))
    assert len(anchors) == 11 and anchors == set(re.findall(r"^## ([a-z-]+)$", page, re.MULTILINE))


def _entry(attack, unit, budget, asr, low, high):
    return {"model": "m", "domain": "d", "attack": attack, "epsilon": 0.2, "unit": unit, "budget": budget, "n": 100,
            "norm": None, "bound": None, "asr": asr, "ci_low": low, "ci_high": high}


def test_results_are_read_over():
    good = [_entry("simba-pixel", "queries", 0, 0.0, 0, 0.1), _entry("simba-pixel", "queries", 100, 0.5, 0.4, 0.6),
            _entry("noise-pixel", "queries", 100, 0.1, 0.05, 0.2)]
    assert result_flags(pd.DataFrame(good)) == []
    (control,) = result_flags(pd.DataFrame([*good, _entry("simba-dct", "queries", 0, 0.45, 0.4, 0.5)]))
    assert "ASR of simba-dct on d is 45.0% at budget 0" in control and "#control" in control


@pytest.mark.parametrize(("attack", "changes", "noise", "raised"), [
    ("simba-pixel", {}, {}, True),
    ("simba-pixel-best-of-two-probability-s1", {}, {}, True),
    ("simba-dct", {}, {}, False),
    ("simba-pixel-eps0.1", {"epsilon": 0.1}, {}, False),
    ("simba-pixel", {"n": 50}, {}, False),
    ("simba-pixel", {"budget": 50}, {}, False),
    ("simba-pixel", {"ci_high": 0.3}, {}, False),
    ("simba-pixel-L2cap0.5", {"norm": "l2", "bound": 0.5}, {}, False),
    ("simba-pixel-L2cap0.5", {"norm": "l2", "bound": 0.5}, {"attack": "noise-pixel-L2cap0.5", "norm": "l2",
                                                            "bound": 0.5}, True),
    ("simba-pixel-linf0.1-L2cap0.5", {"norm": "l2", "bound": 0.5}, {"attack": "noise-pixel-L2cap0.5", "norm": "l2",
                                                                    "bound": 0.5}, False),
    ("simba-pixel-linf0.1", {"norm": "linf", "bound": 0.1}, {}, False),
    ("simba-pixel-targeted", {}, {}, False),
    ("simba-pixel-low-frequency", {}, {}, False),
    ("simba-pixel-normalised-clip", {}, {}, False),
    ("square-Linf-schedule100", {"norm": "linf", "bound": 0.2}, {}, False),
    ("foolbox:HopSkipJumpAttack", {"norm": "l2", "bound": 1.0}, {}, False),
])
def test_noise_is_the_control_of_simba_of_the_same_steps(attack, changes, noise, raised):
    weak = {**_entry(attack, "queries", 100, 0.01, 0, 0.04), **changes}
    control = {**_entry("noise-pixel", "queries", 100, 0.3, 0.2, 0.4), **noise}
    flags = result_flags(pd.DataFrame([weak, control]))
    assert bool(flags) == raised
    if raised:
        assert f"{attack} on d breaks fewer images than random noise of the same steps at 100 queries" in flags[0]
        assert flags[0].endswith("#weaker-than-noise)")


def _last(attack, epsilon, norm, bound, low, high, budget=100, n=100):
    return {**_entry(attack, "iterations", budget, (low + high) / 2, low, high), "epsilon": epsilon, "norm": norm,
            "bound": bound, "n": n}


@pytest.mark.parametrize(("white", "black", "raised"), [
    (("apgd-Linf-white-box", 0.03, "linf", 0.03), ("square-Linf", 0.03, "linf", 0.03), True),
    (("apgd-Linf-white-box", 0.03, "linf", 0.03), ("square-Linf", 0.02, "linf", 0.02), True),
    (("apgd-Linf-white-box", 0.03, "linf", 0.03), ("square-Linf", 0.04, "linf", 0.04), False),
    (("apgd-L2-white-box", 0.5, "l2", 0.5), ("square-Linf", 0.03, "linf", 0.03), False),
    (("apgd-Linf-white-box", 0.03, "linf", 0.03), ("simba-pixel-linf0.03", 0.2, "linf", 0.03), True),
    (("apgd-Linf-white-box", 0.03, "linf", 0.03), ("simba-pixel", 0.01, None, None), False),
    (("apgd-L2-white-box", 0.5, "l2", 0.5), ("simba-dct-L2cap0.5", 0.2, "l2", 0.5), True),
    (("apgd-L2-white-box-L2cap0.1", 0.5, "l2", 0.1), ("simba-dct-L2cap0.1", 0.2, "l2", 0.1), False),
    (("foolbox:DDNAttack-white-box", 1.0, "l2", 1.0), ("foolbox:HopSkipJumpAttack", 1.0, "l2", 1.0), True),
    (("foolbox:LinfFastGradientAttack-white-box", 0.03, "linf", 0.03), ("square-Linf", 0.03, "linf", 0.03), False),
    (("apgd-Linf-white-box", 0.03, "linf", 0.03), ("simba-pixel-targeted-linf0.03", 0.2, "linf", 0.03), False),
])
def test_a_white_box_attack_that_a_blind_one_beats(white, black, raised):
    flags = result_flags(pd.DataFrame([_last(*white, 0.1, 0.2), _last(*black, 0.3, 0.4)]))
    assert bool(flags) == raised
    if raised:
        assert f"{white[0]} on d breaks 15.0% of the images, {black[0]} 35.0%" in flags[0]
        assert flags[0].endswith("#weaker-than-black-box)")


def test_white_boxes_are_compared_fairly():
    white = _last("apgd-Linf-white-box", 0.03, "linf", 0.03, 0.1, 0.2)
    black = _last("square-Linf", 0.03, "linf", 0.03, 0.3, 0.4)
    assert result_flags(pd.DataFrame([white, {**black, "n": 50}])) == [], "other images"
    assert result_flags(pd.DataFrame([white, {**black, "ci_low": 0.15}])) == [], "intervals overlap"
    assert result_flags(pd.DataFrame([{**white, "budget": 10}, black])) == [], "too few steps"
    later = {**white, "budget": 1000, "ci_low": 0.5, "ci_high": 0.6}
    assert result_flags(pd.DataFrame([later, white, black])) == [], "the last budget counts"


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
    assert "its labels are shifted" in captured.out + captured.err
    assert "its labels are shifted" in (out / "report" / "index.html").read_text()
    capsys.readouterr()
    assert main(["attack", "--models", f"python:{path}:make", "--domain", "samples", "--out", str(out), "-n", "2",
                 "--budgets", "1", "--epsilon", "0.1", "0.2", "--threads", "1"]) == 0
    captured = capsys.readouterr()
    assert (captured.out + captured.err).count("its labels are shifted") == 1, "once, not for every epsilon"
    attacked = [rows for rows in Store(out).all() if rows.evaluation.attack == "simba"]
    assert [any("labels are shifted" in flag for flag in rows.facts["warnings"]) for rows in attacked] == [True, True]
