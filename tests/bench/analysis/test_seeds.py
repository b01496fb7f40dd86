"""Summaries over seeds, against numbers worked out by other means."""

from __future__ import annotations

import dataclasses
import itertools
import json

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from bench.analysis.measured import measure
from bench.analysis.reporting import write_report
from bench.analysis.seeds import ATTACK_SEED_COLUMNS, TRAINING_COLUMNS, attack_seeds_table, trainings_table
from bench.analysis.stats import shares_interval, wilson
from framebench.models.recipe import Recipe
from tests.bench.analysis.making import cell_of, kept, run_of


def _run(tmp_path, seed, success, *, first=0, **more):
    return run_of(tmp_path, success, seed=seed, examples=np.arange(first, first + len(success)), **more)


def test_three_seeds_by_hand(tmp_path):
    runs = [_run(tmp_path, seed, success) for seed, success in
            ((0, (0, 1, 5, -1, -1)), (1, (0, 1, -1, 9, -1)), (7, (0, 3, 4, -1, -1)))]
    table = attack_seeds_table(measure(runs))
    assert list(table.columns) == ATTACK_SEED_COLUMNS
    assert set(table["attack"]) == {"noise-pixel"} and set(table["seeds"]) == {3}
    at = table[table.unit == "iterations"].set_index("budget")
    assert at.index.tolist() == [0, 1, 10] and set(at["n"]) == {5} and set(at["n_correct"]) == {4}
    # After 1: image 1 under two seeds of three. After 10: images 1 to 3 under 3, 2 and 1 seeds; half, half, half.
    assert at["asr"].tolist() == pytest.approx([0, 2 / 12, 6 / 12])
    assert at["sd"].tolist() == pytest.approx([0, np.std([0.25, 0.25, 0], ddof=1), 0])
    assert at["asr_any"].tolist() == [0, 0.25, 0.75]
    assert (at.loc[10, "any_low"], at.loc[10, "any_high"]) == pytest.approx(wilson(3, 4))
    # The shares 1, 2/3, 1/3, 0 and 1, 1, 0, 0 vary by 7/36: three outcomes are worth (1/4) / (7/36) = 9/7.
    assert (at.loc[10, "ci_low"], at.loc[10, "ci_high"]) == pytest.approx(_score_interval(0.5, 4 * 9 / 7), abs=1e-9)
    queries = table[table.unit == "queries"].set_index("budget")
    assert queries["asr"].tolist() == pytest.approx([0, 0, 6 / 12]), "1 + iterations queries: 2, 6; 2, 10; 4, 5"


def _score_interval(p, n):
    """The p0 at which the score test of p just rejects at 5%, by bisection."""
    def edge(far):
        near = p
        for _ in range(100):
            middle = (near + far) / 2
            rejected = abs(p - middle) > 1.959963984540054 * np.sqrt(middle * (1 - middle) / n)
            near, far = (near, middle) if rejected else (middle, far)
        return near
    return edge(0.0), edge(1.0)


def test_images_that_all_seeds_have_and_budgets_that_all_reach(tmp_path):
    long = _run(tmp_path, 0, (1, 5, -1, 50), budget=100, budgets=(2, 100))
    short = _run(tmp_path, 1, (4, 1, -1), first=1, budget=10, budgets=(10,))
    table = attack_seeds_table(measure([long, short])).query("unit == 'iterations'").set_index("budget")
    assert table.index.tolist() == [0, 2, 10] and set(table["n"]) == {3}
    assert table["asr"].tolist() == pytest.approx([0, 1 / 6, 3 / 6])  # ids 1 to 3: 5, -, 50 and 4, 1, -
    assert table["asr_any"].tolist() == pytest.approx([0, 1 / 3, 2 / 3])
    older = _run(tmp_path, 0, (1, 5, -1, 50), budget=5, budgets=(5,))
    with_older = attack_seeds_table(measure([older, long, short])).query("unit == 'iterations'").set_index("budget")
    pd.testing.assert_frame_equal(with_older.drop(index=5), table)


def test_seeds_that_were_run_for_so_long_count(tmp_path):
    runs = [_run(tmp_path, 0, (1, 5, -1), budget=100, budgets=(10, 100)),
            _run(tmp_path, 1, (1, 50, -1), budget=100, budgets=(100,)), _run(tmp_path, 2, (-1, 1, 1))]
    table = attack_seeds_table(measure(runs)).query("unit == 'iterations'").set_index("budget")
    assert table["seeds"].to_dict() == {0: 3, 1: 3, 10: 3, 100: 2}
    assert table["asr"].to_dict() == pytest.approx({0: 0, 1: 4 / 9, 10: 5 / 9, 100: 4 / 6})


