from __future__ import annotations

import pytest

from bench.protocol import Evaluation

SIMBA = {"max_iterations": 3, "epsilon": 0.2, "basis": "pixel", "order": "random", "step": "first-improving",
         "objective": "margin", "targeted": False, "linf": None, "max_queries": None}


def test_the_key_of_a_simba_evaluation_does_not_change():
    """Rows on users' disks are found by it; these were computed before other attacks came."""
    assert Evaluation("m", "d", "c", "dd", "simba", {**SIMBA, "step": "best-of-two", "targeted": True, "linf": 0.1},
                      2).key == "08b41eb215ae805b0e736afc26c2c3eb10985ea8468da0ffc8fbe34dcaa6072d"


@pytest.mark.parametrize(("attack", "options", "seed", "label"), [
    ("simba", SIMBA, 0, "simba-pixel"),
    ("simba", {**SIMBA, "basis": "dct", "step": "best-of-two", "convention": "normalised-clip"}, 3,
     "simba-dct-best-of-two-normalised-clip-s3"),
    ("square", {"norm": "L2", "schedule": 100, "epsilon": 0.5, "max_queries": 7}, 0,
     "square-L2-maxqueries7-schedule100"),
    ("foolbox:HopSkipJumpAttack", {"steps": 4, "epsilon": 1.0, "max_iterations": 9}, 0,
     "foolbox:HopSkipJumpAttack-steps=4"),
    ("none", {}, 3, "none"),
])
def test_labels(attack, options, seed, label):
    assert Evaluation("m", "d", "c", "dd", attack, options, seed).label == label


def test_file_names_name_the_seed_once():
    names = [Evaluation("m", "d", "c", "dd", "simba", SIMBA, seed).file_name for seed in (0, 1)]
    assert names[0].startswith("m-c-simba-pixel-s0-") and names[1].startswith("m-c-simba-pixel-s1-")
    assert ":" not in Evaluation("m", "d", "c", "dd", "foolbox:PGD", {"epsilon": 1}).file_name
