from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy.fft import dctn
from torch import nn

from framebench.attacks.options import SimBAOptions
from framebench.attacks.simba import SimBAAttack, simba
from framebench.errors import InputError
from tests.attacks.reference import attack as reference
from tests.attacks.reference import own_order

SHAPE = (3, 4, 4)
D = 48


@pytest.fixture
def mlp():
    generator = torch.Generator().manual_seed(0)
    first = torch.randn(48, D, generator=generator, dtype=torch.float64)
    second = torch.randn(5, 48, generator=generator, dtype=torch.float64) * 0.6
    return lambda x: torch.tanh(x.flatten(1) @ first.T - first.sum(1) / 2) @ second.T


@pytest.fixture
def data(mlp):
    x = torch.rand(30, *SHAPE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    y = mlp(x).argmax(1)
    y[:3] = (y[:3] + 1) % 5  # clean errors
    return x, y


VARIANTS = [
    {"basis": basis, "step": step, "objective": objective, "order": order, **extra}
    for basis, step, objective in itertools.product(("pixel", "dct"), ("first-improving", "best-of-two"),
                                                    ("margin", "probability"))
    for order in (("random",) if basis == "pixel" else ("random", "low-frequency"))
    for extra in ({}, {"linf": 0.1}, {"targeted": True}, {"max_queries": 14}, {"max_queries": 15, "targeted": True},
                  {"clip": "cumulative"}, {"clip": "cumulative", "linf": 0.1})
]


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda v: "-".join(map(str, v.values())))
def test_equals_the_plain_algorithm(mlp, data, variant):
    x, y = data
    options = {"max_iterations": 40, "epsilon": 0.15, "targeted": False, "linf": None, "max_queries": None, "seed": 3,
               **variant}
    ids = np.arange(100, 130)
    seen = []

    def predict(batch):
        seen.append(len(batch))
        return mlp(batch)

    result = simba(predict, x, y, ids=ids, batch_size=8, **options)
    assert sum(seen) == int(result.queries.sum())
    assert max(seen) == 8
    for i, example in enumerate(ids):
        x_adv, success, queries, _ = reference(lambda image: mlp(torch.from_numpy(image[None]))[0].numpy(),
                                               x[i].numpy(), int(y[i]), example, **options)
        assert (int(result.success_iteration[i]), int(result.queries[i])) == (success, queries), f"image {i}"
        np.testing.assert_allclose(result.x_adv[i].numpy(), x_adv, atol=1e-12)
        np.testing.assert_allclose(float(result.l2[i]), np.linalg.norm(x_adv - x[i].numpy()), atol=1e-12)
        np.testing.assert_allclose(float(result.linf[i]), np.abs(x_adv - x[i].numpy()).max(), atol=1e-12)


@pytest.mark.parametrize("variant", [
    {"basis": "pixel"}, {"basis": "dct", "linf": 0.02}, {"basis": "dct", "order": "low-frequency"},
    {"basis": "dct", "order": "strided", "step": "best-of-two"}, {"basis": "dct", "clip": "cumulative", "linf": 0.05},
], ids=lambda v: "-".join(map(str, v.values())))
def test_equals_the_plain_algorithm_on_images_that_are_not_square(variant):
    shape, random = (3, 40, 72), torch.Generator().manual_seed(0)
    weight = torch.randn(4, np.prod(shape), generator=random, dtype=torch.float64) / 20
    x = torch.rand(6, *shape, generator=random, dtype=torch.float64)

    def predict(batch):
        return torch.tanh((batch.flatten(1) - 0.5) @ weight.T)

    options = {"max_iterations": 40, "epsilon": 0.3, "order": "random", "step": "first-improving", "linf": None,
               "objective": "margin", "targeted": False, "max_queries": None, "seed": 1, **variant}
    y = predict(x).argmax(1)
    result = simba(predict, x, y, batch_size=4, **options)
    for i in range(len(x)):
        x_adv, success, queries, _ = reference(lambda image: predict(torch.from_numpy(image[None]))[0].numpy(),
                                               x[i].numpy(), int(y[i]), i, **options)
        assert (int(result.success_iteration[i]), int(result.queries[i])) == (success, queries), f"image {i}"
        np.testing.assert_allclose(result.x_adv[i].numpy(), x_adv, atol=1e-12)


@pytest.mark.parametrize(("basis", "order", "shape"), [
    *((basis, "random", shape) for basis in ("pixel", "dct") for shape in (SHAPE, (3, 224, 224))),
    ("dct", "low-frequency", (3, 224, 224)), ("dct", "strided", (3, 224, 224))])
