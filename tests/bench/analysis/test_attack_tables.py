from __future__ import annotations

import numpy as np
import pytest
import torch

from bench.analysis.attack_tables import ATTACK_COLUMNS, attack_table, curve, epsilon_curves, parts_table
from bench.analysis.stats import wilson
from framebench.attacks.registry import make
from tests.bench.analysis.making import CLASSES, one, run_of

STEPS = {0: [], 2: [0, 1], 3: [-1, 1, 1], -1: [0, 0, 1], 1: [1]}


def simba(tmp_path, *, cost="one-or-two", success=(0, 2, 3, -1, 1), budgets=(1, 2, 3), columns=None, **more):
    """Five images: misclassified from the start, broken at 2, at 3, never, at 1; three iterations at most."""
    price = {1: 1 if cost == "one-or-two" else 2, 0: 2, -1: 2}
    return run_of(tmp_path, success, attack="simba", budget=3, budgets=budgets, cost=cost, columns={
        "queries": [1 + sum(price[step] for step in STEPS[s]) for s in success],
        "l2": [0.2 * np.sqrt(np.count_nonzero(STEPS[s])) for s in success],
        "steps": [np.array(STEPS[s], np.int8).tobytes() for s in success], **(columns or {})}, **more)


def square(tmp_path, **traits):
    """Rows of an attack without steps: misclassified from the start, broken at 1 and at 3, never within 3."""
    return run_of(tmp_path, (0, 1, 3, -1), attack="square", budget=3, budgets=(1, 3),
                  **{"label": "square-Linf-schedule3", "epsilon": 8 / 255, "norm": "linf", "bound": 8 / 255, **traits})


def iterations(rows, unit="iterations"):
    table = attack_table([one(rows)])
    return table[table.unit == unit].set_index("budget")


def test_attack_table_by_hand(tmp_path):
    table = attack_table([one(simba(tmp_path))])
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
    cut = simba(tmp_path, success=(-1,), columns={"queries": [4], "steps": [np.array([0], np.int8).tobytes()]})
    assert iterations(cut)["queries_mean"].tolist() == [1, 3, 4, 4]


def test_the_bound_is_what_the_attack_declares(tmp_path):
    table = attack_table([one(square(tmp_path))])
    assert (table["norm"] == "linf").all() and (table["bound"] == 8 / 255).all()
    assert attack_table([one(square(tmp_path, norm=None, bound=None))])["norm"].isna().all()
    assert attack_table([one(simba(tmp_path))])["bound"].isna().all(), "SimBA's epsilon is a step"


def test_an_attack_without_an_epsilon_has_none_in_the_table(tmp_path):
    assert attack_table([one(square(tmp_path, epsilon=None))])["epsilon"].isna().all()


def test_query_budgets_by_hand(tmp_path):
    at = iterations(simba(tmp_path), "queries")
    assert at["successes"].tolist() == [0, 0, 1, 1]  # broken at 2, 4 and 5 queries
    assert at["queries_mean"].tolist() == [0, 1, 2, np.mean([3, 3, 3, 2])]


def test_best_of_two_pays_for_both_signs(tmp_path):
    at = iterations(simba(tmp_path, cost="two"))
    assert at["queries_mean"].tolist() == [1, 3, np.mean([5, 5, 5, 3]), np.mean([5, 7, 7, 3])]


def test_without_a_correct_image_there_is_no_rate(tmp_path):
    table = attack_table([one(simba(tmp_path, success=(0, 0)))])
    assert table["asr"].isna().all() and (table["ci_low"] == 0).all() and (table["ci_high"] == 1).all()


def test_targeted_denominator_is_what_is_not_at_the_target(tmp_path):
    # All goals are class 1 here: the image whose clean prediction is 0 is the one to be driven there.
    assert attack_table([one(simba(tmp_path, targeted=True))])["n_correct"].tolist() == [1] * 8


def test_the_curve_passes_through_the_table(tmp_path):
    run = one(simba(tmp_path))
    for unit in ("iterations", "queries"):
        points = curve(run, unit).set_index("budget")["asr"]
        assert points.iloc[0] == 0 and points.is_monotonic_increasing
        for entry in attack_table([run]).query("unit == @unit").to_dict("records"):
            assert points[points.index <= entry["budget"]].iloc[-1] == entry["asr"]


def test_a_cap_leaves_out_far_successes(tmp_path):
    table = attack_table([one(simba(tmp_path, caps=(0.25,)))])
    assert table["attack"].unique().tolist() == ["simba-pixel", "simba-pixel-L2cap0.25"]
    at = table[(table.attack == "simba-pixel-L2cap0.25") & (table.unit == "iterations")].set_index("budget")
    assert at["successes"].tolist() == [0, 1, 2, 2]  # L2 at success: 0.2, 0.35 and 0.2
    assert at["robust_accuracy"].tolist() == pytest.approx([0.8, 0.6, 0.4, 0.4])
    assert at["l2_median"].iloc[3] == pytest.approx(0.2)


