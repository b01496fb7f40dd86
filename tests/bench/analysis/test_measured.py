"""Which rows answer which evaluation: runs of several lengths."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from bench.analysis.attack_tables import attack_table, curve
from bench.analysis.comparisons import paired_table
from bench.analysis.measured import measure
from bench.analysis.seeds import attack_seeds_table
from tests.bench.analysis.making import cell_of, run_of

N = 40


def _images(cost, model, seed):
    """When each image breaks (0 from the start, up to 30, -1 never), and its steps until then or until 100."""
    rng = np.random.default_rng([seed, len(model), ord(model[-1])])
    success = rng.choice([-1, *range(31)], size=N)
    steps = [rng.integers(-1, 2, 100 if s < 0 else s).astype(np.int8) for s in success]
    return success, steps


def _run(tmp_path, budget, examples, *, model="m", seed=0, cost="one-or-two", budgets=(), limit=None, **more):
    """What SimBA with a length leaves of some images; with `limit`, forward passes end there."""
    success, steps = _images(cost, model, seed)
    rows = {"success": [], "queries": [], "l2": [], "steps": []}
    for example in examples:
        own = steps[example][:budget]
        spent = 1 + np.cumsum([0, *(2 - (own == 1) if cost == "one-or-two" else
                                    np.full(len(own), 2 if cost == "two" else 1))])
        done = len(own)
        total = spent[-1]
        if limit is not None and total > limit:
            done, total = int(np.searchsorted(spent, limit, side="right")) - 1, limit
        broken = success[example] if 0 <= success[example] <= done else -1
        rows["success"].append(broken)
        rows["queries"].append(total)
        rows["l2"].append(0.2 * np.sqrt(np.count_nonzero(own[:done])))
        rows["steps"].append(own[:done].tobytes())
    return run_of(tmp_path, rows["success"], attack="simba", budget=budget, budgets=budgets, examples=list(examples),
                  model=model, seed=seed, cost=cost, columns={name: rows[name] for name in ("queries", "l2", "steps")},
                  **more)


def _equal(a, b, *, but=("attack",)):
    keep = [column for column in a if column not in but]
    pd.testing.assert_frame_equal(a[keep].reset_index(drop=True), b[keep].reset_index(drop=True))


@pytest.mark.parametrize(("cost", "limit"), [("one-or-two", None), ("two", None), ("one", None), ("one-or-two", 12)])
def test_the_tables_of_two_lengths_are_those_of_one_fresh_run(tmp_path, cost, limit):
    """Four images attacked for 100 iterations, then all of them for 10: the first ones' rows are of the longer run."""
    stored, fresh = [], []
    for model, seed in (("a", 0), ("b", 0), ("a", 1), ("b", 1)):
        options = {"model": model, "seed": seed, "cost": cost, "limit": limit, "caps": (0.4,)}
        stored.append(_run(tmp_path, 100, range(0, N, 10), budgets=(50, 100), **options))
        stored.append(_run(tmp_path, 10, [i for i in range(N) if i % 10], budgets=(1, 5, 10), **options))
        fresh.append(_run(tmp_path, 10, range(N), budgets=(1, 5, 10), **options))
    combined, whole = measure(stored), measure(fresh)
    short = [run for run in combined if run.length == 10]
    assert [run.name for run in combined[:2]] == ["simba-pixel-iterations100", "simba-pixel-iterations10"]
    _equal(attack_table(short), attack_table(whole))
    for run, alone in zip(short, whole, strict=True):
        for unit in ("iterations", "queries"):
            pd.testing.assert_frame_equal(curve(run, unit), curve(alone, unit))
    pairs, seeds = paired_table(combined), attack_seeds_table(combined)
    # Holm's families have the comparisons at larger budgets in them, too.
    _equal(pairs[pairs["budget"] <= 10], paired_table(whole), but=("p_holm",))
    _equal(seeds[seeds["budget"] <= 10], attack_seeds_table(whole), but=())
    assert set(pairs["budget"]) == set(seeds["budget"]) - {0} == {1, 5, 10, 50, 100}


