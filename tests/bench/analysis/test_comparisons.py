from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from bench.analysis.comparisons import PAIRED_COLUMNS, SHIFT_PAIRED_COLUMNS, paired_shift_table, paired_table
from bench.analysis.measured import measure
from bench.analysis.shift_tables import parts
from bench.analysis.stats import holm, mcnemar, paired_proportions
from tests.bench.analysis.making import cell_of, run_of
from tests.bench.analysis.shifting import outcomes, shifted


def test_pairs_by_hand(tmp_path):
    a = run_of(tmp_path, (0, 2, 3, -1, 1), model="a", budgets=(1, 2, 3))
    b = run_of(tmp_path, (3, 2, 0, -1, -1), model="b", budgets=(1, 3))
    table = paired_table(measure([a, b]))
    assert list(table.columns) == PAIRED_COLUMNS and table["budget"].tolist() == [1, 3, 1, 3]
    robust, asr = (table[table.metric == m].set_index("budget") for m in ("robust_accuracy", "asr"))
    assert robust["n"].tolist() == [5, 5] and asr["n"].tolist() == [3, 3]  # both correct on images 1, 3 and 4
    # Robust after 1 iteration: a on 1, 2, 3; b on 0, 1, 3, 4.
    assert (robust.loc[1, "only_a"], robust.loc[1, "only_b"]) == (1, 2)
    assert robust.loc[1, "difference"] == pytest.approx(0.6 - 0.8)
    # Broken by 3 of the common images: a on 1 and 4; b on 1.
    assert (asr.loc[3, "a"], asr.loc[3, "b"]) == pytest.approx((2 / 3, 1 / 3))
    assert (asr.loc[3, "only_a"], asr.loc[3, "only_b"]) == (1, 0)
    assert tuple(asr.loc[3, ["difference", "ci_low", "ci_high"]]) == pytest.approx(paired_proportions(
        np.array([True, False, True]), np.array([True, False, False])))


def test_pairs_of_other_lengths_are_compared_at_common_budgets(tmp_path):
    a = run_of(tmp_path, (0, 2, -1), model="a", budget=3, budgets=(1, 3))
    b = run_of(tmp_path, (0, 2, -1), model="b", budget=7, budgets=(1, 3, 7))
    for pair in ([a, b], [b, a]):
        assert paired_table(measure(pair))["budget"].tolist() == [1, 3, 1, 3]


def test_pairs_use_common_images_and_equal_attacks_only(tmp_path):
    a = run_of(tmp_path, (0, 2, 3, -1, 1), model="a")
    b = run_of(tmp_path, (0, 2, 3, -1, 1), model="b", examples=range(3, 8))
    assert set(paired_table(measure([a, b]))["n"]) == {2, 1}
    for other in ({"settings": {"schedule": 9}}, {"seed": 1}, {"domain": "e"}, {"attack": "simba"}):
        assert paired_table(measure([a, run_of(tmp_path, (1, 1), model="c", **other)])).empty
    targeted = [run_of(tmp_path, (1, -1), model=model, targeted=True) for model in "ab"]
    assert paired_table(measure(targeted)).empty
    assert isinstance(paired_table([]), pd.DataFrame)


def test_a_pair_without_images_is_none_of_its_family(tmp_path):
    a = run_of(tmp_path, (1, 1, 1, 1, -1, 0), model="a", budgets=(1,))
    b = run_of(tmp_path, (-1, -1, -1, -1, -1, 0), model="b", budgets=(1,))
    wrong = run_of(tmp_path, (0, 0, 0, 0, 0, 1), model="c", budgets=(1,))  # correct where a and b are not
    asr = paired_table(measure([a, b, wrong])).query("metric == 'asr'")
    empty = asr["n"] == 0
    assert empty.tolist() == [False, True, True]
    assert asr.loc[empty, ["p_value", "p_holm"]].isna().all(axis=None)
    assert asr.loc[~empty, "p_holm"].tolist() == asr.loc[~empty, "p_value"].tolist() == [0.125]


