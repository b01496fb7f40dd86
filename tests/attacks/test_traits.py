"""What attacks declare of themselves: labels, bounds, what they need to see, and what their outcomes depend on."""

from __future__ import annotations

import dataclasses
import inspect
import json

import pytest

from framebench.attacks.foolbox_attacks import foolbox
from framebench.attacks.registry import make
from framebench.errors import InputError


@pytest.mark.parametrize(("name", "how", "label"), [
    ("simba", {}, "simba-pixel"),
    ("simba", {"options": {"basis": "dct", "order": "low-frequency"}}, "simba-dct-low-frequency"),
    ("simba", {"options": {"basis": "dct", "step": "best-of-two", "convention": "normalised-clip"}},
     "simba-dct-best-of-two-normalised-clip"),
    ("simba", {"options": {"clip": "cumulative", "linf": 0.1}, "epsilon": 2.0},
     "simba-pixel-cumulative-linf0.1-eps2"),
    ("simba", {"options": {"objective": "probability", "targeted": True}, "max_queries": 9},
     "simba-pixel-probability-targeted-maxqueries9"),
    ("noise", {"epsilon": 1e-5, "options": {"basis": "dct"}}, "noise-dct-eps1e-05"),
    ("square", {"epsilon": 0.5}, "square-Linf-schedule100-eps0.5"),
    ("square", {"epsilon": 2 / 255}, "square-Linf-schedule100-eps2/255"),
    ("square", {"options": {"norm": "L2"}, "max_queries": 7}, "square-L2-maxqueries7-schedule100"),
    ("apgd", {"options": {"loss": "dlr"}}, "apgd-Linf-white-box-schedule100-loss=dlr"),
    ("foolbox:LinfProjectedGradientDescentAttack", {}, "foolbox:LinfProjectedGradientDescentAttack-white-box"),
    ("foolbox:LinfPGD", {"epsilon": 1.0}, "foolbox:LinfProjectedGradientDescentAttack-white-box-eps1"),
    ("foolbox:HopSkipJumpAttack", {"options": {"steps": 4}}, "foolbox:HopSkipJumpAttack-steps=4"),
    ("foolbox:HopSkipJumpAttack", {"options": {"constraint": "linf"}}, "foolbox:HopSkipJumpAttack-constraint=linf"),
    ("foolbox:HopSkipJumpAttack", {"options": {"constraint": "linf"}, "epsilon": 1.0},
     "foolbox:HopSkipJumpAttack-constraint=linf-eps1"),
    ("foolbox:PointwiseAttack", {"options": {"distance": "linf"}}, "foolbox:PointwiseAttack-distance=linf"),
])
def test_labels(name, how, label):
    assert make(name, budget=100, **how).traits.label == label


def foolbox_names():
    return sorted({f"foolbox:{kind.__name__}" for kind in vars(foolbox.attacks).values() if inspect.isclass(kind)
                   and issubclass(kind, foolbox.attacks.base.AttackWithDistance) and not inspect.isabstract(kind)})


def test_no_label_names_the_default_epsilon_and_every_label_names_another():
    named = 0
    for name in ("simba", "noise", "square", "apgd", *foolbox_names()):
        try:
            usual = make(name, budget=5)
        except InputError:  # no default, or options that must be given
            continue
        named += 1
        assert "eps" not in usual.traits.label
        assert make(name, budget=5, epsilon=7.0).traits.label == f"{usual.traits.label}-eps7"
    assert named > 30


def test_an_epsilon_without_a_usual_value_is_always_named():
    assert make("foolbox:L1PGD", budget=5, epsilon=1.0).traits.label.endswith("-eps1")


@pytest.mark.parametrize(("name", "options", "norm", "bound"), [
    ("simba", {}, None, None), ("simba", {"linf": 0.1}, "linf", 0.1),
    ("simba", {"linf": 0.1, "convention": "normalised-clip"}, None, None), ("noise", {}, None, None),
    ("square", {}, "linf", 8 / 255), ("apgd", {"norm": "L2"}, "l2", 0.5), ("square", {"norm": "L1"}, "l1", 12),
    ("foolbox:HopSkipJumpAttack", {}, "l2", 1.0),
    ("foolbox:HopSkipJumpAttack", {"constraint": "linf"}, "linf", 8 / 255),
    ("foolbox:PGD", {}, "linf", 8 / 255), ("foolbox:LInfFMNAttack", {}, "linf", 8 / 255)])
def test_bounds(name, options, norm, bound):
    traits = make(name, budget=5, options=options).traits
    assert (traits.norm, traits.bound) == (norm, bound)
    assert traits.epsilon == (0.2 if name in ("simba", "noise") else bound)


@pytest.mark.parametrize(("name", "needs", "prefix"), [
    ("simba", "scores", True), ("noise", "labels", True), ("square", "scores", False), ("apgd", "gradients", False),
    ("foolbox:HopSkipJumpAttack", "labels", True), ("foolbox:BoundaryAttack", "labels", True),
    ("foolbox:PGD", "gradients", True), ("foolbox:L2DeepFoolAttack", "gradients", True)])
def test_what_an_attack_sees_and_whether_its_length_matters(name, needs, prefix):
    short, long = (make(name, budget=budget) for budget in (5, 9))
    assert (short.traits.needs, short.traits.prefix, short.traits.budget) == (needs, prefix, 5)
    assert (short.settings == long.settings) == prefix
    assert json.loads(json.dumps(short.settings)) == short.settings
    assert json.loads(json.dumps(dataclasses.asdict(short.traits)))["needs"] == needs


def test_an_iteration_of_simba_is_one_or_two_queries():
    assert make("simba", budget=5).traits.cost == "one-or-two"
    assert make("simba", budget=5, options={"step": "best-of-two"}).traits.cost == "two"
    assert make("noise", budget=5).traits.cost == make("square", budget=5).traits.cost == "one"
    assert make("simba", budget=5, options={"targeted": True}).traits.targeted


@pytest.mark.parametrize("name", ["simba", "noise"])
def test_settings_tell_runs_apart(name):
    usual = make(name, budget=5).settings
    assert usual == make(name, budget=5, epsilon=0.2, options={"basis": "pixel"}).settings
    for how in ({"epsilon": 0.1}, {"max_queries": 9}, {"options": {"basis": "dct"}}):
        assert make(name, budget=5, **how).settings != usual


@pytest.mark.parametrize("name", ["simba", "noise"])
def test_no_more_iterations_than_directions(name):
    make(name, budget=48).check((3, 4, 4))
    with pytest.raises(InputError, match="48 directions"):
        make(name, budget=49).check((3, 4, 4))
