"""AutoAttack: its parts and their order, exact counts, and the same robust accuracy as pyautoattack's own run."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from framebench.attacks.registry import make
from framebench.errors import InputError

package = pytest.importorskip("pyautoattack")
SMALL = {"iterations": 8, "queries": 30, "targets": 3}


@pytest.fixture
def many():
    """A network of five classes, images that it classifies correctly, and their labels."""
    draws = torch.Generator().manual_seed(0)
    first, second = torch.randn(48, 192, generator=draws), torch.randn(5, 48, generator=draws) * 0.6
    x = torch.rand(24, 8, 8, 3, generator=draws).permute(0, 3, 1, 2)  # as data sets have them

    def model(images):
        return torch.tanh((images.flatten(1) - 0.5) @ first.T * 0.3) @ second.T

    return model, x, model(x).argmax(1)


def rows(model, x, y, *, batch_size=16, ids=None, budget=10**6, epsilon=0.01, max_queries=None, **options):
    attack = make("autoattack", budget=budget, epsilon=epsilon, max_queries=max_queries, options={**SMALL, **options})
    found = {}
    for several in attack.stream(model, lambda i: (x[i], y[i]), np.arange(len(x)) if ids is None else np.array(ids),
                                 seed=0, batch_size=batch_size):
        for done in several.each():
            found[int(done.ids[0])] = done
    return found, attack.traits


def by(model):
    """The model on one image at a time: products of matrices round by their size."""
    return lambda x: torch.cat([model(row[None]) for row in x])


def masked(model):
    """A model whose predictions depend on the images while its gradients are 0: few but Square break it."""
    return lambda x: model(x).detach() + 0 * x.flatten(1)[:, :1]


@pytest.mark.parametrize(("norm", "epsilon"), [("Linf", 0.012), ("L2", 0.1)])
def test_robust_accuracy_is_that_of_the_package_on_the_same_images(many, norm, epsilon):
    model, x, y = many
    theirs = package.AutoAttack(model, norm=norm, eps=epsilon, seed=0, version="standard")
    theirs.apgd.n_iter = theirs.apgd_targeted.n_iter = theirs.fab.n_iter = 20
    theirs.square.n_queries, theirs.apgd_targeted.n_target_classes, theirs.fab.n_target_classes = 100, 4, 4
    _, predicted = theirs.run_standard_evaluation(x.contiguous(), y)
    found, _ = rows(model, x, y, norm=norm, epsilon=epsilon, iterations=20, queries=100, targets=4)
    broken = np.array([found[i].success_iteration[0] > 0 for i in range(len(x))])
    assert 4 < broken.sum() < 20, "some are to be broken, some not"
    assert (broken != (predicted != y).numpy()).sum() <= 1  # starts differ


def test_parts_are_in_their_order_and_iterations_tell_which_has_broken_an_image(many):
    model, x, y = many
    _, traits = rows(model, x, y, ids=[])
    assert [(part.name, part.end) for part in traits.parts] == [
        ("apgd-ce", 9), ("apgd-t", 9 + 27), ("fab-t", 36 + 48), ("square", 84 + 31)]
    assert traits.budget == 115 and (traits.norm, traits.bound) == ("linf", 0.01)
    assert [part.end for part in make("autoattack", budget=10**6).traits.parts] == [101, 1010, 2810, 7811]
    plus = make("autoattack", budget=10**6, options={"version": "plus"}).traits
    assert [part.name for part in plus.parts] == ["apgd-ce", "apgd-dlr", "apgd-t", "fab", "fab-t", "square"]
    assert plus.label == "autoattack-Linf-plus-white-box" and plus.parts[1].end == 1010


@pytest.mark.parametrize("norm", ["Linf", "L2"])
@pytest.mark.parametrize("version", ["standard", "plus", "rand"])
@pytest.mark.parametrize("limit", [None, 50, 1])
def test_every_forward_pass_is_charged(many, version, limit, norm):
    model, x, y = many
    for example in range(3):
        seen = []

        def counted(images, seen=seen):
            seen.append(len(images))
            return model(images)

        found, traits = rows(counted, x, y, ids=[example], epsilon=1e-6, version=version, max_queries=limit,
                             norm=norm)
        assert int(found[example].queries[0]) == sum(seen) <= (limit or traits.parts[-1].end + 2)
        assert limit or version == "rand" or sum(seen) > traits.parts[-1].end - 20
        assert found[example].success_iteration[0] == -1 and float(found[example].linf[0]) <= 1e-6 * 1.1


def test_images_that_one_part_leaves_are_the_next_ones(many):
    """FAB and Square break what steps of zero length, of models without gradients, can't."""
    model, x, y = many

    found, traits = rows(masked(model), x, y, epsilon=0.2, queries=60)
    ends = [part.end for part in traits.parts]
    success = np.array([found[i].success_iteration[0] for i in range(len(x))])
    names = np.array([part.name for part in traits.parts])[np.searchsorted(ends, success[success > 0])]
    assert (names == "square").any()
    for example, done in found.items():
        assert (model(done.x_adv).argmax(1) != y[example]).item() == (success[example] >= 0)


def test_rows_depend_on_neither_batch_nor_order(many):
    model, x, y = many
    model = by(masked(model))
    whole, _ = rows(model, x, y, ids=range(10), epsilon=0.2)
    assert len({int(done.success_iteration[0]) for done in whole.values()}) > 2
    for ids, batch_size in (([7, 2, 5], 16), (range(9, -1, -1), 3)):
        for example, done in rows(model, x, y, ids=ids, batch_size=batch_size, epsilon=0.2)[0].items():
            for name in ("success_iteration", "queries", "x_adv"):
                assert np.array_equal(getattr(done, name), getattr(whole[example], name)), (example, name)


def test_a_smaller_budget_is_the_start_of_the_attack(many):
    model, x, y = many
    model = by(masked(model))
    whole, _ = rows(model, x, y, ids=range(10), epsilon=0.2)
    for budget in (2, 36, 40, 90):
        for example, done in rows(model, x, y, ids=range(10), budget=budget, epsilon=0.2)[0].items():
            success = int(whole[example].success_iteration[0])
            assert int(done.success_iteration[0]) == (success if success <= budget else -1)


@pytest.mark.parametrize(("options", "message"), [
    ({"version": "standart"}, "did you mean standard"), ({"norm": "L1"}, "unknown norm"),
    ({"iterations": 0}, "at least 1"), ({"n_iter": 5}, "unknown option")])
def test_bad_options_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        make("autoattack", budget=10, options=options)


def test_broken_images_are_given_out_before_the_next_part_starts(many):
    """What a kill takes with it are the images that the later, longer parts are still at."""
    model, x, y = many
    queries = [0]

    def counted(images):
        queries[0] += len(images)
        return model(images)

    attack = make("autoattack", budget=10**6, epsilon=0.01, max_queries=None, options={**SMALL, "queries": 500})
    came = [(int(done.success_iteration[0]), queries[0])
            for several in attack.stream(counted, lambda i: (x[i], y[i]), np.arange(len(x)), seed=0, batch_size=32)
            for done in several.each()]
    broken, robust = ([when for success, when in came if (success >= 0) == fell] for fell in (True, False))
    assert broken and robust and broken[0] < 0.2 * robust[0]