def test_what_minimises_is_capped_at_its_end_only(tmp_path):
    runs = [_run(tmp_path, seed, (1, 4, -1), caps=(0.3,), budgets=(2, 10), norm="l2", label="ddn") for seed in (0, 1)]
    table = attack_seeds_table(measure(runs)).query("unit == 'iterations'").set_index(["attack", "budget"])
    assert table["asr"].to_dict() == pytest.approx({
        ("ddn", 0): 0, ("ddn", 2): 1 / 3, ("ddn", 10): 2 / 3, ("ddn-L2cap0.3", 0): 0, ("ddn-L2cap0.3", 10): 1 / 3})


def test_caps_are_apart_and_epsilons_too(tmp_path):
    runs = [_run(tmp_path, seed, (1, 9, -1), caps=caps, epsilon=epsilon)
            for epsilon, (seed, caps) in itertools.product((0.2, 0.4), ((0, (0.5,)), (1, ())))]
    table = attack_seeds_table(measure(runs)).query("unit == 'iterations' and budget == 10")
    assert table["attack"].str.endswith("-L2cap0.5").tolist() == [False, True] * 2
    assert table["epsilon"].tolist() == [0.2, 0.2, 0.4, 0.4]
    assert table["asr"].tolist() == pytest.approx([2 / 3, 1 / 3] * 2)


def test_one_seed_or_no_common_image_is_no_summary(tmp_path):
    assert attack_seeds_table(measure([_run(tmp_path, 1, (1, -1))])).empty
    apart = [_run(tmp_path, 0, (1, -1)), _run(tmp_path, 1, (1, -1), settings={"basis": "dct"})]
    table = attack_seeds_table(measure(apart))
    assert list(table.columns) == ATTACK_SEED_COLUMNS and table.empty
    assert attack_seeds_table(measure([_run(tmp_path, 0, (1,)), _run(tmp_path, 1, (1,), first=1)])).empty
    wrong = attack_seeds_table(measure([_run(tmp_path, seed, (0, 0)) for seed in (0, 1)]))
    assert wrong["asr"].isna().all() and (wrong[["ci_low", "ci_high"]].to_numpy() == [0, 1]).all()


def test_targets_count_where_no_seed_starts_at_its_own(tmp_path):
    runs = [_run(tmp_path, seed, (0, 1, -1), targeted=True) for seed in (0, 1)]
    assert set(attack_seeds_table(measure(runs))["n_correct"]) == {1}, "all goals are class 1"


def test_shares_of_equal_outcomes_have_wilsons_interval():
    for successes, n in ((0, 7), (3, 7), (50, 50), (0, 0)):
        shares = np.arange(n) < successes
        assert shares_interval(shares.astype(float), 5) == pytest.approx(wilson(successes, n), abs=1e-12)


def test_no_success_and_no_failure_end_exactly_at_0_and_1():
    for n in range(1, 200):
        assert shares_interval(np.zeros(n), 3)[0] == 0 and shares_interval(np.ones(n), 3)[1] == 1


def test_outcomes_are_worth_no_more_than_they_are():
    """Each image broken by one of two seeds: they vary not at all, as 20 outcomes at the very most."""
    assert shares_interval(np.full(10, 0.5), 2) == pytest.approx(wilson(10, 20))


def test_the_interval_is_that_of_resampled_images():
    rng = np.random.default_rng(3)
    broken = rng.random((3, 400)) < rng.beta(1, 2, size=400)  # three seeds
    drawn = rng.integers(0, 400, (4000, 400))
    bounds = np.quantile(broken[:, drawn].mean((0, 2)), [0.025, 0.975])
    assert shares_interval(broken.mean(0), 3) == pytest.approx(bounds, abs=0.004)
    alone, naive = wilson(int(broken[0].sum()), 400), wilson(int(broken.sum()), 1200)
    assert naive[1] - naive[0] < np.diff(bounds).item() - 0.008 < alone[1] - alone[0] - 0.016


@pytest.mark.parametrize(("a", "b", "most"), [(0.3, 0.3, 0.97), (8, 8, 0.98), (0.02, 1, 0.99)])
def test_the_interval_covers(a, b, most):
    """Images whose chance of being broken is drawn from a beta distribution, five seeds, 60 images."""
    rng, hits, draws = np.random.default_rng(5), 0, 2000
    for _ in range(draws):
        low, high = shares_interval(rng.binomial(5, rng.beta(a, b, size=60)) / 5, 5)
        hits += low <= a / (a + b) <= high
    assert 0.935 <= hits / draws <= most