def minimal(tmp_path, seed=0, **traits):
    """Four images: misclassified from the start, broken at 1 and at 4, never; the attack ends after 10 iterations."""
    return run_of(tmp_path, (0, 1, 4, -1), attack="foolbox:DDNAttack", budgets=(2, 5, 10), caps=(0.3,), seed=seed,
                  columns={"queries": [1, 11, 11, 11], "l2": [0, 0.1, 0.4, 0]},
                  **{"label": "ddn", "epsilon": None, "norm": "l2", "bound": None, "prefix": False, **traits})


def test_an_attack_that_minimises_has_its_distances_at_its_end(tmp_path):
    table = attack_table([one(minimal(tmp_path))])
    anyhow, near = (table[(table.attack == name) & (table.unit == "iterations")].set_index("budget")
                    for name in ("ddn", "ddn-L2cap0.3"))
    assert anyhow["successes"].to_dict() == {0: 0, 2: 1, 5: 2, 10: 2}
    assert anyhow["l2_median"].isna().tolist() == [True, True, True, False]
    assert anyhow.loc[10, "l2_median"] == pytest.approx(0.25)
    assert near["successes"].to_dict() == {0: 0, 10: 1} and near.loc[10, "robust_accuracy"] == 0.5
    queries = table[table.unit == "queries"].set_index("budget")
    assert queries[queries.attack == "ddn"]["successes"].to_dict() == {0: 0, 2: 1, 5: 2, 10: 2}
    assert curve(one(minimal(tmp_path)), "queries")[["budget", "asr"]].to_numpy()[:3].tolist() == [
        [0, 0], [2, pytest.approx(1 / 3)], [5, pytest.approx(2 / 3)]]
    assert queries["l2_median"].isna().all(), "the run has one query more than its largest budget"
    assert queries[queries.attack == "ddn-L2cap0.3"].index.tolist() == [0]
    bounded = attack_table([one(minimal(tmp_path, bound=1.0))]).query("unit == 'iterations'").set_index("budget")
    assert bounded["l2_median"].tolist()[1:4] == pytest.approx([0.1, 0.25, 0.25]), "which ends at its success"


def test_an_attack_without_steps_pays_one_query_per_iteration(tmp_path):
    table = attack_table([one(square(tmp_path))])
    assert table["attack"].unique().tolist() == ["square-Linf-schedule3"]
    both = [table[table.unit == unit].set_index("budget") for unit in ("iterations", "queries")]
    assert both[0]["successes"].tolist() == [0, 1, 2] and both[1]["successes"].tolist() == [0, 0, 1]
    assert both[0]["queries_mean"].tolist() == [1, 2, pytest.approx(10 / 3)]
    assert curve(one(square(tmp_path)), "iterations")["budget"].tolist() == [0, 1, 3]


def test_gradients_are_not_on_the_axis_of_queries(tmp_path):
    run = one(square(tmp_path, needs="gradients"))
    assert attack_table([run])["unit"].unique().tolist() == ["iterations"]
    assert curve(run, "queries")[["budget", "asr"]].to_numpy().tolist() == [[0, 0]]


def test_what_the_clip_breaks_is_success_at_nought(tmp_path):
    """Under the normalised clip an image is correct before the clip and may be misclassified before the first step."""
    run = one(simba(tmp_path, columns={"clean_prediction": [1] * 5}))
    at = attack_table([run]).query("unit == 'iterations'").set_index("budget")
    assert at["n_correct"].tolist() == [5] * 4 and at["successes"].tolist() == [1, 2, 3, 4]
    for unit in ("iterations", "queries"):
        assert curve(run, unit)["asr"].iloc[0] == pytest.approx(0.2)


def autoattack(tmp_path, classes, *, n=24, epsilon=0.05, budget=10**6, max_queries=None, **options):
    """Run AutoAttack on n images, some broken by every part and some by none, as the gradients are of other images.

    Returns:
        Its rows, and the forward and backward passes of images that the model has counted.
    """
    pytest.importorskip("pyautoattack")
    draws = torch.Generator().manual_seed(classes)
    first, second = torch.randn(48, 192, generator=draws), torch.randn(classes, 48, generator=draws) * 0.6
    x = torch.rand(24, 3, 8, 8, generator=draws)[:n]
    passes = np.zeros(2, dtype=np.int64)

    def logits(images):
        return torch.tanh((images.flatten(1) - 0.5) @ first.T * 0.3) @ second.T

    def backward(gradient):
        passes[1] += int((gradient != 0).any(1).sum())

    def model(images):
        passes[0] += len(images)
        other = logits(images.flip(3))
        if images.requires_grad:
            other.register_hook(backward)
        return logits(images).detach() + other - other.detach()

    y = logits(x).argmax(1)
    attack = make("autoattack", budget=budget, epsilon=epsilon, max_queries=max_queries,
                  options={"iterations": 3, "queries": 12, **options})
    found = [one for several in attack.stream(model, lambda ids: (x[ids], y[ids]), np.arange(n), seed=0, batch_size=n)
             for one in several.each()]
    rows = run_of(tmp_path, [one.success_iteration[0] for one in found], attack="autoattack", settings=attack.settings,
                  budget=attack.traits.budget, budgets=[attack.traits.budget], examples=[one.ids[0] for one in found],
                  columns={"queries": [one.queries[0] for one in found]}, facts={"classes": CLASSES[:classes]},
                  epsilon=epsilon, needs="gradients", parts=attack.traits.parts)
    return rows, passes