def test_a_family_is_one_question_over_all_pairs_and_budgets(tmp_path):
    """Of attacks: one data set, attack and metric; of shifts: one part of one data set."""
    rng = np.random.default_rng(0)
    runs = [run_of(tmp_path, rng.choice([-1, 1, 5, 9], size=60, p=[share, 0.4, 0.1, 0.5 - share]), model=model,
                   budgets=(1, 5, 10), domain=domain, seed=seed)
            for model, share in (("a", 0.1), ("b", 0.3), ("c", 0.45)) for domain in "de" for seed in (0, 1)]
    table = paired_table(measure(runs))
    families = table.groupby(["domain", "attack", "metric"])
    assert len(families) == 8 and set(families.size()) == {9}, "three pairs at three budgets"
    for _, family in families:
        np.testing.assert_allclose(family["p_holm"], holm(family["p_value"].to_numpy()))
    cells = [cell for i, model in enumerate("abc") for cell in shifted(tmp_path, model, seed=i)]
    shift = paired_shift_table(parts(measure(cells)))
    families = shift.groupby(["domain", "part"])
    assert len(families) == 2 and set(families.size()) == {3}
    for _, family in families:
        np.testing.assert_allclose(family["p_holm"], holm(family["p_value"].to_numpy()))


def test_pairs_of_models_under_shift(tmp_path):
    a, b = shifted(tmp_path, "a"), shifted(tmp_path, "b", seed=1)
    better = shifted(tmp_path, "z", clean=0.95, shares=(0.9, 0.6, 0.8, 0.3))  # the same images, each cell easier
    table = paired_shift_table(parts(measure([*a, *b, *better])))
    assert list(table.columns) == SHIFT_PAIRED_COLUMNS
    table = table.set_index(["model_a", "model_b", "domain"])
    single = table.loc[("a", "b", "d")]
    assert single["test"] == "McNemar" and single["p_value"] == mcnemar(outcomes(0)[0], outcomes(1)[0]).p_value
    newcombe = paired_proportions(outcomes(0)[0], outcomes(1)[0])
    assert tuple(single[["difference", "ci_low", "ci_high"]]) == pytest.approx(newcombe)
    many = table.loc[("a", "z", "c")]
    assert many["test"] == "sign flip" and many["difference"] == pytest.approx(-0.1, abs=0.02)
    assert many["p_value"] < 0.001 and many["ci_high"] < 0
    assert table.loc[("a", "b", "c"), "p_value"] > 0.01


def test_a_p_value_at_the_floor_of_its_test_is_a_bound(tmp_path):
    better = shifted(tmp_path, "z", clean=0.95, shares=(0.9, 0.6, 0.8, 0.3))
    table = paired_shift_table(parts(measure([*shifted(tmp_path, "a"), *shifted(tmp_path, "b", seed=1), *better])))
    many = table[table["test"] == "sign flip"].set_index(["model_a", "model_b"])
    assert many.loc[("a", "z"), "p_value"] == 1 / 10000 and many.loc[("a", "z"), "p_bound"]
    assert not many.loc[("a", "b"), "p_bound"] and not table.loc[table["test"] == "McNemar", "p_bound"].any()


def test_models_with_other_cells_are_compared_on_the_common_ones(tmp_path):
    a, b = shifted(tmp_path, "a"), shifted(tmp_path, "b", seed=1)
    (row,) = paired_shift_table(parts(measure([*a, *b[:2]]))).query("domain == 'c'").to_dict("records")
    assert row["cells"] == 1 and row["test"] == "McNemar" and row["a"] == pytest.approx(outcomes(0)[1][:, 0].mean())


def test_nothing_to_compare_is_an_empty_table(tmp_path):
    assert paired_shift_table(parts(measure(shifted(tmp_path)))).empty
    apart = [cell_of(tmp_path, [True], model=model, examples=[i]) for i, model in enumerate("ab")]
    assert paired_shift_table(parts(measure(apart))).empty
