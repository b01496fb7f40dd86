from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest

from bench.analysis.attack_tables import ATTACK_COLUMNS, attack_table, curve, longest_runs, name_of, paired_table
from bench.analysis.stats import paired_proportions, wilson
from bench.rows.evaluation import Evaluation
from bench.rows.store import Rows


def _rows(tmp_path, model="m", step="first-improving", success=(0, 2, 3, -1, 1), budgets=(1, 2, 3), targeted=False,
          examples=range(5), longest=3):
    """Five images: wrong at once, broken at 2, broken at 3, never, broken at 1; three iterations at most."""
    steps = {0: [], 2: [0, 1], 3: [-1, 1, 1], -1: [0, 0, 1], 1: [1]}
    cost = {1: 1 if step == "first-improving" else 2, 0: 2, -1: 2}
    evaluation = Evaluation(model, model, "d", "dd", "simba", {
        "max_iterations": longest, "epsilon": 0.2, "step": step, "basis": "pixel", "targeted": targeted, "linf": None})
    rows = Rows(tmp_path / f"{model}-{longest}.parquet", evaluation, {"budgets": list(budgets)})
    n = len(success)
    rows.add({
        "example": list(examples), "label": [1] * n, "goal": [1] * n,
        "clean_prediction": [0 if s == 0 else 1 for s in success], "prediction": [1 if s == -1 else 0 for s in success],
        "success_iteration": list(success), "queries": [1 + sum(cost[v] for v in steps[s]) for s in success],
        "l2": [0.2 * np.sqrt(np.count_nonzero(steps[s])) for s in success], "linf": [0.2] * n, "margin": [0.0] * n,
        "confidence": [0.5] * n, "steps": [np.array(steps[s], np.int8).tobytes() for s in success]})
    return rows


def test_attack_table_by_hand(tmp_path):
    table = attack_table([_rows(tmp_path)])
    assert list(table.columns) == ATTACK_COLUMNS
    at = table[table.unit == "iterations"].set_index("budget")
    assert list(at.index) == [0, 1, 2, 3]
    assert at["n"].tolist() == [5] * 4 and at["n_correct"].tolist() == [4] * 4
    assert at["successes"].tolist() == [0, 1, 2, 3]
    assert at["asr"].tolist() == [0, 0.25, 0.5, 0.75]
    assert (at.loc[2, "ci_low"], at.loc[2, "ci_high"]) == pytest.approx(wilson(2, 4))
    assert at["clean_accuracy"].tolist() == [0.8] * 4
    assert at["robust_accuracy"].tolist() == pytest.approx([0.8, 0.6, 0.4, 0.2])
    assert (at.loc[3, "robust_low"], at.loc[3, "robust_high"]) == wilson(1, 5)
    assert (at.loc[3, "clean_low"], at.loc[3, "clean_high"]) == wilson(4, 5)
    # Queries within k iterations, the clean image included; steps [0, 1], [-1, 1, 1], [0, 0, 1], [1].
    assert at["queries_mean"].tolist() == [1, np.mean([3, 3, 3, 2]), np.mean([4, 4, 5, 2]), np.mean([4, 5, 6, 2])]
    assert at["queries_median"].tolist() == [1, 3, 4, 4.5]
    assert np.isnan(at.loc[0, "l2_median"])
    assert at.loc[3, "l2_median"] == pytest.approx(np.median([0.2, 0.2 * np.sqrt(3), 0.2]))


def test_an_iteration_that_the_query_limit_cuts_short_is_paid_for(tmp_path):
    """No sign of the first step helped (clean, +, -), and of the second only + was asked about."""
    rows = _rows(tmp_path)
    frame = rows.frame().iloc[[3]].assign(queries=4, steps=[np.array([0], np.int8).tobytes()])
    cut = Rows(tmp_path / "cut.parquet", rows.evaluation, {"budgets": [1, 2, 3]})
    cut.add({name: frame[name].tolist() for name in frame})
    at = attack_table([cut]).query("unit == 'iterations'")
    assert at["queries_mean"].tolist() == [1, 3, 4, 4]


def test_rows_older_than_the_fact_have_their_bound(tmp_path):
    older = attack_table([_library_rows(tmp_path)])
    assert (older["norm"] == "linf").all() and (older["bound"] == 8 / 255).all()
    told = _library_rows(tmp_path)
    told.facts |= {"norm": None, "bound": None}
    assert attack_table([told])["norm"].isna().all()
    assert attack_table([_rows(tmp_path)])["bound"].isna().all(), "SimBA's epsilon is a step"


