"""Attacks besides SimBA: budgets are exact, results depend on nothing but seed and id, optima are respected."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
import torch

from framebench.attacks.base import Finished
from framebench.attacks.registry import canonical, make
from framebench.errors import InputError
from framebench.seeding import generator

SHAPE = (3, 8, 8)
D = 192

ATTACKS = {
    "noise": {}, "square": {}, "apgd": {}, "square L2": {"norm": "L2"}, "apgd dlr": {"loss": "dlr"},
    "foolbox:HopSkipJumpAttack": {"steps": 3, "initial_gradient_eval_steps": 10},
    "foolbox:BoundaryAttack": {"steps": 40}, "foolbox:PointwiseAttack": {"distance": "l0"},
    "foolbox:SaltAndPepperNoiseAttack": {}, "foolbox:LinearSearchBlendedUniformNoiseAttack": {"distance": "linf"},
    "foolbox:PGD": {"steps": 12}, "foolbox:L2RepeatedAdditiveGaussianNoiseAttack": {}, "foolbox:L2DeepFoolAttack": {},
}

#: Attacks of foolbox that share a lane: those above, and one of each kind, with its bound.
TOGETHER = {
    "LinfPGD": 0.02, "L2PGD": 0.4, "L1PGD": 4.0, "L2AdamPGD": 0.4, "LinfBasicIterativeAttack": 0.02,
    "L2MomentumIterativeFastGradientMethod": 0.4, "LinfFastGradientAttack": 0.02, "DDNAttack": 0.4,
    "L2DeepFoolAttack": 0.4, "LinfDeepFoolAttack": 0.02, "NewtonFoolAttack": 0.4, "L0FMNAttack": None,
    "L1FMNAttack": None, "L2FMNAttack": 0.4, "LInfFMNAttack": 0.02,
}


def rows(name, predict, load, ids, *, seed=0, batch_size=256, **options):
    found = {}
    for done in make(name, **options).stream(predict, load, np.asarray(ids), seed=seed, batch_size=batch_size):
        for i, example in enumerate(done.ids):
            found[int(example)] = Finished(*(getattr(done, field.name)[i : i + 1] for field in fields(Finished)))
    return found


@pytest.mark.parametrize("label", ATTACKS)
@pytest.mark.parametrize(("budget", "max_queries"), [(1, None), (2, None), (23, None), (40, 7), (40, 1)])
def test_budgets_are_exact(mlp, data, label, budget, max_queries):
    limit = min(budget + 1, max_queries or budget + 1)
    for example in range(3):
        seen = []

        def predict(x, seen=seen):
            seen.append(len(x))
            return mlp(x)

        done = rows(label.split()[0], predict, data, [example], budget=budget, max_queries=max_queries,
                    options=ATTACKS[label], epsilon=0.02)[example]
        assert int(done.queries[0]) == sum(seen) <= limit
        success = int(done.success_iteration[0])
        assert success in (-1, sum(seen) - 1)
        assert (int(done.prediction[0]) != int(done.labels[0])) == (success >= 0)
        assert mlp(done.x_adv).argmax(1).tolist() == done.prediction.tolist()
        assert example != 0 or (success == 0 and sum(seen) == 1)


@pytest.mark.parametrize("label", ATTACKS)
def test_rows_depend_on_neither_batch_nor_order_nor_shard(mlp, data, label):
    options = {"budget": 25, "options": ATTACKS[label], "seed": 4, "epsilon": 0.3}
    name = label.split()[0]

    def model(x):  # a product of matrices rounds by its size; `framebench.models.predictor` sees to that
        return torch.cat([mlp(row[None]) for row in x])

    whole = rows(name, model, data, range(8), batch_size=64, **options)
    assert len({tuple(d.queries) for d in whole.values()}) > 1
    for part, batch_size in (([7, 2, 5], 64), (range(8), 1), (range(7, -1, -1), 3)):
        again = rows(name, model, data, part, batch_size=batch_size, **options)
        for example, done in again.items():
            for field in ("success_iteration", "queries", "prediction", "x_adv"):
                assert np.array_equal(getattr(done, field), getattr(whole[example], field)), (example, field)


@pytest.mark.parametrize("minimise", [False, True])
@pytest.mark.parametrize("name", TOGETHER)
def test_images_that_share_a_lane_fare_as_alone(mlp, data, name, minimise):
    """As by `run`, with the global generators, which one image has to itself: the same to the bit."""
    from framebench.attacks.foolbox_attacks import FoolboxAttack

    if minimise and "Fool" not in name and "FMN" not in name and name != "DDNAttack":
        pytest.skip("does not minimise")
    if TOGETHER[name] is None and not minimise:
        pytest.skip("has no usual bound")

    def model(x):
        return torch.cat([mlp(row[None]) for row in x])

    def found(group):
        attack = FoolboxAttack(name, 12, None if minimise else TOGETHER[name], None, {"minimise": True} if minimise
                               else {})
        assert attack.group > 1
        attack.group = group
        return {int(done.ids[0]): done for done in attack.stream(model, data, np.arange(8), seed=3, batch_size=64)}

    alone, three, eight = (found(group) for group in (1, 3, 8))
    assert len({tuple(done.success_iteration) for done in alone.values()}) > 1, "all fare alike"
    for example, done in alone.items():
        for together in (three, eight):
            for field in ("success_iteration", "queries", "prediction", "margin", "l2", "linf", "x_adv"):
                assert np.array_equal(getattr(done, field), getattr(together[example], field)), (example, field)


def test_an_attack_that_looks_at_its_batch_has_a_lane_per_image():
    for name, options in (("L2CarliniWagnerAttack", {}), ("SparseL1DescentAttack", {}), ("HopSkipJumpAttack", {}),
                          ("L2FMNAttack", {"init_attack": "L2ContrastReductionAttack"})):
        assert make(f"foolbox:{name}", budget=5, epsilon=1.0, options=options).group == 1


@pytest.mark.parametrize("name", ["noise", "square", "foolbox:L2RepeatedAdditiveGaussianNoiseAttack"])
def test_the_seed_changes_the_draws(mlp, data, name):
    first, second, again = (rows(name, mlp, data, [3], budget=12, seed=seed, epsilon=0.01)[3] for seed in (0, 1, 0))
    assert not torch.equal(first.x_adv, second.x_adv)
    assert torch.equal(first.x_adv, again.x_adv)


class Linear:
    """z = (w x + b, 0): the margin is w x + b, the least L2 distance to its boundary (w x + b) / |w|_2."""

    def __init__(self, least_margin=0.6):
        rng = np.random.default_rng(0)
        self.w = torch.from_numpy(rng.normal(size=D)).float()
        self.x = torch.from_numpy(0.5 + 0.02 * rng.normal(size=(6, *SHAPE))).float()
        self.b = float(least_margin - (self.x.flatten(1) @ self.w).min())

    def __call__(self, x):
        z = x.flatten(1) @ self.w + self.b
        return torch.stack([z, torch.zeros_like(z)], 1)

    def load(self, ids):
        return self.x[torch.as_tensor(ids)], torch.zeros(len(ids), dtype=torch.int64)

    def margins(self):
        return self(self.x)[:, 0].numpy()


def test_noise_is_the_sum_of_random_steps():
    model, epsilon, budget = Linear(0.1), 0.05, 100
    done = rows("noise", model, model.load, range(6), budget=budget, epsilon=epsilon, seed=2)
    for example, margin in enumerate(model.margins()):
        order = generator(2, "simba-order", example).permutation(D)[:budget]
        signs = generator(2, "noise-sign", example).choice([-1.0, 1.0], budget)
        after = margin + epsilon * np.cumsum(signs * model.w.numpy()[order])
        won = np.flatnonzero(after < 0)
        iterations = int(won[0]) + 1 if len(won) else -1
        assert int(done[example].success_iteration[0]) == iterations
        if iterations > 0:
            assert done[example].l2[0] == pytest.approx(epsilon * np.sqrt(iterations), rel=1e-5)
        else:
            assert int(done[example].queries[0]) == budget + 1
    assert {int(d.success_iteration[0]) > 0 for d in done.values()} == {True, False}


@pytest.mark.parametrize(("name", "norm", "dual"), [
    ("square", "Linf", 1), ("apgd", "Linf", 1), ("square", "L2", 2), ("apgd", "L2", 2)])
def test_within_the_bound_a_linear_model_falls_only_where_it_can(name, norm, dual):
    """Within a ball of radius e the margin can fall by e times the dual norm of w."""
    model = Linear()
    reach = float(torch.linalg.vector_norm(model.w, dual))
    margins = model.margins()
    never = rows(name, model, model.load, range(6), budget=60, epsilon=float(margins.min()) / reach * 0.98,
                 options={"norm": norm})
    assert all(d.success_iteration[0] == -1 for d in never.values())
    factor = 1.02 if name == "apgd" else 4 if norm == "Linf" else 15  # L2 squares fit a random w badly
    always = rows(name, model, model.load, range(6), budget=100, epsilon=float(margins.max()) / reach * factor,
                  options={"norm": norm})
    assert all(d.success_iteration[0] > 0 for d in always.values())


@pytest.mark.parametrize("name", ["foolbox:HopSkipJumpAttack", "foolbox:BoundaryAttack"])
def test_decision_based_attacks_count_within_their_distance(name):
    model = Linear()
    least = model.margins() / float(torch.linalg.vector_norm(model.w))
    never = rows(name, model, model.load, range(6), budget=300, epsilon=float(least.min()) * 0.98)
    assert all(d.success_iteration[0] == -1 and d.queries[0] == 301 for d in never.values())
    cap = float(least.max()) * 12
    done = rows(name, model, model.load, range(6), budget=600, epsilon=cap)
    assert all(d.success_iteration[0] > 0 for d in done.values())
    for example, d in done.items():
        assert least[example] <= d.l2[0] <= cap * 1.00001


@pytest.mark.parametrize(("name", "budget", "factor"), [
    ("foolbox:DDNAttack", 101, 1.01), ("foolbox:L2DeepFoolAttack", 20, 1.03), ("foolbox:LInfFMNAttack", 101, 1.01),
    ("foolbox:HopSkipJumpAttack", 900, 1.6)])
def test_to_minimise_is_to_find_the_distance_to_the_boundary(name, budget, factor):
    """That of a linear model is known: the margin over the dual norm of w."""
    model = Linear()
    dual = 1 if "Inf" in name else 2
    least = model.margins() / float(torch.linalg.vector_norm(model.w, dual))
    found = rows(name, model, model.load, range(6), budget=budget, options={"minimise": True})
    for example, done in found.items():
        distance = float(done.linf[0] if "Inf" in name else done.l2[0])
        assert least[example] * 0.999 <= distance <= factor * least[example]
        assert 0 < done.success_iteration[0] <= int(done.queries[0]) - 1 <= budget
        assert model(done.x_adv).argmax(1).item() == done.prediction[0] == 1
    assert max(int(done.queries[0] - done.success_iteration[0]) for done in found.values()) > 2 or "DeepFool" in name


def test_what_minimises_has_no_bound_and_its_length_counts():
    short, long = (make("foolbox:DDNAttack", budget=budget, options={"minimise": True}) for budget in (5, 9))
    assert (short.traits.norm, short.traits.bound, short.traits.epsilon) == ("l2", None, None)
    assert not short.traits.prefix
    assert short.settings != long.settings and short.traits.label == "foolbox:DDNAttack-white-box-minimal-schedule5"
    for name, how, message in (("foolbox:LinfPGD", {}, "does not minimise"), ("foolbox:DDNAttack", {"epsilon": 1.0},
                                                                              "no epsilon")):
        with pytest.raises(InputError, match=message):
            make(name, budget=5, options={"minimise": True}, **how)
    with pytest.raises(InputError, match="true or false"):
        make("foolbox:DDNAttack", budget=5, options={"minimise": "yes"})


def test_an_attack_may_be_the_option_of_another(mlp, data):
    options = {"init_attack": "SaltAndPepperNoiseAttack", "steps": 1, "initial_gradient_eval_steps": 2}
    done = rows("foolbox:HopSkipJumpAttack", mlp, data, [1, 2], budget=30, options=options)
    assert len(done) == 2
    with pytest.raises(InputError, match="unknown attack of foolbox 'SaltPepper'"):
        make("foolbox:HopSkipJumpAttack", budget=5, options={"init_attack": "SaltPepper"})


@pytest.mark.parametrize(("name", "options", "message"), [
    ("square", {"p_inti": 0.5}, "unknown option of square 'p_inti'; did you mean p_init"),
    ("square", {"norm": "L7"}, "unknown norm 'L7'"),
    ("square", {"loss": "dlr"}, "unknown loss 'dlr'"),
    ("square", {"eps": 1}, "unknown option of square .eps"), ("square", {"p_init": 1.5}, "p_init must lie in"),
    ("square", {"p_init": "much"}, "p_init of square must be a number"),
    ("square", {"resc_schedule": "false"}, "resc_schedule of square must be true or false"),
    ("square", {"basis": "dct"}, "basis is an option of simba and noise, not of square"),
    ("square", {"targeted": True}, "targeted is an option of simba, not of square"),
    ("noise", {"x": 1}, "unknown option of noise 'x'"),
    ("noise", {"order": "random"}, "order is an option of simba, not of noise"),
    ("noise", {"basis": 3}, "must be text"),
    ("simba", {"steps": 3}, "unknown option of simba 'steps'; did you mean step"),
    ("simba", {"linf": "much"}, "linf of simba must be a number or none"),
    ("simba", {"targeted": "yes"}, "targeted of simba must be true or false"),
    ("simba", {"budget": 3}, "sets budget of simba itself"),
    ("foolbox:HopSkipJumpAttack", {"step": 3}, "step is an option of simba"),
    ("foolbox:HopSkipJumpAttack", {"stepz": 3}, "did you mean steps"),
    ("foolbox:HopSkipJumpAttack", {"steps": "many"}, "steps of foolbox:HopSkipJumpAttack must be a whole number"),
    ("foolbox:HopSkipJumpAttack", {"steps": True}, "must be a whole number"),
    ("foolbox:HopSkipJumpAttack", {"constraint": "l7"}, "must be 'linf' or 'l2'"),
    ("foolbox:HopSkipJumpAttack", {"init_attack": 3}, "does not take these options"),
    ("foolbox:LinfPGD", {"random_start": "false"}, "random_start of .* must be true or false"),
    ("foolbox:LinfPGD", {"random_start": 0}, "random_start of .* must be true or false"),
    ("foolbox:LinfPGD", {"abs_stepsize": "none"}, "abs_stepsize of .* must be a number or none"),
    ("foolbox:L2AdditiveGaussianNoiseAttack", {"steps": 3}, "has no options"),
    ("foolbox:PointwiseAttack", {"distance": "l7"}, "unknown distance 'l7'"),
    ("foolbox:L1PGD", {}, "no usual bound; give epsilon"),
])
def test_bad_options_are_refused(name, options, message):
    with pytest.raises(InputError, match=message):
        make(name, budget=10, options=options)


def test_a_truth_value_reaches_the_library(mlp, data):
    """A projected gradient descent with no random start draws nothing: the seed is of no account."""
    options = {"steps": 3, "abs_stepsize": None}
    started = {start: [rows("foolbox:LinfPGD", mlp, data, [3], budget=2, epsilon=0.001, seed=seed,
                            options={**options, "random_start": start})[3].x_adv for seed in (0, 1)]
               for start in (False, True)}
    assert torch.equal(*started[False]) and not torch.equal(*started[True])


@pytest.mark.parametrize(("name", "message"), [
    ("squre", "unknown attack 'squre'; did you mean square"),
    ("foolbox:HopSkipJump", "unknown attack of foolbox 'HopSkipJump'; did you mean HopSkipJumpAttack"),
    ("foolbox:GenAttack", "targeted only"),
    ("foolbox", "unknown attack 'foolbox'"), ("foolbox:NAME", "unknown attack of foolbox")])
def test_unknown_attacks_are_refused(name, message):
    with pytest.raises(InputError, match=message):
        canonical(name)


@pytest.mark.parametrize("how", [{"epsilon": 0.0}, {"epsilon": float("nan")}, {"epsilon": 1, "max_queries": 0}])
@pytest.mark.parametrize("name", ["simba", "noise", "square", "foolbox:PGD"])
def test_bad_bounds_are_refused(name, how):
    with pytest.raises(InputError, match="above 0|at least 1"):
        make(name, budget=10, **how)


def test_a_failing_library_is_named_with_the_example(mlp, data, monkeypatch):
    attack = make("foolbox:HopSkipJumpAttack", budget=500, epsilon=0.001)
    monkeypatch.setattr(attack._attack, "run", lambda *given, **named: 1 / 0)
    with pytest.raises(InputError, match=r"foolbox:HopSkipJumpAttack failed on example \d \(ZeroDivisionError"):
        list(attack.stream(mlp, data, np.arange(3), seed=0, batch_size=4))


@pytest.mark.parametrize("name", ["noise", "apgd"])
@pytest.mark.parametrize("answer", [lambda z: z[:-1], lambda z: z[:, 0], lambda z: z * float("nan")])
def test_answers_that_can_not_be_are_refused(mlp, data, name, answer):
    with pytest.raises(InputError, match="the model"):
        rows(name, lambda x: answer(mlp(x)), data, range(3), budget=5)