def test_linear_model_closed_form(basis, order, shape):
    """On z = (w x + b, 0), an iteration lowers the margin by epsilon |q w|, with + first where q w < 0.

    L2 is epsilon sqrt(iterations), which is to say that directions are orthonormal and that none repeats.
    """
    rng = np.random.default_rng(0)
    w = rng.normal(size=shape)
    x = torch.full((20 if shape == SHAPE else 4, *shape), 0.5, dtype=torch.float64)
    x += torch.from_numpy(rng.normal(size=x.shape)) * 0.07 / np.sqrt(w.size)
    coefficients = w.ravel() if basis == "pixel" else dctn(w, axes=(1, 2), norm="ortho").ravel()
    bias = 0.15 - 0.5 * w.sum()

    def predict(batch):
        z = batch.flatten(1) @ torch.from_numpy(w.ravel()) + bias
        return torch.stack([z, torch.zeros_like(z)], 1)

    y = predict(x).argmax(1)
    keep = y == 0
    x, y, epsilon, budget = x[keep], y[keep], 0.005, D  # small enough never to be clipped
    result = simba(predict, x, y, max_iterations=budget, epsilon=epsilon, basis=basis, order=order)
    margins = predict(x)[:, 0].numpy()
    for i, margin in enumerate(margins):
        along = coefficients[own_order(i, order, shape, seed=0)[:budget]]
        after = margin - epsilon * np.cumsum(np.abs(along))
        won = np.flatnonzero(after < 0)
        iterations = int(won[0]) + 1 if len(won) else budget
        assert int(result.success_iteration[i]) == (iterations if len(won) else -1)
        assert int(result.queries[i]) == 1 + int(np.where(along[:iterations] < 0, 1, 2).sum())
        np.testing.assert_allclose(float(result.l2[i]), epsilon * np.sqrt(iterations), rtol=1e-9)
    assert 0 < int((result.success_iteration > 0).sum())


def test_what_a_cumulative_clip_removes_is_lost(mlp, data):
    x, y = data
    options = {"max_iterations": 40, "epsilon": 0.6, "step": "best-of-two"}
    results = {(basis, clip): simba(mlp, x, y, basis=basis, clip=clip, **options)
               for basis in ("pixel", "dct") for clip in ("anew", "cumulative")}
    assert not torch.equal(results["dct", "anew"].x_adv, results["dct", "cumulative"].x_adv)
    for name in ("x_adv", "success_iteration", "queries", "l2", "linf"):  # no pixel is clipped twice
        assert torch.equal(*(getattr(results["pixel", clip], name) for clip in ("anew", "cumulative"))), name


@pytest.mark.parametrize("clip", ["anew", "cumulative"])
@pytest.mark.parametrize("basis", ["pixel", "dct"])
def test_rows_depend_on_neither_batch_nor_order_nor_shard(mlp, data, basis, clip):
    x, y = data
    options = {"max_iterations": D, "basis": basis, "epsilon": 0.1, "clip": clip}
    whole = simba(mlp, x, y, batch_size=256, **options)
    for batch_size in (1, 7):
        again = simba(mlp, x, y, batch_size=batch_size, **options)
        for name in ("x_adv", "success_iteration", "queries", "l2", "linf"):
            assert torch.equal(getattr(whole, name), getattr(again, name)), (batch_size, name)
    for part in (torch.arange(0, 30, 2), torch.arange(29, 0, -2)):
        shard = simba(mlp, x[part], y[part], ids=part, **options)
        for name in ("x_adv", "success_iteration", "queries"):
            assert torch.equal(getattr(whole, name)[part], getattr(shard, name)), name


def test_clean_errors_cost_one_query_and_are_not_perturbed(mlp, data):
    x, y = data
    result = simba(mlp, x, y, max_iterations=5)
    assert result.success_iteration[:3].tolist() == [0, 0, 0]
    assert result.queries[:3].tolist() == [1, 1, 1]
    assert torch.equal(result.x_adv[:3], x[:3])


def test_zero_iterations_is_the_clean_prediction(mlp, data):
    x, y = data
    result = simba(mlp, x, y, max_iterations=0)
    assert result.queries.tolist() == [1] * 30
    assert result.success_iteration.tolist() == [0] * 3 + [-1] * 27


@pytest.mark.parametrize("variant", [{}, {"basis": "dct"}, {"basis": "dct", "order": "strided"}], ids=str)
def test_a_longer_run_starts_like_a_shorter_one(mlp, data, variant):
    x, y = data
    short, long = (simba(mlp, x, y, max_iterations=k, epsilon=0.1, **variant) for k in (10, 40))
    early = (long.success_iteration >= 0) & (long.success_iteration <= 10)
    assert torch.equal(short.success_iteration >= 0, early)
    assert torch.equal(short.x_adv[early], long.x_adv[early])


