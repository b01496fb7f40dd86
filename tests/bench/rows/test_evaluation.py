from __future__ import annotations

import inspect

import pytest

from bench.rows.evaluation import Evaluation
from framebench.attacks.foolbox_attacks import foolbox
from framebench.attacks.registry import plan
from framebench.errors import InputError

SIMBA = {"max_iterations": 3, "epsilon": 0.2, "basis": "pixel", "order": "random", "step": "first-improving",
         "objective": "margin", "targeted": False, "linf": None, "max_queries": None}


def test_the_key_of_a_simba_evaluation_does_not_change():
    """Rows on users' disks are found by it; these were computed before other attacks came."""
    assert Evaluation("m", "d", "c", "dd", "simba", {**SIMBA, "step": "best-of-two", "targeted": True, "linf": 0.1},
                      2).key == "08b41eb215ae805b0e736afc26c2c3eb10985ea8468da0ffc8fbe34dcaa6072d"


def test_a_family_is_of_any_length_unless_steps_depend_on_it():
    one = Evaluation("m", "d", "c", "dd", "simba", SIMBA)
    assert one.family == Evaluation("n", "e", "f", "ff", "simba", {**SIMBA, "max_iterations": 9}, 2).family
    assert one.family != Evaluation("m", "d", "c", "dd", "simba", {**SIMBA, "epsilon": 0.1}).family
    assert one.family != Evaluation("m", "d", "c", "dd", "noise", SIMBA).family
    square = [Evaluation("m", "d", "c", "dd", "square", {"norm": "Linf", "schedule": length}) for length in (1, 2)]
    assert square[0].family != square[1].family


@pytest.mark.parametrize(("attack", "options", "seed", "label"), [
    ("simba", SIMBA, 0, "simba-pixel"),
    ("simba", {**SIMBA, "basis": "dct", "step": "best-of-two", "convention": "normalised-clip"}, 3,
     "simba-dct-best-of-two-normalised-clip-s3"),
    ("simba", {**SIMBA, "clip": "cumulative", "linf": 0.1, "epsilon": 2.0}, 3,
     "simba-pixel-cumulative-linf0.1-eps2-s3"),
    ("noise", {"max_iterations": 3, "epsilon": 1e-5, "basis": "dct"}, 0, "noise-dct-eps1e-05"),
    ("square", {"norm": "Linf", "schedule": 100, "epsilon": 0.5}, 0, "square-Linf-schedule100-eps0.5"),
    ("foolbox:LinfPGD", {"epsilon": 8 / 255, "white_box": True}, 0, "foolbox:LinfPGD-white-box"),
    ("foolbox:LinfPGD", {"epsilon": 1.0, "white_box": True}, 0, "foolbox:LinfPGD-white-box-eps1"),
    ("square", {"norm": "L2", "schedule": 100, "epsilon": 0.5, "max_queries": 7}, 0,
     "square-L2-maxqueries7-schedule100"),
    ("foolbox:HopSkipJumpAttack", {"steps": 4, "epsilon": 1.0, "max_iterations": 9}, 0,
     "foolbox:HopSkipJumpAttack-steps=4"),
    ("none", {}, 3, "none"),
])
def test_labels(attack, options, seed, label):
    assert Evaluation("m", "d", "c", "dd", attack, options, seed).label == label


def test_no_label_names_the_default_epsilon_and_every_label_names_another():
    kinds = {f"foolbox:{kind.__name__}" for kind in vars(foolbox.attacks).values() if inspect.isclass(kind)
             and issubclass(kind, foolbox.attacks.base.AttackWithDistance) and not inspect.isabstract(kind)}
    named = 0
    for attack in ("noise", "square", "apgd", *sorted(kinds)):
        try:
            usual = plan(attack, 5, epsilon=None, given=[])
        except InputError:  # no default, or options that must be given
            continue
        named += 1
        label = Evaluation("m", "d", "c", "dd", attack, usual).label
        assert "eps" not in label and Evaluation("m", "d", "c", "dd", attack, {**usual, "epsilon": 7.0}).label == \
            f"{label}-eps7"
    assert named > 30


def test_file_names_name_the_seed_once():
    names = [Evaluation("m", "d", "c", "dd", "simba", SIMBA, seed).file_name for seed in (0, 1)]
    assert names[0].startswith("m-c-simba-pixel-s0-") and names[1].startswith("m-c-simba-pixel-s1-")
    assert ":" not in Evaluation("m", "d", "c", "dd", "foolbox:PGD", {"epsilon": 1}).file_name
