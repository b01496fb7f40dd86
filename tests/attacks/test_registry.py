"""One interface: an attack is one file and one line, and names cost nothing until an attack is made."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
import torch

from framebench.attacks import registry
from framebench.attacks.base import Traits, label
from framebench.attacks.bases import BASES
from framebench.attacks.options import CHOICES, SimBAOptions
from framebench.attacks.signatures import check_options
from framebench.attacks.single import SingleImageAttack
from framebench.errors import InputError


class Darken(SingleImageAttack):
    """Makes the image darker, a step per query."""

    name = "darken"

    def __init__(self, budget, epsilon=0.1, step=0.1):
        self.step, self.settings = step, {"epsilon": epsilon, "step": step}
        self.traits = Traits(label("darken", options={"step": step}), needs="labels", budget=budget, norm="linf",
                             epsilon=epsilon, bound=epsilon)

    def run(self, model, x, y, seed, example):
        """Attack one image."""
        while True:
            x = x - self.step
            model(x)


def darken(name, *, budget, epsilon, max_queries, options):
    check_options(name, Darken, options)
    return Darken(budget, 0.1 if epsilon is None else epsilon, **options)


def bright(x):
    """Class 0 where the image is bright."""
    mean = x.flatten(1).mean(1) - 0.5
    return torch.stack([mean, -mean], 1)


def test_a_new_attack_is_one_line_here(monkeypatch):
    monkeypatch.setitem(registry.ATTACKS, "darken", registry.Entry("darker and darker", darken))
    x = torch.tensor([0.55, 0.75, 0.95]).view(3, 1, 1, 1).expand(3, 3, 4, 4)
    attack = registry.make("darken", budget=6, epsilon=0.4, options={"step": 0.1})
    done = {int(d.ids[0]): d for d in attack.on(torch.nn.Identity()).stream(
        bright, lambda ids: (x[ids], torch.zeros(len(ids), dtype=torch.int64)), np.arange(3), seed=0, batch_size=2)}
    assert [int(done[i].success_iteration[0]) for i in range(3)] == [1, 3, -1]
    assert [int(done[i].queries[0]) for i in range(3)] == [2, 4, 7]
    assert attack.traits.label == "darken-step=0.1" and registry.canonical("darken") == "darken"
    with pytest.raises(InputError, match="did you mean darken"):
        registry.make("darkn", budget=6)
    with pytest.raises(InputError, match="must be a number"):
        registry.make("darken", budget=6, options={"step": "small"})


def test_names():
    assert registry.canonical("simba") == "simba"
    assert registry.canonical("foolbox:PGD") == "foolbox:LinfProjectedGradientDescentAttack"
    assert registry.canonical("foolbox:HopSkipJumpAttack") == "foolbox:HopSkipJumpAttack"
    assert registry.canonical("python:folder/mine.py:search") == "python:mine:search"
    assert all(entry.summary for entry in registry.ATTACKS.values())


@pytest.mark.parametrize(("name", "message"), [
    ("squre", "unknown attack 'squre'; did you mean square"),
    ("foolbox:HopSkipJump", "unknown attack of foolbox 'HopSkipJump'; did you mean HopSkipJumpAttack"),
    ("foolbox:GenAttack", "targeted only"),
    ("foolbox", "unknown attack 'foolbox'"), ("foolbox:NAME", "unknown attack of foolbox"),
    ("simba:x", "unknown attack 'simba:x'"), ("python:mine.py", "must read python:.*FILE.py:FUNCTION")])
def test_unknown_attacks_are_refused(name, message):
    for find in (registry.canonical, lambda given: registry.make(given, budget=3)):
        with pytest.raises(InputError, match=message):
            find(name)


def test_defaults_and_choices_of_simba_are_its_options():
    assert SimBAOptions() == registry.make("simba", budget=1000).options
    for name, choices in CHOICES.items():
        assert getattr(SimBAOptions, name) == choices[0]
    assert set(CHOICES["basis"]) == set(BASES)
    changed = {"basis": "dct", "order": "low-frequency", "step": "best-of-two", "objective": "probability",
               "targeted": True, "linf": 0.1, "clip": "cumulative", "convention": "normalised-clip"}
    made = registry.make("simba", budget=7, epsilon=0.3, max_queries=9, options=changed).options
    assert dataclasses.asdict(made) == {"budget": 7, "epsilon": 0.3, "max_queries": 9, **changed}


def test_the_command_line_reads_names_and_options_without_torch():
    code = ("import sys; from framebench.attacks import options, registry; assert registry.canonical('simba'); "
            "sys.exit('torch' in sys.modules or 'numpy' in sys.modules)")
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