def test_the_seed_changes_the_directions(mlp, data):
    x, y = data
    first, second = (simba(mlp, x, y, max_iterations=20, epsilon=0.1, seed=s) for s in (0, 1))
    assert not torch.equal(first.x_adv, second.x_adv)


def test_given_targets_are_reached(mlp, data):
    x, _ = data
    target = torch.full((30,), 2)
    result = simba(mlp, x, mlp(x).argmax(1), targets=target, max_iterations=D)
    reached = result.success_iteration >= 0
    assert reached.any()
    assert torch.equal(mlp(result.x_adv).argmax(1) == 2, reached)


def test_the_margin_goes_on_where_the_probability_is_saturated():
    """In float32, p(y|x) is exactly 1 from a margin of about 17 on: comparing probabilities is stuck there."""
    w = torch.ones(D)

    def predict(batch):
        z = (batch.flatten(1) - 0.5) @ w * 20 + 25
        return torch.stack([z, torch.zeros_like(z)], 1)

    x, y = torch.full((4, *SHAPE), 0.5), torch.zeros(4, dtype=torch.int64)
    margin, probability = (simba(predict, x, y, max_iterations=D, objective=o) for o in ("margin", "probability"))
    assert (margin.success_iteration > 0).all()
    assert probability.success_iteration.tolist() == [-1] * 4
    assert torch.equal(probability.x_adv, x)


def test_images_stay_in_range_and_under_the_bound(mlp, data):
    x, y = data
    for basis in ("pixel", "dct"):
        result = simba(mlp, x, y, max_iterations=D, epsilon=0.5, basis=basis, linf=0.07)
        assert float(result.x_adv.min()) >= 0 and float(result.x_adv.max()) <= 1
        assert float((result.x_adv - x).abs().max()) <= 0.07 + 1e-12
        assert torch.equal(result.linf, (result.x_adv - x).abs().flatten(1).amax(1))


def test_stream_loads_what_it_needs_when_a_slot_is_free(mlp, data):
    x, y = data
    loads = []

    def load(ids):
        loads.append(len(ids))
        return x[ids], y[ids]

    attack = SimBAAttack(SimBAOptions(20, epsilon=0.1))
    done = list(attack.stream(mlp, load, np.arange(30), seed=0, batch_size=8))
    assert sorted(np.concatenate([d.ids for d in done]).tolist()) == list(range(30))
    assert loads[0] == 8 and sum(loads) == 30 and len(loads) > 2
    for d in done:
        for steps, success in zip(d.steps, d.success_iteration, strict=True):
            assert len(steps) == (success if success >= 0 else 20)


def test_a_result_prints_as_its_counts(mlp, data):
    result = simba(mlp, *data, max_iterations=D)
    broken, queries = int((result.success_iteration > 0).sum()), int(result.queries.sum())
    assert f"{broken} of 27 " in repr(result) and f"{queries:,}" in repr(result) and "tensor" not in repr(result)


def test_no_images_is_an_empty_result(mlp):
    result = simba(mlp, torch.zeros(0, *SHAPE), torch.zeros(0, dtype=torch.int64), max_iterations=3)
    assert result.x_adv.shape == (0, *SHAPE)


@pytest.mark.parametrize(("options", "message"), [
    ({"basis": "dft"}, "unknown basis 'dft'; did you mean dct"),
    ({"step": "best"}, "unknown step"),
    ({"clip": "cumulativ"}, "unknown clip 'cumulativ'; did you mean cumulative"),
    ({"max_iterations": -1}, "must not be negative"),
    ({"max_iterations": D + 1}, "more than the 48 directions"),
    ({"epsilon": 0.0}, "epsilon must be above 0"),
    ({"epsilon": float("nan")}, "epsilon must be above 0"),
    ({"linf": 2.0}, "must lie in"),
    ({"max_queries": 0}, "at least 1"),
    ({"order": "low-frequency"}, "needs the dct basis"),
    ({"order": "strided"}, "needs the dct basis"),
    ({"batch_size": 0}, "batch size"),
    ({"ids": [1, 2]}, "30 images but 2 ids"),
])
def test_bad_options_are_refused(mlp, data, options, message):
    with pytest.raises(InputError, match=message):
        simba(mlp, *data, **{"max_iterations": 5, **options})