@pytest.mark.parametrize(("classes", "queries", "gradients"), [
    (5, [132, 1188, 12 * (1 + 4 * 20), 612], [132, 1188, 12 * 4 * 10, 0]),
    (10, [132, 1188, 12 * (1 + 9 * 20), 612], [132, 1188, 12 * 9 * 10, 0])])
def test_parts_that_break_no_image_use_all_their_passes(tmp_path, classes, queries, gradients):
    rows, passes = autoattack(tmp_path, classes, n=12, epsilon=1e-6, iterations=10, queries=50)
    parts = parts_table([one(rows)])
    assert parts["queries"].tolist() == queries and parts["gradients"].tolist() == gradients
    assert passes.tolist() == [12 + sum(queries), sum(gradients)], "12 are of the clean images"


@pytest.mark.parametrize(("classes", "more"), [(5, {}), (10, {}), (5, {"max_queries": 70}),
                                               (5, {"version": "plus", "iterations": 1, "targets": 6})])
def test_the_passes_of_every_part_are_those_that_the_model_counts(tmp_path, classes, more):
    """Those of a part are what it adds to a run that ends before it."""
    rows, passes = autoattack(tmp_path, classes, **more)
    parts, before = parts_table([one(rows)]), np.array([24, 0])
    assert more or (parts["broken"] > 0).sum() >= 3
    for part, end in zip(parts.to_dict("records"), (part.end for part in rows.facts.traits.parts), strict=True):
        _, until = autoattack(tmp_path, classes, budget=end, **more)
        passes_of_part = until - before
        assert part["queries"] == passes_of_part[0], part["part"]
        assert part["part"] == "fab" or part["gradients"] == passes_of_part[1], "fab has a pass per class"
        before = until
    assert before.tolist() == passes.tolist()


def test_queries_within_a_budget_are_those_of_a_run_so_long(tmp_path):
    rows, _ = autoattack(tmp_path, 5)
    ends = [part.end for part in rows.facts.traits.parts]
    budgets = [0, ends[1], ends[1] + 1, ends[1] + 40, ends[2] + 7]
    table = attack_table([one(rows, budgets=tuple(budgets))])
    for budget, mean in zip(table["budget"], table["queries_mean"], strict=True):
        _, passes = autoattack(tmp_path, 5, budget=budget)
        assert mean == pytest.approx(passes[0] / 24), budget


def test_parts_tell_which_of_them_has_broken_an_image(tmp_path):
    parts = make("autoattack", budget=100, options={"version": "rand", "iterations": 1}).traits.parts
    run = one(run_of(tmp_path, (0, 2, 40, 41, -1), budget=80, budgets=(80,), parts=parts))
    first, second = parts_table([run]).to_dict("records")
    assert (first["part"], first["n"], first["attacked"], first["broken"]) == ("apgd-ce", 5, 4, 2)
    assert (second["part"], second["n"], second["attacked"], second["broken"]) == ("apgd-dlr", 5, 2, 1)
    assert first["robust_accuracy"] == 2 / 5 and second["robust_accuracy"] == 1 / 5
    assert (first["queries"], second["queries"]) == (2 + 40 + 40 + 40, 1 + 40)
    assert (first["gradients"], second["gradients"]) == (122, 41)
    assert not len(parts_table([one(run_of(tmp_path, (0, 2)))]))


def test_robust_accuracy_against_epsilon_joins_the_epsilons_of_one_attack(tmp_path):
    def run(success, epsilon, **more):
        return run_of(tmp_path, success, epsilon=epsilon, bound=epsilon, norm="linf", **more)

    several = [run((0, -1, -1, -1), 0.1), run((0, 2, -1, -1), 0.2), run((0, 2, 1, 3), 0.4),
               run((0, 1, 1, 1), 0.2, settings={"loss": "other"}), run_of(tmp_path, (0, 1), model="unbounded")]
    ((what, norm, frame),) = epsilon_curves([one(rows) for rows in several])
    assert "linf" in what and frame["epsilon"].tolist() == [0, 0.1, 0.2, 0.4]
    assert frame["accuracy"].tolist() == [0.75, 0.75, 0.5, 0.0]
    assert frame["ci_low"].iloc[2] == pytest.approx(wilson(2, 4)[0])
