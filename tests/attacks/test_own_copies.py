"""No model can touch what an attack keeps: one that spoils its input, or its last answer, gives the same rows."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from framebench.attacks.registry import make
from framebench.attacks.simba import simba
from framebench.models.layers import Normalize

USER = """
def step(model, images, labels, *, epsilon, budget, generator):
    import torch
    for _ in range(budget):
        images = (images + 0.1 * torch.randn(images.shape, generator=generator)).clamp(0, 1)
        model(images)
step.needs = "{needs}"
"""

KINDS = {
    "simba pixel": ("simba", {}), "simba dct": ("simba", {"basis": "dct"}),
    "simba cumulative": ("simba", {"basis": "dct", "clip": "cumulative", "step": "best-of-two"}),
    "simba normalised-clip": ("simba", {"convention": "normalised-clip"}), "noise": ("noise", {}),
    "noise dct": ("noise", {"basis": "dct"}), "square": ("square", {}), "apgd": ("apgd", {}),
    "foolbox:HopSkipJumpAttack": ("foolbox:HopSkipJumpAttack", {"steps": 3, "initial_gradient_eval_steps": 5}),
    "foolbox:PGD": ("foolbox:PGD", {"steps": 8}), "python scores": ("python:{file}:step", {}),
    "python gradients": ("python:{file}:step", {}),
}


class Net(torch.nn.Module):
    """A small network; a spoiling one writes into its input after the answer, and reuses the memory of its answers."""

    def __init__(self, spoils):
        super().__init__()
        draws = torch.Generator().manual_seed(0)
        self.first = torch.randn(48, 192, generator=draws) * 0.3
        self.second = torch.randn(5, 48, generator=draws) * 0.6
        self.normalize = Normalize((0.5, 0.5, 0.5), (0.5, 0.4, 0.5))
        self.spoils, self.last = spoils, None

    def forward(self, x):
        logits = torch.tanh(self.normalize(x).flatten(1) @ self.first.T) @ self.second.T
        if self.spoils:
            with torch.no_grad():
                x.fill_(float("nan"))
                if self.last is not None:
                    self.last.fill_(7)
                self.last = logits.detach()
        return logits


def load_from(x, y):
    return lambda ids: (x[torch.as_tensor(ids)], y[torch.as_tensor(ids)])


def rows(attack, model, x, y):
    found = {}
    for done in attack.on(model).stream(model, load_from(x, y), np.arange(len(x)), seed=2, batch_size=4):
        for i, example in enumerate(done.ids.tolist()):
            found[example] = [np.asarray(getattr(done, field.name)[i]).tolist() for field in dataclasses.fields(done)]
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_that_spoils_its_input_gives_the_same_rows(tmp_path, kind):
    file = tmp_path / "mine.py"
    file.write_text(USER.format(needs=kind.split()[-1]))
    name, options = KINDS[kind]
    x = torch.rand(9, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    attack = make(name.format(file=file), budget=20, epsilon=2.0 if "Hop" in kind else 0.1, options=options)
    with torch.inference_mode():
        y = Net(spoils=False)(x).argmax(1).clone()
    before = x.clone()
    good = rows(attack, Net(spoils=False), x, y)
    assert rows(attack, Net(spoils=True), x, y) == good
    assert torch.equal(x, before), "the images of the data set"
    assert len({tuple(row[6:7]) for row in good.values()}) > 1 or "normalised" in kind, "no two alike"


def test_simba_on_tensors_leaves_them_alone():
    x = torch.rand(9, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    y = Net(spoils=False)(x).argmax(1)
    good, spoilt = (simba(Net(spoils), x, y, max_iterations=20, batch_size=9) for spoils in (False, True))
    assert torch.equal(good.x_adv, spoilt.x_adv) and torch.equal(good.queries, spoilt.queries)