def test_bad_images_and_answers_are_refused(mlp, data):
    x, y = data
    with pytest.raises(InputError, match=r"must lie in \[0, 1\]"):
        simba(mlp, x * 255, y, max_iterations=1)
    with pytest.raises(InputError, match=r"must lie in \[0, 1\]"):
        simba(mlp, x * float("nan"), y, max_iterations=1)
    with pytest.raises(InputError, match="permute"):  # channels last, as image libraries have them
        simba(nn.Flatten(), torch.rand(2, 8, 8, 3), torch.zeros(2, dtype=torch.long), max_iterations=1)
    with pytest.raises(InputError, match="floating point"):
        simba(mlp, x.long(), y, max_iterations=1)
    with pytest.raises(InputError, match="as many entries"):
        simba(mlp, x, y[:4], max_iterations=1)
    for labels, targets in ((y - 9, None), (y, y - 9)):
        with pytest.raises(InputError, match="from 0 up"):
            simba(mlp, x, labels, targets=targets, max_iterations=1)
    with pytest.raises(InputError, match="not finite"):
        simba(lambda b: mlp(b) * float("nan"), x, y, max_iterations=1)
    with pytest.raises(InputError, match="3 classes, but there is a label"):
        simba(lambda b: mlp(b)[:, :3], x, torch.full((30,), 4), max_iterations=1)
    with pytest.raises(InputError, match="must return logits"):
        simba(lambda b: mlp(b)[:1], x, y, max_iterations=1)
    for targeted in (False, True):
        with pytest.raises(InputError, match="two or more classes"):
            simba(lambda b: mlp(b)[:, :1], x, torch.zeros(30, dtype=torch.long), max_iterations=1, targeted=targeted)


def _network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Dropout(0.5), nn.Flatten(), nn.Linear(32, 5))


def test_a_module_is_attacked_in_eval_mode_and_has_its_modes_back():
    model, x, y = _network(), torch.rand(6, *SHAPE), torch.arange(6) % 5
    model[2].eval()
    mean = model[1].running_mean.clone()
    result = simba(model, x, y, max_iterations=20)
    assert [part.training for part in model] == [True, True, False, True, True] and model.training
    assert torch.equal(model[1].running_mean, mean)
    assert torch.equal(result.x_adv, simba(model.eval(), x, y, max_iterations=20).x_adv)


@pytest.mark.parametrize("form", [
    lambda x, y: (x.numpy(), y.numpy()), lambda x, y: (x.tolist(), y.tolist()), lambda x, y: (x.double(), y.int()),
    lambda x, y: (x.clone().requires_grad_(), tuple(y.tolist())), lambda x, y: (list(x), y.numpy().astype(np.uint8)),
], ids=["arrays", "lists", "float64", "with a graph", "a list of tensors"])
def test_images_and_labels_may_have_any_form(form):
    model, x, y = _network(), torch.rand(6, *SHAPE), torch.arange(6) % 5
    expected, result = (simba(model, *given, max_iterations=20) for given in ((x, y), form(x, y)))
    for name in ("x_adv", "success_iteration", "queries"):
        assert torch.equal(getattr(expected, name), getattr(result, name)), name


def test_a_module_of_float64_is_attacked_in_float64():
    result = simba(_network().double(), torch.rand(2, *SHAPE), [0, 1], max_iterations=5)
    assert result.x_adv.dtype == torch.float64


def test_a_module_of_bfloat16_is_attacked_in_bfloat16_and_without_a_graph():
    model, graphs = _network().bfloat16(), []
    model.register_forward_hook(lambda _, inputs, logits: graphs.append(logits.requires_grad))
    result = simba(model, torch.rand(2, *SHAPE), [0, 1], max_iterations=5)
    assert result.x_adv.dtype == torch.bfloat16 and graphs and not any(graphs)


@pytest.mark.parametrize(("change", "message"), [
    ({"predict": "baseline"}, "load_model"),
    ({"predict": lambda x: (torch.zeros(len(x), 5),)}, "tuple"),
    ({"epsilon": "8/255"}, "a number"),
    ({"linf": "8/255"}, "a number"),
    ({"max_iterations": 5.5}, "whole number"),
    ({"max_queries": "9"}, "whole number"),
    ({"y": [0.0, 1.0]}, "integers"),
    ({"y": ["cat", "dog"]}, "labels"),
    ({"ids": [0.5, 1]}, "integers"),
    ({"x": [[[[0.1]]], [[[0.1, 0.2]]]]}, "images"),
])
def test_what_is_no_number_and_no_model_is_refused(change, message):
    given = {"predict": _network(), "x": torch.rand(2, *SHAPE), "y": [0, 1], "max_iterations": 5, **change}
    with pytest.raises(InputError, match=message):
        simba(**given)