def test_a_further_success_does_not_lower_the_upper_end():
    ends = [shares_interval(np.array([broken / 3] + [0] * 18), 3)[1] for broken in range(4)]
    assert ends == sorted(ends)


def _card(name, seed, **recipe):
    return {"name": name, "arch": "resnet18", "width": 8, "classes": ["a", "b"], "data": {"sha256": "x"},
            "recipe": {"epochs": 3, "gamma": 0.0, **recipe, "seed": seed}}


def _attack_csv(values, n=100):
    return pd.DataFrame([{"model": model, "domain": "d", "attack": "simba-pixel", "epsilon": 0.2, "unit": "iterations",
                          "budget": budget, "n": n, "asr": asr, "robust_accuracy": 1 - asr}
                         for model, asr in values.items() for budget in (0, 10)])


def _trainings(table, cards, **others):
    """The table of trainings on the same images, but for `others`: model -> ids."""
    images = {entry: np.arange(3) for entry in table[["model", "domain", "attack"]].itertuples(index=False, name=None)}
    return trainings_table(table, cards, {key: others.get(key[0], ids) for key, ids in images.items()})


def test_trainings_on_other_images_are_not_summarized():
    cards = {name: _card(name, i) for i, name in enumerate("abc")}
    table = _attack_csv({"a": 0.9, "b": 0.1, "c": 0.5})
    assert _trainings(table, cards)["models"].unique().tolist() == ["a b c"]
    assert _trainings(table, cards, a=np.array([2, 1, 0]))["models"].unique().tolist() == ["a b c"]
    assert _trainings(table, cards, c=np.array([0, 1, 4]))["models"].unique().tolist() == ["a b"]


def test_trainings_by_hand():
    cards = {"mine-s0": _card("mine-s0", 0), "mine-s1": _card("mine-s1", 1), "mine-s10": _card("mine-s10", 10),
             "alone": _card("alone", 0, gamma=1.0), "else": None}
    table = _trainings(_attack_csv({"mine-s10": 0.4, "else": 0.9, "mine-s0": 0.5, "alone": 0.1, "mine-s1": 0.75}),
                            cards)
    assert list(table.columns) == TRAINING_COLUMNS
    assert set(table["trained"]) == {"mine"} and set(table["models"]) == {"mine-s0 mine-s1 mine-s10"}
    assert len(table) == 4 and set(table["trainings"]) == {3}
    entry = table.query("budget == 10 and metric == 'asr'").iloc[0]
    test = stats.ttest_1samp([0.5, 0.75, 0.4], 0)
    bounds = test.confidence_interval(0.95)
    assert (entry["mean"], entry["sd"]) == pytest.approx((0.55, np.sqrt((0.05**2 + 0.2**2 + 0.15**2) / 2)))
    assert (entry["ci_low"], entry["ci_high"]) == pytest.approx((bounds.low, bounds.high))


def test_a_card_from_before_an_option_is_of_the_same_recipe():
    old = {"regularizer": "frame", "weight_decay": 0.0, "gamma": 1e-5, "every": 5, "regularizer_options": {}}
    new = dataclasses.asdict(Recipe(regularizer="frame", epochs=3, gamma=1e-5, regularizer_options={"upper": 1.5}))
    assert new.pop("seed") == new["weight_decay"] == 0 and "warmup" in new["regularizer_options"]
    table = _attack_csv({"a": 0.9, "b": 0.1})
    for options, same in (({}, True), ({"upper": 2.0}, False)):
        cards = {"a": _card("a", 0, **old | {"regularizer_options": options}), "b": _card("b", 1, **new)}
        assert _trainings(table, json.loads(json.dumps(cards))).empty != same


@pytest.mark.parametrize(("first", "second", "same"), [
    ({"seed": 0}, {"seed": 1}, True),  # each the training's own
    ({"seed": 0}, {"seed": 0}, False),  # of trainings that share their draws, but for the name
    ({"seed": 7}, {"seed": 7}, True), ({"seed": 7}, {"seed": 1}, False)])
def test_trainings_whose_regularizer_draws(first, second, same):
    table = _attack_csv({"a": 0.9, "b": 0.1})
    cards = {name: _card(name, seed, regularizer="srip", gamma=0.01, regularizer_options=options)
             for seed, (name, options) in enumerate({"a": first, "b": second}.items())}
    before = json.dumps(cards)
    assert _trainings(table, cards).empty != same and json.dumps(cards) == before