def test_query_budgets_by_hand(tmp_path):
    table = attack_table([_rows(tmp_path)])
    at = table[table.unit == "queries"].set_index("budget")
    assert at["successes"].tolist() == [0, 0, 1, 1]  # broken at 2, 4 and 5 queries
    assert at["queries_mean"].tolist() == [0, 1, 2, np.mean([3, 3, 3, 2])]


def test_best_of_two_pays_for_both_signs(tmp_path):
    table = attack_table([_rows(tmp_path, step="best-of-two")])
    at = table[table.unit == "iterations"].set_index("budget")
    assert at["queries_mean"].tolist() == [1, 3, np.mean([5, 5, 5, 3]), np.mean([5, 7, 7, 3])]


def test_no_right_image_is_not_a_rate(tmp_path):
    table = attack_table([_rows(tmp_path, success=(0, 0), examples=range(2))])
    assert table["asr"].isna().all() and (table["ci_low"] == 0).all() and (table["ci_high"] == 1).all()


def test_targeted_denominator_is_what_is_not_at_the_target(tmp_path):
    rows = _rows(tmp_path, targeted=True)
    # All goals are class 1 here: the image whose clean prediction is 0 is the one to be driven there.
    assert attack_table([rows])["n_correct"].tolist() == [1] * 8


def test_the_curve_passes_through_the_table(tmp_path):
    rows = _rows(tmp_path)
    for unit in ("iterations", "queries"):
        points = curve(rows, unit).set_index("budget")["asr"]
        assert points.iloc[0] == 0 and points.is_monotonic_increasing
        for entry in attack_table([rows]).query("unit == @unit").to_dict("records"):
            assert points[points.index <= entry["budget"]].iloc[-1] == entry["asr"]


def test_a_cap_leaves_out_far_successes(tmp_path):
    rows = _rows(tmp_path)
    rows.facts["l2_caps"] = [0.25]
    table = attack_table([rows])
    assert table["attack"].unique().tolist() == ["simba-pixel", "simba-pixel-L2cap0.25"]
    at = table[(table.attack == "simba-pixel-L2cap0.25") & (table.unit == "iterations")].set_index("budget")
    assert at["successes"].tolist() == [0, 1, 2, 2]  # L2 at success: 0.2, 0.35 and 0.2
    assert at["robust_accuracy"].tolist() == pytest.approx([0.8, 0.6, 0.4, 0.4])
    assert at["l2_median"].iloc[3] == pytest.approx(0.2)


def _library_rows(tmp_path, **options):
    """Rows of an attack without steps: wrong at once, broken at queries 2 and 4, never within 4."""
    evaluation = Evaluation("m", "m", "d", "dd", "square",
                            {"epsilon": 8 / 255, "norm": "Linf", "schedule": 3, **options})
    rows = Rows(tmp_path / "library.parquet", evaluation, {"budgets": [1, 3]})
    rows.add({"example": range(4), "label": [1] * 4, "goal": [1] * 4, "clean_prediction": [0, 1, 1, 1],
              "prediction": [0, 0, 0, 1], "success_iteration": [0, 1, 3, -1], "queries": [1, 2, 4, 4],
              "l2": [0.0, 1, 1, 1], "linf": [0.1] * 4, "margin": [0.0] * 4, "confidence": [0.5] * 4,
              "steps": [b""] * 4})
    return rows


def test_an_attack_without_steps_pays_a_query_an_iteration(tmp_path):
    table = attack_table([_library_rows(tmp_path)])
    assert table["attack"].unique().tolist() == ["square-Linf-schedule3"]
    iterations, queries = (table[table.unit == unit].set_index("budget") for unit in ("iterations", "queries"))
    assert iterations["successes"].tolist() == [0, 1, 2] and queries["successes"].tolist() == [0, 0, 1]
    assert iterations["queries_mean"].tolist() == [1, 2, pytest.approx(10 / 3)]
    assert curve(_library_rows(tmp_path), "iterations")["budget"].tolist() == [0, 1, 3]


def test_gradients_are_not_on_the_axis_of_queries(tmp_path):
    rows = _library_rows(tmp_path, white_box=True)
    assert attack_table([rows])["unit"].unique().tolist() == ["iterations"]
    assert attack_table([rows])["attack"].iloc[0] == "square-Linf-white-box-schedule3"
    assert curve(rows, "queries")[["budget", "asr"]].to_numpy().tolist() == [[0, 0]]


