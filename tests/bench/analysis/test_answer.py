"""What the results are said to answer, on rows whose truth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bench.analysis.answer import questions
from bench.analysis.findings import find
from bench.analysis.reporting import write_report
from bench.analysis.stats import images_needed, mcnemar, pairs_needed
from bench.browsing.listing import Listing
from bench.options.report import ReportSettings
from tests.bench.analysis.making import cell_of, kept, run_of
from tests.bench.analysis.shifting import shifted


def found_of(tmp_path, *stored, **settings):
    for rows in stored:
        kept(rows)
    return find(tmp_path, ReportSettings(**settings))


def robust_of(found):
    return [question for question in questions(found) if question.kind == "robust"]


def attacked(tmp_path, share, *, model, n=400, **options):
    """Rows of a model that holds on the first images, up to a share, and is broken at once on the others."""
    return run_of(tmp_path / "examples", np.where(np.arange(n) < round(share * n), -1, 1), model=model, **options)


def test_the_images_needed_for_two_proportions_give_the_power_that_was_asked_for():
    assert pairs_needed(0.35, 0.15) == pytest.approx(119.8, abs=0.2)  # (1.96 sqrt .35 + .8416 sqrt .3275)^2 / .0225
    assert pairs_needed(0.35, -0.15) == pairs_needed(0.35, 0.15) < pairs_needed(0.35, 0.15, level=0.01)
    assert pairs_needed(0.3, 0.0) == images_needed(0.3, 0.0) == math.inf
    rng, n = np.random.default_rng(0), round(pairs_needed(0.2, 0.08))
    found = 0
    for _ in range(500):
        draws = rng.random(n)
        found += mcnemar(draws < 0.14, draws > 0.94).p_value < 0.05
    assert 0.7 < found / 500 < 0.85


def test_the_images_needed_for_a_mean_are_those_of_the_normal_test():
    assert images_needed(0.5, 0.1) == pytest.approx(196.2, abs=0.1)  # ((1.96 + .8416) 5)^2
    assert images_needed(0.5, -0.1, power=0.9) == pytest.approx(262.7, abs=0.1)


def test_a_clear_winner_is_alone(tmp_path):
    found = found_of(tmp_path, *(attacked(tmp_path, share, model=model) for model, share in
                                 (("baseline", 0.3), ("a", 0.6), ("b", 0.3))))
    (question,) = robust_of(found)
    standing = question.standing()
    assert standing.first == "a" and standing.alone and set(standing.lower) == {"baseline", "b"}
    to = {pair.a: pair for pair in question.to(found.reference)}
    assert set(to) == {"a", "b"} and to["a"].shown and not to["b"].shown
    assert to["a"].difference == pytest.approx(0.3) and 0.2 < to["a"].low < 0.3 < to["a"].high < 0.4
    back = question.differences["baseline", "a"]
    assert (back.difference, back.low, back.high) == (-to["a"].difference, -to["a"].high, -to["a"].low)
    assert question.budget == 10 and question.values["a"].value == 0.6


def test_equal_models_are_tied_and_no_number_of_images_would_tell_them_apart(tmp_path):
    found = found_of(tmp_path, *(attacked(tmp_path, 0.4, model=model) for model in "abc"))
    (question,) = robust_of(found)
    standing = question.standing()
    assert not standing.alone and len(standing.tied) == 2 and not standing.lower
    assert {pair.needed for pair in question.differences.values()} == {math.inf}


def test_a_difference_that_is_too_small_needs_more_images_than_there_are(tmp_path):
    found = found_of(tmp_path, attacked(tmp_path, 0.40, model="a", budgets=(10,)),
                     attacked(tmp_path, 0.41, model="b", budgets=(10,)))
    pair = robust_of(found)[0].differences["b", "a"]
    assert not pair.shown and pair.difference == pytest.approx(0.01)
    assert pair.needed == pytest.approx(max(401, pairs_needed(0.01, 0.01)))
    more = found_of(tmp_path / "more", attacked(tmp_path / "more", 0.40, model="a", n=2000, budgets=(10,)),
                    attacked(tmp_path / "more", 0.41, model="b", n=2000, budgets=(10,)))
    assert robust_of(more)[0].differences["b", "a"].shown


def test_the_images_needed_count_all_comparisons_of_the_family(tmp_path):
    rng = np.random.default_rng(0)
    stored = [run_of(tmp_path / "examples", np.where(rng.random(200) < share, -1, 1), model=model, budgets=(1, 10))
              for model, share in (("a", 0.5), ("b", 0.52), ("c", 0.54))]
    found = found_of(tmp_path, *stored)
    (question,) = robust_of(found)
    (entry,) = found.tables["paired"].query(
        "metric == 'robust_accuracy' and budget == 10 and model_a == 'a' and model_b == 'b'").to_dict("records")
    discordant = (entry["only_a"] + entry["only_b"]) / 200
    assert question.differences["a", "b"].needed == pytest.approx(
        pairs_needed(discordant, entry["difference"], level=0.05 / 6))


@pytest.mark.parametrize("seed", range(4))
def test_nothing_is_said_that_the_tables_do_not_show(tmp_path, seed):
    rng = np.random.default_rng(seed)
    stored = [run_of(tmp_path / "examples", rng.choice([-1, 1, 5], size=60, p=[share, 0.3, 0.7 - share]), model=model,
                     attack=attack, budgets=(1, 10), domain="e")
              for model, share in (("a", 0.1), ("b", 0.35), ("c", 0.4), ("d", 0.6)) for attack in ("noise", "simba")]
    stored += [cell for i, model in enumerate("abcd") for cell in shifted(
        tmp_path / "examples", model, seed=i, n=60, shares=(0.9 - 0.1 * i, 0.5, 0.7 - 0.1 * i, 0.2))]
    found = found_of(tmp_path, *stored)
    asked = [question for question in questions(found) if (question.kind, question.domain) != ("clean", "e")]
    tables = {"robust": found.tables["paired"].query("metric == 'robust_accuracy' and budget == 10"),
              "shift": found.tables["shift_paired"], "clean": found.tables["shift_paired"]}
    assert [question.kind for question in asked] == ["robust", "robust", "shift", "clean"]
    for question in asked:
        table = tables[question.kind]
        what = (table["attack"] == question.attack) if question.kind == "robust" else table["part"] == question.part
        own = table[(table["domain"] == question.domain) & what].set_index(["model_a", "model_b"])
        assert len(own) == 6 and len(question.differences) == 12
        for (a, b), row in own.iterrows():
            pair = question.differences[a, b]
            assert (pair.difference, pair.p, pair.n) == (row["difference"], row["p_holm"], row["n"])
            assert pair.shown == (row["p_holm"] < 0.05 and (row["ci_low"] > 0 or row["ci_high"] < 0))
            assert pair.shown or pair.needed > row["n"]
        standing = question.standing()
        beaten = [other for other in question.values if other != standing.first
                  and question.differences[standing.first, other].shown]
        assert set(standing.lower) == set(beaten) and standing.alone == (len(beaten) == 3)
        assert question.values[standing.first].value == max(value.value for value in question.values.values())


def test_twenty_images_show_little(tmp_path):
    found = found_of(tmp_path, attacked(tmp_path, 0.4, model="a", n=20), attacked(tmp_path, 0.6, model="b", n=20))
    pair = robust_of(found)[0].differences["b", "a"]
    assert pair.difference == pytest.approx(0.2) and not pair.shown and 20 < pair.needed < 100


def test_a_model_without_a_correct_image_is_named(tmp_path):
    wrong = run_of(tmp_path / "examples", [0] * 100, model="wrong")
    found = found_of(tmp_path, attacked(tmp_path, 0.5, model="a", n=100), wrong)
    (question,) = robust_of(found)
    assert question.hopeless == ("wrong",) and question.values["wrong"].value == 0
    clean = next(question for question in questions(found) if question.kind == "clean")
    assert clean.values["wrong"].value == 0 and clean.standing().first == "a" and clean.standing().alone


def test_targeted_attacks_and_single_models_have_numbers_and_no_ranks(tmp_path):
    stored = [attacked(tmp_path, 0.5, model=model, targeted=True, columns={"goal": [2] * 400}) for model in "ab"]
    (question,) = robust_of(found_of(tmp_path, *stored))
    assert question.targeted and question.standing() is None and not question.differences
    assert question.values["a"].value == 0.5
    alone = questions(found_of(tmp_path / "one", attacked(tmp_path / "one", 0.5, model="a")))
    assert [question.standing() for question in alone] == [None, None]
    assert {question.kind for question in alone} == {"robust", "clean"}


def test_every_attack_seed_epsilon_and_domain_is_a_question(tmp_path):
    stored = [attacked(tmp_path, 0.5, model=model, n=50, attack=attack, seed=seed, domain=domain, epsilon=epsilon,
                       label=f"{attack}-{epsilon}")
              for model in "ab" for attack in ("noise", "simba") for seed in (0, 1) for domain in "de"
              for epsilon in (0.1, 0.2)]
    asked = questions(found_of(tmp_path, *stored))
    assert sum(question.kind == "robust" for question in asked) == 16
    assert sum(question.kind == "clean" for question in asked) == 2
    assert len({question.key for question in asked}) == 18


def test_models_with_other_images_are_ranked_on_those_that_two_share(tmp_path):
    """Model c was attacked on ten easy images only: all hold, as they do with a."""
    easy = run_of(tmp_path / "examples", [-1] * 10, model="c")
    found = found_of(tmp_path, attacked(tmp_path, 0.6, model="a"), attacked(tmp_path, 0.3, model="b"), easy)
    (question,) = robust_of(found)
    standing = question.standing()
    assert not question.even and question.values["c"].value == 1.0
    assert standing.first == "a" and standing.tied == ("c",) and standing.lower == ("b",) and not standing.alone
    apart = run_of(tmp_path / "examples", [-1] * 10, model="z", examples=range(1000, 1010))
    standing = robust_of(found_of(tmp_path, apart))[0].standing()
    assert standing.apart == ("z",) and not standing.alone


def test_the_largest_budget_is_that_of_most_models(tmp_path):
    found = found_of(tmp_path, *(attacked(tmp_path, 0.5, model=model, budget=100, budgets=(10, 100)) for model in "ab"),
                     attacked(tmp_path, 0.5, model="c", budget=7, budgets=(7,)))
    (question,) = robust_of(found)
    assert question.budget == 100 and question.left_out == ("c",) and set(question.values) == {"a", "b"}
    every = found_of(tmp_path, attacked(tmp_path, 0.5, model="d", budget=10, budgets=(10,)),
                     attacked(tmp_path, 0.5, model="c", budget=10, budgets=(10,)))
    assert robust_of(every)[0].budget == 10, "the largest that all four have"


def test_accuracy_on_shifted_and_on_clean_images(tmp_path):
    better = shifted(tmp_path / "examples", "z", clean=0.95, shares=(0.9, 0.6, 0.8, 0.3))
    found = found_of(tmp_path, *shifted(tmp_path / "examples", "a"), *better)
    shift, clean = questions(found)
    assert (shift.kind, shift.domain, shift.part, shift.cells) == ("shift", "c", "benchmark", 4)
    assert (clean.kind, clean.domain, clean.cells) == ("clean", "d", 1)
    assert shift.standing().first == "z" and shift.standing().alone
    images = np.random.default_rng(0).random(400)
    scores = [np.mean([images < share for share in shares], axis=0) for shares in ((0.9, 0.6, 0.8, 0.3),
                                                                                  (0.8, 0.5, 0.7, 0.2))]
    pair = shift.differences["z", "a"]
    assert pair.bound and pair.needed == max(401, images_needed((scores[0] - scores[1]).std(), pair.difference))


def test_a_set_that_was_attacked_and_classified_has_one_clean_accuracy(tmp_path):
    stored = [rows for model in "ab" for rows in (attacked(tmp_path, 0.5, model=model, facts={"set": "d"}),
                                                  cell_of(tmp_path / "examples", [True] * 9, model=model))]
    found = found_of(tmp_path, *stored)
    assert [(question.kind, question.domain) for question in questions(found)] == [("robust", "d"), ("clean", "d")]


def test_without_attacks_and_shifts_there_is_no_question():
    from bench.analysis.findings import Findings
    assert questions(Findings(ReportSettings())) == []


def test_without_a_bound_models_are_compared_while_some_images_are_left(tmp_path):
    """At the largest budget nothing is left of either: there is nothing to compare there."""
    runs = [run_of(tmp_path / "examples", np.repeat([2, breaks, 90], [20, 60, 20]), model=model, budget=100,
                   budgets=(1, 10, 100)) for model, breaks in (("a", 50), ("b", 8))]
    (question,) = robust_of(found_of(tmp_path, *runs))
    assert question.budget == 10
    assert (question.values["a"].value, question.values["b"].value) == (0.8, 0.2)
    assert question.last == {"a": (100, 0.0), "b": (100, 0.0)}
    bounded = [run_of(tmp_path / "bounded" / "examples", np.repeat([2, 50], [20, 80]), model=model, budget=100,
                      budgets=(10, 100), norm="linf", bound=0.1) for model in "ab"]
    (question,) = robust_of(found_of(tmp_path / "bounded", *bounded))
    assert question.budget == 100 and not question.last


def test_a_single_model_has_its_largest_budget_as_in_the_index(tmp_path):
    run = run_of(tmp_path / "examples", np.repeat([50, -1], [98, 2]), model="a", budget=100, budgets=(10, 100))
    found = found_of(tmp_path, run)
    (question,) = robust_of(found)
    assert (question.budget, question.values["a"].value) == (100, 0.02) and not question.last
    write_report(tmp_path)
    assert [rate.value for rate in Listing(tmp_path.parent).run(tmp_path.name).robust] == [0.02]
