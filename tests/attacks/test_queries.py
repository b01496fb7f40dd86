from __future__ import annotations

import numpy as np
import pytest
import torch

from framebench.attacks.queries import AttackOver, Bound, CountedModel, CountedModels, Record, look
from framebench.errors import InputError

SHAPE = (1, 2, 2)


class Sums:
    """Class 1 where the pixels sum to more than 2, else class 0; keeps what it has seen."""

    def __init__(self):
        self.seen = []

    def __call__(self, x):
        self.seen.extend(x)
        total = x.flatten(1).sum(1) - 2
        return torch.stack([-total, total], 1)


def counted(predict, clean, label, **options):
    """A model that is answered at once, alone, and what becomes of the image."""
    record = Record(clean, label, **options)
    return CountedModel(answering(predict), record), record


def answering(predict):
    def ask(x, records):
        logits = predict(x)
        look(records, x.detach(), logits.detach())
        return logits
    return ask


def image(*values):
    return torch.tensor(values).view(1, *SHAPE)


@pytest.fixture
def clean():
    return image(0.1, 0.2, 0.3, 0.4)  # sums to 1


def test_every_forward_pass_is_charged_and_none_is_beyond_the_limit(clean):
    below = Sums()
    model, record = counted(below, clean, 0, limit=4, bound=Bound(), example=7)
    model(clean + 0.01)
    assert (record.queries, len(below.seen), record.over) == (2, 2, False)
    with pytest.raises(AttackOver):  # five candidates where two are left
        model((clean + 0.02).repeat(5, 1, 1, 1))
    assert (record.queries, len(below.seen), record.over) == (4, 4, True)
    with pytest.raises(AttackOver):
        model(clean + 0.03)
    assert len(below.seen) == 4
    done = record.finished()
    assert (done.ids[0], done.queries[0], done.success_iteration[0]) == (7, 4, -1)


def test_a_group_that_just_fits_is_answered(clean):
    below = Sums()
    model, record = counted(below, clean, 0, limit=3, bound=Bound())
    assert model((clean + 0.02).repeat(2, 1, 1, 1)).shape == (2, 2)
    assert record.over and len(below.seen) == 3


def test_the_clean_image_is_remembered(clean):
    below = Sums()
    model, record = counted(below, clean, 0, limit=2, bound=Bound())
    answer = model(clean)
    answer[0, 0] = -9  # an attack may write into it
    assert torch.equal(model(clean), Sums()(clean)) and (record.queries, len(below.seen)) == (1, 1)


def test_the_first_success_ends_the_attack(clean):
    below = Sums()
    model, record = counted(below, clean, 0, limit=9, bound=Bound())
    model(clean + 0.2)
    with pytest.raises(AttackOver):
        model(torch.cat([clean + 0.1, clean + 0.3, clean + 0.4]))
    done = record.finished()
    assert torch.equal(done.x_adv, clean + 0.3)
    assert (done.success_iteration[0], done.queries[0], done.prediction[0]) == (4, 5, 1)
    assert done.l2[0] == pytest.approx(0.6) and done.linf[0] == pytest.approx(0.3)


@pytest.mark.parametrize(("norm", "epsilon"), [("linf", 0.3), ("l2", 0.6), ("l1", 1.2), ("l0", 4)])
def test_a_success_beyond_the_bound_does_not_count(clean, norm, epsilon):
    """The changed image differs by 0.3 everywhere."""
    model, record = counted(Sums(), clean, 0, limit=9, bound=Bound(norm, epsilon * 0.999))
    assert model(clean + 0.3).argmax(1).tolist() == [1]
    done = record.finished()
    assert done.success_iteration[0] == -1 and torch.equal(done.x_adv, clean)
    model, record = counted(Sums(), clean, 0, limit=9, bound=Bound(norm, epsilon))
    with pytest.raises(AttackOver):
        model(clean + 0.3)


def test_to_minimise_is_to_keep_the_nearest_success_and_the_first_ones_time(clean):
    model, record = counted(Sums(), clean, 0, limit=6, bound=Bound("l2", None), minimise=True)
    for step in (0.1, 0.4, 0.3):
        model(clean + step)
    assert not record.over
    model(torch.cat([clean + 0.35, clean + 0.2]))  # neither is a nearer success
    done = record.finished()
    assert record.over and torch.equal(done.x_adv, clean + 0.3) and done.l2[0] == pytest.approx(0.6)
    assert (done.success_iteration[0], done.queries[0], done.prediction[0]) == (2, 6, 1)


def test_what_is_seen_is_clipped(clean):
    below = Sums()
    model, record = counted(below, clean, 0, limit=9, bound=Bound())
    model(clean - 0.35)
    torch.testing.assert_close(below.seen[-1], torch.tensor([0, 0, 0, 0.05]).view(SHAPE))
    assert float(below.seen[-1].min()) == 0