def test_the_longer_rows_are_cut_and_stay_as_they_are(tmp_path):
    long, short = _run(tmp_path, 100, range(5), budgets=(100,)), _run(tmp_path, 10, range(5, N), budgets=(10,))
    before = long.frame().copy()
    (_, run) = measure([long, short])
    fresh = _run(tmp_path, 10, range(N), budgets=(10,)).frame()
    kept = ["example", "label", "clean_prediction", "success_iteration", "queries", "steps"]
    pd.testing.assert_frame_equal(run.frame()[kept], fresh[kept])
    broken = fresh["success_iteration"] >= 0
    pd.testing.assert_series_equal(run.frame()["l2"][broken], fresh["l2"][broken])
    assert run.frame()["l2"][~broken & (fresh["example"] < 5)].isna().all(), "at 10 iterations, it is not known"
    pd.testing.assert_frame_equal(long.frame(), before)


def test_a_run_without_images_of_its_own_is_tabled_with_the_longer_one(tmp_path):
    long = _run(tmp_path, 100, range(10), budgets=(2, 100))
    short = _run(tmp_path, 10, range(4), budgets=(1, 3), caps=(0.25,))
    other = _run(tmp_path, 10, range(4), model="b", budgets=(1, 3))
    run, same = measure([short, long, other])
    assert run.evaluation == long.evaluation and same.evaluation == other.evaluation
    assert run.facts.budgets == (1, 2, 3, 100) and run.facts.l2_caps == (0.25,) and run.name == "simba-pixel"
    assert long.facts.budgets == (2, 100), "what is stored stays as it is"
    assert not attack_table([run]).duplicated(["model", "attack", "unit", "budget"]).any()


def test_three_lengths(tmp_path):
    runs = measure([_run(tmp_path, 100, range(3), budgets=(100,)), _run(tmp_path, 50, range(3, 8), budgets=(50,)),
                    _run(tmp_path, 20, range(6), budgets=(20,)), _run(tmp_path, 10, range(8, 20), budgets=(10,))])
    assert [(run.length, len(run.ids), run.facts.budgets) for run in runs] == [
        (100, 3, (100,)), (50, 8, (20, 50)), (10, 20, (10,))]
    _equal(attack_table(runs[2:]), attack_table(measure([_run(tmp_path, 10, range(20), budgets=(10,))])))


def test_facts_of_all_rows_are_kept(tmp_path):
    runs = [_run(tmp_path, budget, examples, budgets=(budget,), facts={
        "provenance": ({"commit": budget},), "warnings": (f"w{budget}",)})
        for budget, examples in ((100, range(3)), (10, range(3, 9)))]
    _, short = measure(runs)
    assert short.facts.provenance == ({"commit": 10}, {"commit": 100}) and short.facts.warnings == ("w10", "w100")
    assert short.facts.budgets == (10,)


def test_pairs_of_other_lengths_are_compared_on_all_that_both_have(tmp_path):
    a = [_run(tmp_path, 100, range(3), model="a", budgets=(10, 100)),
         _run(tmp_path, 10, range(3, 9), model="a", budgets=(10,))]
    b = _run(tmp_path, 100, range(9), model="b", budgets=(10, 100))
    table = paired_table(measure([*a, b])).query("metric == 'robust_accuracy'")
    assert list(zip(table["budget"], table["n"], strict=True)) == [(10, 9), (100, 3)]
    assert set(table["attack"]) == {"simba-pixel"}


def test_names_that_stand_for_several_sets_get_their_digests(tmp_path):
    cells = [cell_of(tmp_path, [True], domain="c", corruption="fog", severity=i, set=f"{i}") for i in (1, 2)]
    assert [cell.domain for cell in measure(cells)] == ["c #1", "c #2"]
    assert [cell.model for cell in measure(cells[:1], {("m", "m"): "mine"})] == ["mine"]