def test_what_the_clip_breaks_is_success_at_nought(tmp_path):
    """Under the normalised clip an image is right before the clip and may be wrong before the first step."""
    rows = _rows(tmp_path)
    frame = rows.frame().assign(clean_prediction=1)
    clip = Rows(tmp_path / "clip.parquet", rows.evaluation, rows.facts)
    clip.add({name: frame[name].tolist() for name in frame})
    at = attack_table([clip]).query("unit == 'iterations'").set_index("budget")
    assert at["n_correct"].tolist() == [5] * 4 and at["successes"].tolist() == [1, 2, 3, 4]
    for unit in ("iterations", "queries"):
        assert curve(clip, unit)["asr"].iloc[0] == pytest.approx(0.2)


def test_pairs_by_hand(tmp_path):
    a = _rows(tmp_path, "a", success=(0, 2, 3, -1, 1))
    b = _rows(tmp_path, "b", success=(3, 2, 0, -1, -1), examples=range(5), budgets=(1, 3))
    table = paired_table([a, b])
    assert table["budget"].tolist() == [1, 3, 1, 3]
    robust, asr = (table[table.metric == m].set_index("budget") for m in ("robust_accuracy", "asr"))
    assert robust["n"].tolist() == [5, 5] and asr["n"].tolist() == [3, 3]  # both right on images 1, 3 and 4
    # Robust after 1 iteration: a on 1, 2, 3; b on 0, 1, 3, 4.
    assert (robust.loc[1, "only_a"], robust.loc[1, "only_b"]) == (1, 2)
    assert robust.loc[1, "difference"] == pytest.approx(0.6 - 0.8)
    # Broken by 3 of the common images: a on 1 and 4; b on 1.
    assert (asr.loc[3, "a"], asr.loc[3, "b"]) == pytest.approx((2 / 3, 1 / 3))
    assert (asr.loc[3, "only_a"], asr.loc[3, "only_b"]) == (1, 0)
    assert (table["p_holm"] >= table["p_value"]).all()


    assert tuple(asr.loc[3, ["difference", "ci_low", "ci_high"]]) == pytest.approx(paired_proportions(
        np.array([True, False, True]), np.array([True, False, False])))


def test_pairs_of_other_lengths_are_compared_at_common_budgets(tmp_path):
    a, b = _rows(tmp_path, "a"), _rows(tmp_path, "b", longest=7, budgets=(1, 3, 7))
    for pair in ([a, b], [b, a]):
        assert paired_table(pair)["budget"].tolist() == [1, 3, 1, 3]
    schedules = [_library_rows(tmp_path), _library_rows(tmp_path, schedule=9)]
    schedules[1].evaluation = dataclasses.replace(schedules[1].evaluation, model="b", model_digest="b")
    assert paired_table(schedules).empty, "what is scheduled over the length is another attack"


def test_a_longer_run_answers_for_a_shorter_one(tmp_path):
    short, long = _rows(tmp_path, budgets=(1, 3)), _rows(tmp_path, longest=9, budgets=(2, 9))
    short.facts["l2_caps"], other = [0.25], _rows(tmp_path, "other")
    (view, same) = longest_runs([short, long, other])
    assert view.evaluation == long.evaluation and same.evaluation == other.evaluation
    assert view.facts["budgets"] == [1, 2, 3, 9] and view.facts["l2_caps"] == [0.25]
    assert long.facts == {"budgets": [2, 9]}, "what is stored stays as it is"
    table = attack_table([view])
    assert not table.duplicated(["model", "attack", "unit", "budget"]).any()
    assert table["attack"].unique().tolist() == ["simba-pixel", "simba-pixel-L2cap0.25"]


def test_a_longer_run_of_fewer_images_stays_apart(tmp_path):
    short = _rows(tmp_path)
    long = _rows(tmp_path, longest=9, success=(0, 2), examples=range(2), budgets=(3, 9))
    other = _rows(tmp_path, "other")
    views = longest_runs([short, long, other])
    assert [name_of(view) for view in views] == ["simba-pixel-iterations9", "simba-pixel-iterations3", "simba-pixel"]
    assert not attack_table(views).duplicated(["model", "attack", "unit", "budget"]).any()
    pairs = paired_table(views)
    assert set(pairs["attack"]) == {f"simba-pixel-iterations{length} / simba-pixel" for length in (3, 9)}
    assert not pairs.duplicated(["model_a", "model_b", "attack", "metric", "budget"]).any()


def test_pairs_use_common_images_and_equal_attacks_only(tmp_path):
    a, b = _rows(tmp_path, "a"), _rows(tmp_path, "b", examples=range(3, 8))
    assert set(paired_table([a, b])["n"]) == {2, 1}
    other = _rows(tmp_path, "c", step="best-of-two")
    assert paired_table([a, other]).empty
    assert isinstance(paired_table([]), pd.DataFrame)