@pytest.mark.parametrize("values", [(0.0, 1.0, 0.3, 0.4), (0.0, 1.0, -0.1, 1.4)])
def test_gradients_reach_what_is_not_clipped_the_ends_of_the_range_included(clean, values):
    x = image(*values).requires_grad_()
    counted(Sums(), clean, 0, limit=9, bound=Bound())[0](x)[0, 1].backward()
    assert x.grad.flatten().tolist() == [float(0 <= value <= 1) for value in values]


def test_without_a_success_the_nearest_image_is_the_outcome(clean):
    model, record = counted(Sums(), clean, 0, limit=9, bound=Bound())
    for step in (0.1, 0.2, 0.05, -0.1):
        model(clean + step)
    done = record.finished()
    assert torch.equal(done.x_adv, clean + 0.2) and done.queries[0] == 5
    assert done.margin[0] == pytest.approx(0.4, abs=1e-6)  # two classes: the difference of the logits


def test_a_clean_error_has_nothing_to_be_attacked(clean):
    model, record = counted(Sums(), clean, 1, limit=9, bound=Bound())
    done = record.finished()
    assert record.over and (done.success_iteration[0], done.queries[0]) == (0, 1)


def several(below, *sums, limit=9, leaving=False, **options):
    """Images whose pixels have these sums, all of class 0."""
    records = [Record(image(*[total / 4] * 4), 0, limit=limit, bound=Bound(), example=at, **options)
               for at, total in enumerate(sums)]
    return CountedModels(answering(below), records, leaving), records, torch.cat([record.clean for record in records])


def test_of_several_images_those_that_are_done_are_forwarded_no_more():
    below = Sums()
    model, records, x = several(below, 1.0, 1.8, 1.4)
    model(x + 0.1)  # breaks the second
    assert [record.over for record in records] == [False, True, False] and len(below.seen) == 6
    leaf = (x + 0.11).requires_grad_()
    logits = model(leaf)
    assert len(below.seen) == 8
    torch.testing.assert_close(logits, Sums()(x + torch.tensor([0.11, 0.1, 0.11])[:, None, None, None]))
    logits[:, 1].sum().backward()
    assert leaf.grad.flatten(1).sum(1).tolist() == [4, 0, 4]
    for step in (0.12, 0.13, 0.14, 0.2, 0.3):
        model(x + step)
    with pytest.raises(AttackOver):
        model(x)
    assert [int(record.finished().success_iteration[0]) for record in records] == [7, 1, 6]
    assert [record.queries for record in records] == [8, 2, 7]


def test_several_images_have_a_budget_each():
    below = Sums()
    model, records, x = several(below, 1.0, 1.0, limit=3)
    mixed = torch.cat([x[:1], x[1:] + 0.01])
    assert torch.equal(model(mixed)[0], Sums()(x)[0])  # the clean image is known
    model(mixed)
    assert [record.queries for record in records] == [1, 3] and len(below.seen) == 4
    for step in (0.01, 0.02):
        model(x + step)
    with pytest.raises(AttackOver):
        model(x + 0.03)
    assert [record.queries for record in records] == [3, 3] and len(below.seen) == 6


def test_an_image_that_leaves_is_asked_about_once_more_and_those_that_are_over_do_not_keep_it():
    """As by an attack that alone would end its loop at the first misclassification, which is beyond the bound here."""
    below = Sums()
    records = [Record(image(*[total / 4] * 4), 0, limit=3, bound=Bound("linf", 0.01)) for total in (1.9, 1.0)]
    model, x = CountedModels(answering(below), records, leaving=True), torch.cat([record.clean for record in records])

    def misclassified():
        leaf = (x + 0.05).requires_grad_()
        logits = model(leaf)
        logits.sum().backward()
        return (logits.argmax(1) != 0).tolist(), leaf.grad.flatten(1).abs().sum(1)

    assert [misclassified()[0] for _ in range(2)] == [[True, False], [True, False]]
    assert [record.queries for record in records] == [2, 3]
    found, gradients = misclassified()  # nothing is asked
    assert found == [True, True] and not gradients.any()
    model(x + 0.005)
    assert [record.queries for record in records] == [3, 3] and len(below.seen) == 6


@pytest.mark.parametrize(("logits", "message"), [
    (torch.full((1, 2), float("nan")), "not finite"), (torch.zeros(2), r"must return logits"),
    (torch.zeros(1, 1), "two or more classes"), (torch.zeros(2, 3), "must return logits")])
def test_logits_that_can_not_be_are_refused(clean, logits, message):
    with pytest.raises(InputError, match=message):
        counted(lambda x: logits, clean, 1, limit=2, bound=Bound())


def test_bounds_allow_for_rounding():
    difference = torch.tensor([8 / 255 + 1e-8, 8 / 255 + 1e-4]).view(2, 1, 1, 1)
    assert Bound("linf", 8 / 255).holds(difference).tolist() == [True, False]
    assert np.array_equal(Bound().holds(difference * 1e9), [True, True])