def test_cards_are_left_as_they_are():
    cards = {name: _card(name, i, fraction=0.5) for i, name in enumerate("ab")}  # of a recipe that is not ours
    before = json.dumps(cards)
    assert not _trainings(_attack_csv({"a": 0.9, "b": 0.1}), cards).empty and json.dumps(cards) == before


def test_a_rate_does_not_leave_its_range():
    table = _trainings(_attack_csv({"a": 0.9, "b": 0.1}), {name: _card(name, i) for i, name in enumerate("ab")})
    assert set(table["trained"]) == {"a, b"} and (table[["ci_low", "ci_high"]].to_numpy() == [0, 1]).all()


@pytest.mark.parametrize("cards", [
    {"a": _card("a", 0), "b": _card("b", 1, epochs=4)},
    {"a": _card("a", 0), "b": {**_card("b", 1), "width": 16}},
    {"a": _card("a", 0), "b": {**_card("b", 1), "data": {"sha256": "y"}}},
    {"a": _card("a", 0), "b": _card("b@2", 1)},
    {"a": _card("run@1", 0), "b": _card("run@2", 0)},
    {"a": {**_card("a", 0), "recipe": {"fraction": 0.5}}, "b": {**_card("b", 1), "recipe": {"fraction": 0.5}}}])
def test_what_is_no_second_training_of_a_recipe(cards):
    assert _trainings(_attack_csv({"a": 0.1, "b": 0.2}), cards).empty


def test_trainings_on_other_numbers_of_images_are_apart():
    cards = {name: _card(name, seed) for seed, name in enumerate("abcd")}
    both = pd.concat([_attack_csv({"a": 0.1, "b": 0.2}), _attack_csv({"c": 0.1, "d": 0.2}, n=50)])
    assert _trainings(both, cards)["models"].unique().tolist() == ["a b", "c d"]


def test_kept_epochs_of_several_trainings():
    cards = {f"r-s{seed}@{epoch}": _card(f"r-s{seed}@{epoch}", seed) for seed, epoch in ((0, 3), (1, 2.5))}
    table = _trainings(_attack_csv(dict.fromkeys(cards, 0.5)), cards)
    assert set(table["trained"]) == {"r (kept epochs)"} and set(table["mean"]) == {0.5} and set(table["sd"]) == {0.0}
    assert table[["ci_low", "ci_high"]].isna().all(axis=None), "equal values tell nothing of how trainings differ"


def test_the_report_writes_and_shows_them(tmp_path):
    folder = tmp_path / "examples"

    def noise(model, seed, success, budget=10):
        kept(run_of(folder, success, model=model, seed=seed, budget=budget, budgets=(1, budget) if budget > 1 else (1,),
                    facts={"card": _card(model, int(model[-1]))}))

    noise("net-s0", 0, [-1] * 10, budget=1)  # the longer one answers
    for model, seed, broken in (("net-s0", 0, 2), ("net-s0", 3, 4), ("net-s1", 0, 5), ("net-s1", 3, 5)):
        noise(model, seed, [5] * broken + [-1] * (10 - broken))
    for model, wrong in (("net-s0", 1), ("net-s1", 3)):
        kept(cell_of(folder, np.arange(10) >= wrong, model=model, card=_card(model, int(model[-1]))))
    results = write_report(tmp_path)
    assert not results.attack.duplicated(["model", "attack", "unit", "budget"]).any() and len(results.attack) == 24
    seeds = pd.read_csv(tmp_path / "attack_seeds.csv").query("unit == 'iterations' and budget == 10")
    assert seeds.set_index("model")["asr"].to_dict() == pytest.approx({"net-s0": 0.3, "net-s1": 0.5})
    trainings = pd.read_csv(tmp_path / "trainings.csv", dtype={"budget": "Int64"})
    asr = trainings.query("metric == 'asr' and unit == 'iterations' and budget == 10").set_index("attack")["mean"]
    assert asr.to_dict() == pytest.approx({"noise-pixel": 0.35, "noise-pixel-s3": 0.45})
    accuracy = trainings.query("metric == 'accuracy'")
    assert (accuracy["mean"].item(), accuracy["part"].item()) == (pytest.approx(0.8), "all")
    assert results.trainings["budget"].dropna().isin([0, 1, 10]).all() and len(results.attack_seeds) == 12
    page = results.page.read_text()
    assert "Over the seeds of the attack" in page and page.count("<h3>Over the seeds of the training</h3>") == 2
