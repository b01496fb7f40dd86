"""Square: the authors' schedule and patterns, candidates within the bound, draws of an image's own."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from framebench.attacks.registry import make
from framebench.attacks.square import Search, SquareOptions, _bump

reference = pytest.importorskip("pyautoattack.square")


@pytest.fixture(scope="module")
def linear():
    """A linear network of three classes on 11x11 images, images that it classifies correctly, and labels."""
    draws = torch.Generator().manual_seed(1)
    weights = torch.randn(363, 3, generator=draws)
    x = torch.rand(40, 3, 11, 11, generator=draws)

    def model(images):  # row by row: products of matrices round by their size
        return torch.stack([(row.double().flatten() - 0.5) @ weights.double() for row in images])

    return model, x, model(x).argmax(1)


def attacked(model, x, y, *, ids=None, batch_size=16, budget=60, epsilon=0.05, **options):
    """Return id -> its finished image, and every image that was shown, in order."""
    shown, found = [], {}

    def predict(images):
        shown.append(images.clone())
        return model(images)

    attack = make("square", budget=budget, epsilon=epsilon, options=options)
    for several in attack.stream(predict, lambda i: (x[i], y[i]), np.arange(len(x)) if ids is None else np.array(ids),
                                 seed=3, batch_size=batch_size):
        found.update({int(done.ids[0]): done for done in several.each()})
    return found, shown


@pytest.mark.parametrize("stretched", [True, False])
def test_the_schedule_is_the_authors(stretched):
    theirs = reference.SquareAttack(None, n_queries=700, p_init=0.3, resc_schedule=stretched)
    ours = Search(SquareOptions(p_init=0.3, resc_schedule=stretched), 0.1, 700, 0)
    at = np.arange(0, 700 if stretched else 9000)
    assert ours._share(at).tolist() == [theirs.p_selection(int(i)) for i in at]


@pytest.mark.parametrize("side", [3, 5, 7, 11])
def test_the_pattern_is_the_authors(side):
    theirs = reference.SquareAttack(None, norm="L2", device="cpu")
    torch.manual_seed(0)
    for _ in range(4):
        pattern = theirs.eta(side)
        assert any(torch.allclose(_bump(side, turned), pattern, atol=1e-6) for turned in (False, True))
    assert not torch.equal(_bump(side, True), _bump(side, False))


@pytest.mark.parametrize(("norm", "order", "epsilon"), [("Linf", float("inf"), 0.05), ("L2", 2, 0.6)])
def test_every_image_shown_is_within_the_bound(linear, norm, order, epsilon):
    model, x, y = linear
    for example in (0, 5):
        stubborn = torch.eye(3)[y[[example]]]
        _, shown = attacked(lambda images, answer=stubborn: answer, x, y, ids=[example], norm=norm, epsilon=epsilon)
        assert len(shown) == 61 and torch.equal(shown[0], x[[example]])
        points = torch.cat(shown[1:])
        sizes = torch.linalg.vector_norm((points - x[example]).flatten(1), order, dim=1)
        assert points.min() >= 0 and points.max() <= 1
        assert sizes.max() <= epsilon * (1 + 1e-5) and sizes.median() > 0.7 * epsilon


def test_a_candidate_differs_from_the_best_image_in_one_square(linear):
    """A model that likes nothing keeps the stripes: every candidate is stripes with a square of one colour."""
    model, x, y = linear
    grey = torch.full_like(x[:1], 0.5)
    count = iter(range(10**6))
    _, shown = attacked(lambda images: torch.eye(3)[[0]] * (next(count) + 1.0), grey, torch.zeros(1, dtype=torch.int64),
                        budget=30, epsilon=0.1)
    stripes = shown[1]
    assert torch.equal(stripes, stripes[:, :, :1].expand_as(stripes)), "the same in every row"
    assert torch.allclose((stripes - grey).abs(), torch.tensor(0.1))
    for candidate in shown[2:]:
        changed = ((candidate - stripes).abs() > 1e-6).any(1)[0]
        rows, columns = changed.any(1).nonzero().flatten(), changed.any(0).nonzero().flatten()
        if len(rows):
            assert len(rows) == rows[-1] - rows[0] + 1 and len(rows) >= len(columns)
            inside = candidate[0, :, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] - 0.5
            assert all(len(np.unique(channel.sign())) <= 2 for channel in inside)


@pytest.mark.parametrize("norm", ["Linf", "L2"])
@pytest.mark.parametrize("loss", ["margin", "ce"])
def test_an_images_draws_are_its_own(linear, norm, loss):
    model, x, y = linear
    options = {"norm": norm, "loss": loss, "epsilon": 0.06 if norm == "Linf" else 0.8}
    whole, _ = attacked(model, x, y, batch_size=40, **options)
    success = np.array([int(whole[i].success_iteration[0]) for i in range(40)])
    assert (success < 0).any() and len(set(success)) > 8
    for ids, batch_size in (([8, 3, 31], 1), (range(39, -1, -1), 7)):
        for example, done in attacked(model, x, y, ids=ids, batch_size=batch_size, **options)[0].items():
            for name in ("success_iteration", "queries", "x_adv", "margin"):
                assert np.array_equal(getattr(done, name), getattr(whole[example], name)), (example, name)


@pytest.mark.parametrize(("norm", "epsilon"), [("Linf", 0.06), ("L2", 0.8)])
def test_it_breaks_about_as_many_as_the_authors(linear, norm, epsilon):
    model, x, y = linear
    theirs = []
    for seed in range(3):
        attack = reference.SquareAttack(lambda images: model(images).float(), norm=norm, eps=epsilon, n_queries=100,
                                        p_init=0.8, seed=seed, device="cpu")
        theirs.append(int((model(attack.perturb(x, y)).argmax(1) != y).sum()))
    found, _ = attacked(model, x, y, norm=norm, epsilon=epsilon, budget=100)
    ours = sum(int(done.success_iteration[0]) > 0 for done in found.values())
    assert min(theirs) > 5 and max(theirs) < 40
    assert min(theirs) - 4 <= ours <= max(theirs) + 4
