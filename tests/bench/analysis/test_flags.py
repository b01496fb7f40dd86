"""What in the results is flagged."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench.analysis.attack_tables import attack_table
from bench.analysis.flags import attack_flags, duplicate_flags, model_flags
from bench.analysis.measured import measure
from bench.rows.flags import PAGE
from tests.bench.analysis.making import cell_of, run_of


def flags_of(*stored):
    runs = measure(stored)
    return list(map(str, attack_flags(runs, attack_table(runs))))


def breaking(tmp_path, share, attack="simba", *, n=100, budget=100, budgets=(100,), l2=0.0, queries=None, goal=1,
             **more):
    """An attack that breaks a share of n images at once; its success has an L2 distance, and unbroken ones cost all."""
    success = np.where(np.arange(n) < round(share * n), 1, -1)
    spent = np.where(success > 0, 2, 1 + budget if queries is None else queries)
    return run_of(tmp_path, success, attack=attack, budget=budget, budgets=budgets,
                  columns={"l2": np.full(n, l2), "queries": spent, "goal": [goal] * n}, **more)


def test_every_flag_has_its_section():
    root = Path(__file__).parents[3]
    page = (root / PAGE).read_text()
    sources = [(root / "bench" / name).read_text()
               for name in ("running/flags.py", "running/slices.py", "analysis/flags.py")]
    anchors = {anchor for source in sources for anchor in re.findall(r'\bflag\("([a-z-]+)"', source)}
    assert len(anchors) == 12 and anchors == set(re.findall(r"^## ([a-z-]+)$", page, re.MULTILINE))


def test_what_is_said_of_rows_does_not_depend_on_how_they_are_made():
    for path in (Path(__file__).parents[3] / "bench" / "analysis").glob("*.py"):
        assert not re.search(r"^\s*(from|import) bench\.running", path.read_text(), re.MULTILINE), path.name


def test_results_without_a_sign_have_no_flag(tmp_path):
    assert flags_of(breaking(tmp_path, 0.5), breaking(tmp_path, 0.1, "noise")) == []
    assert flags_of() == []


def test_a_control_that_is_not_0_is_flagged_once_for_all_models(tmp_path):
    def clipped(model, share):
        return run_of(tmp_path, np.where(np.arange(100) < 100 * share, 0, -1), model=model, attack="simba",
                      columns={"clean_prediction": [1] * 100})
    (flag,) = flags_of(clipped("a", 0.45), clipped("b", 0.2), breaking(tmp_path, 0.1, model="c"))
    assert flag.startswith("a, b: ") and "45.0%, 20.0%" in flag and flag.endswith("#control)")


@pytest.mark.parametrize(("changes", "noise", "raised"), [
    ({}, {}, True),
    ({"seed": 1, "settings": {"objective": "probability"}}, {}, True),
    ({"settings": {"basis": "dct"}}, {}, False),
    ({"epsilon": 0.1}, {}, False),
    ({"n": 50}, {}, False),
    ({"budgets": (50,)}, {}, False),
    ({"share": 0.2}, {}, False),
    ({"caps": (0.5,), "l2": 0.7, "share": 0.3}, {}, False),
    ({"caps": (0.5,), "l2": 0.7, "share": 0.3}, {"caps": (0.5,)}, True),
    ({"norm": "linf", "bound": 0.1, "settings": {"linf": 0.1}}, {}, False),
    ({"norm": "linf", "bound": 0.1, "settings": {"linf": 0.1}, "caps": (0.5,)}, {"caps": (0.5,)}, False),
    ({"targeted": True, "goal": 0}, {}, False),
    ({"settings": {"order": "low-frequency"}}, {}, False),
    ({"settings": {"convention": "normalised-clip"}}, {}, False),
    ({"attack": "square", "norm": "linf", "bound": 0.2}, {}, False),
    ({"attack": "foolbox:HopSkipJumpAttack", "norm": "l2", "bound": 1.0}, {}, False),
])
def test_noise_is_the_control_of_simba_of_the_same_steps(tmp_path, changes, noise, raised):
    weak = breaking(tmp_path, **{"share": 0.01, **changes})
    flags = flags_of(weak, breaking(tmp_path, 0.3, "noise", **noise))
    assert bool(flags) == raised
    if raised:
        assert weak.label in flags[0] and "at 100 queries" in flags[0] and flags[0].endswith("#weaker-than-noise)")


def test_models_that_noise_beats_are_named_together(tmp_path):
    stored = [breaking(tmp_path, share, attack, model=model, budgets=(50, 100))
              for model in "ab" for attack, share in (("simba", 0.01), ("noise", 0.3))]
    (flag,) = flags_of(*stored)
    assert flag.startswith("a, b: ") and "50 and 100 queries" in flag


WHITE = {"attack": "apgd", "label": "apgd-Linf", "needs": "gradients", "epsilon": 0.03, "norm": "linf", "bound": 0.03}
BLACK = {"attack": "square", "label": "square-Linf", "epsilon": 0.03, "norm": "linf", "bound": 0.03}


@pytest.mark.parametrize(("white", "black", "raised"), [
    ({}, {}, True),
    ({}, {"epsilon": 0.02, "bound": 0.02}, True),
    ({}, {"epsilon": 0.04, "bound": 0.04}, False),
    ({"norm": "l2", "bound": 0.5, "epsilon": 0.5}, {}, False),
    ({}, {"attack": "simba", "epsilon": 0.2}, True),
    ({}, {"attack": "simba", "norm": None, "bound": None}, False),
    ({"norm": "l2", "bound": 0.5, "epsilon": 0.5},
     {"attack": "simba", "norm": None, "bound": None, "caps": (0.5,), "l2": 0.4}, True),
    ({"norm": "l2", "bound": 0.5, "epsilon": 0.5, "caps": (0.1,), "l2": 0.05, "share": 0.5},
     {"norm": "l2", "bound": 0.1, "epsilon": 0.1}, False),
    ({"attack": "foolbox:DDNAttack"}, {"attack": "foolbox:HopSkipJumpAttack", "needs": "labels"}, True),
    ({"attack": "foolbox:LinfFastGradientAttack", "queries": 3}, {}, False),
    ({"budget": 10, "budgets": (10,)}, {"budget": 10, "budgets": (10,)}, False),
    ({}, {"targeted": True, "goal": 0}, False),
    ({}, {"share": 0.2}, False),
    ({}, {"n": 50}, False),
])
def test_an_attack_with_gradients_that_a_blind_one_beats(tmp_path, white, black, raised):
    seeing = breaking(tmp_path, **{"share": 0.15, **WHITE, **white})
    blind = breaking(tmp_path, **{"share": 0.4, **BLACK, **black})
    flags = flags_of(seeing, blind)
    assert bool(flags) == raised
    if raised:
        assert f"{seeing.label} on d breaks 15.0% of the images, {blind.label}" in flags[0] and "40.0%" in flags[0]
        assert flags[0].startswith("m: ") and flags[0].endswith("#weaker-than-black-box)")


def test_the_last_budget_counts(tmp_path):
    late = run_of(tmp_path, [50] * 60 + [-1] * 40, budget=100, budgets=(10, 100), **WHITE)
    assert flags_of(late, breaking(tmp_path, 0.4, **BLACK)) == []


def test_training_images_are_counted_and_left_out_in_one_flag(tmp_path):
    correct = np.arange(2000) % 10 > 0
    correct[:50] = True
    cells = measure([cell_of(tmp_path, correct, model="a"), cell_of(tmp_path, ~correct, model="b"),
                     cell_of(tmp_path, correct, model="a", domain="other"),
                     cell_of(tmp_path, correct, model="a", domain="d", corruption="fog", severity=1)])
    twice = pd.DataFrame({"domain": "d", "domain_digest": "d0", "example": range(50)})
    (found,) = duplicate_flags(cells, twice)
    flag = str(found)
    assert (found.name, found.models, found.domains) == ("duplicates", (), ("d",))
    assert "50 of 2,000 images of d (2.5%)" in flag and flag.endswith("#duplicates)")
    assert [float(number) for number in re.findall(r"[+-]\d\.\d", flag)] == pytest.approx([-0.25, 0.25], abs=0.051)
    assert duplicate_flags(cells, twice[:1]) == []
    both = pd.concat([twice, twice.assign(domain_digest="other0")])
    (once,) = duplicate_flags(cells, both)
    assert once.domains == ("d", "other") and str(once).count("50 of 2,000 images") == 2
    few = measure([cell_of(tmp_path, [True] * 3, examples=[0, 1, 2])])
    assert "no others are left" in str(duplicate_flags(few, twice)[0])


def test_a_warning_stands_once_with_the_models_that_it_concerns(tmp_path):
    cells = [cell_of(tmp_path, [True], model=model, domain=domain, warnings=(f"rows of {model}", "no license"))
             for model in "ab" for domain in "de"]
    flags = model_flags(measure(cells))
    assert list(map(str, flags)) == ["a: rows of a", "a, b: no license", "b: rows of b"]
    assert flags[1].models == ("a", "b") and flags[1].name == ""
