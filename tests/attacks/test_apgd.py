"""Auto-PGD against the authors' code: the same start gives the same iterates."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from framebench.attacks import ascent, state
from framebench.attacks.apgd import APGDOptions, ascend
from framebench.attacks.ascent import Run, checkpoints
from framebench.attacks.registry import make
from framebench.errors import InputError

reference = pytest.importorskip("pyautoattack.autopgd_base")


class Recorded:
    """A model that keeps what it is asked about, and never gives a label but the clean image's."""

    def __init__(self, model, label):
        self.model, self.label, self.seen = model, label, []

    def __call__(self, x):
        self.seen.append(x.detach().double().clone())
        z = self.model(x)
        # A large logit of the label, without a gradient: its order with the others stays.
        return z + 50 * torch.nn.functional.one_hot(torch.tensor([self.label]), z.shape[1]).to(z)


def theirs(model, x, y, start, loss, norm, epsilon, steps, target=None):
    attack = reference.APGDAttack_targeted if loss == "dlr-targeted" else reference.APGDAttack
    own = attack(model, n_iter=steps, norm=norm, eps=epsilon, device="cpu")
    own.loss, own.y_target = loss, target
    own.init_hyperparam(x)
    own.attack_single_run(x, y, x_init=start)


def model(x):
    """A smooth network in double precision."""
    draws = torch.Generator().manual_seed(0)
    first, second = (torch.randn(*shape, generator=draws, dtype=torch.float64) for shape in ((48, 192), (5, 48)))
    return torch.tanh((x.flatten(1) - 0.5) @ first.T * 0.3) @ second.T * 0.6


@pytest.mark.parametrize("norm", ["Linf", "L2"])
@pytest.mark.parametrize("loss", ["ce", "dlr", "dlr-targeted"])
def test_iterates_are_the_references(data, norm, loss):
    epsilon, length = {"Linf": 0.1, "L2": 1.5}[norm], 61
    halved = False
    for example in (1, 4, 6):
        x = data([example])[0].double()
        y = model(x).argmax(1)
        ours, again = Recorded(model, int(y)), Recorded(model, int(y))
        (done,) = ascend(ours, lambda ids, x=x, y=y: (x, y), np.array([example]), [Run(loss, 2, length)],
                         APGDOptions(norm), epsilon, 1000, seed=3, batch_size=4)
        assert len(ours.seen) == int(done.queries[0]) == 1 + length
        target = model(x).argsort(descending=True)[:, 2]
        theirs(again, x, y, ours.seen[1], loss, norm, epsilon, length - 1, target)
        assert len(again.seen) == length
        for mine, other in zip(ours.seen[1:], again.seen, strict=True):
            torch.testing.assert_close(mine, other, rtol=0, atol=1e-7)  # the reference has some numbers in float32
        steps = [float((b - a).norm()) for a, b in zip(again.seen[:-1], again.seen[1:], strict=True)]
        halved = halved or min(steps) < 0.5 * max(steps)
    assert halved, "no step was halved, which this is to test"


@pytest.mark.parametrize("options", [{}, {"norm": "L2", "restarts": 3}, {"loss": "dlr-targeted", "targets": 4},
                                     {"loss": "dlr", "eot": 3}])
def test_rows_depend_on_neither_batch_nor_order(data, options):
    def load(ids):
        x = data(ids)[0].double()
        return x, model(x).argmax(1)

    attack = make("apgd", budget=36, epsilon=0.25 if options.get("norm") == "L2" else 0.02, options=options)

    def rows(ids, batch_size):
        found = {}
        for done in attack.stream(model, load, np.asarray(ids), seed=4, batch_size=batch_size):
            for i, example in enumerate(done.ids):
                found[int(example)] = [int(done.success_iteration[i]), int(done.queries[i]), done.x_adv[i]]
        return found

    whole = rows(range(8), 8)
    assert len({row[0] for row in whole.values()}) > 1
    for ids, batch_size in (([7, 2, 5], 8), (range(8), 1), (range(7, -1, -1), 3)):
        for example, (success, queries, image) in rows(ids, batch_size).items():
            assert [success, queries] == whole[example][:2]
            torch.testing.assert_close(image, whole[example][2], rtol=0, atol=1e-12)


def test_batches_are_full_while_images_are_left(data):
    sizes = []

    def counted(x):
        sizes.append(len(x))
        return model(x)

    def load(ids):
        x = data(ids)[0].double()
        return x, model(x).argmax(1)

    attack = make("apgd", budget=30, epsilon=0.02)
    queries = sum(int(done.queries.sum()) for done in attack.stream(counted, load, np.arange(8), seed=0, batch_size=3))
    assert queries == sum(sizes) and max(sizes) == 3
    assert sizes[: sizes.index(2)] == [3] * sizes.index(2) and sum(sizes[sizes.index(2):]) < 2 * 31 + 2


@pytest.mark.parametrize("eot", [1, 2])
def test_large_images_are_asked_about_in_several_passes(data, monkeypatch, eot):
    def load(ids):
        x = data(ids)[0].double()
        return x, model(x).argmax(1)

    def attacked():
        sizes = []

        def counted(x):
            sizes.append(len(x))
            return model(x)

        attack = make("apgd", budget=20, epsilon=0.02, options={"eot": eot})
        stream = attack.stream(counted, load, np.arange(8), seed=0, batch_size=8)
        return sizes, sorted((one for done in stream for one in done.each()), key=lambda one: one.ids[0])

    whole, expected = attacked()
    monkeypatch.setattr(ascent, "PASS", 3 * data([0])[0].numel())
    sizes, found = attacked()
    assert max(whole) == 8 and max(sizes) <= 3 and sum(sizes) == sum(whole)
    for mine, other in zip(found, expected, strict=True):
        assert (mine.queries, mine.success_iteration) == (other.queries, other.success_iteration)
        torch.testing.assert_close(mine.x_adv, other.x_adv, rtol=0, atol=1e-12)


def test_the_budget_is_shared_out_among_runs(data):
    x, y = data([1])
    attack = make("apgd", budget=40, epsilon=1e-9, options={"loss": "dlr-targeted", "targets": 3})
    (done,) = attack.stream(lambda x: model(x.double()), lambda ids: (x, model(x.double()).argmax(1)), np.array([1]),
                            seed=0, batch_size=1)
    assert int(done.queries[0]) == 1 + 3 * (40 // 3)


def test_checkpoints_are_the_papers():
    """Section 3 of arXiv 2003.01690: p_j of 0, 0.22, 0.41, 0.57, 0.70, 0.80, 0.87, 0.93, 0.99 of 100 iterations."""
    found = checkpoints(100)
    assert np.flatnonzero(found).tolist() == [22, 41, 57, 70, 80, 87, 93, 99]
    assert found[[22, 41, 57]].tolist() == [22, 19, 16]


@pytest.mark.parametrize(("options", "message"), [
    ({"loss": "cw"}, "unknown loss 'cw'"), ({"norm": "L7"}, "unknown norm"), ({"restarts": 0}, "at least 1"),
    ({"n_restarts": 2}, "did you mean restarts"), ({"eot": "many"}, "must be a whole number")])
def test_bad_options_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        make("apgd", budget=10, options=options)


def test_a_loss_needs_its_classes_and_gradients(data):
    def run(predict, **options):
        x, _ = data([1])
        return list(make("apgd", budget=9, options=options).stream(
            predict, lambda ids: (x, torch.zeros(1, dtype=torch.int64)), np.array([1]), seed=0, batch_size=1))

    with pytest.raises(InputError, match="needs 4 classes"):
        run(lambda x: model(x.double())[:, :3], loss="dlr-targeted")
    with pytest.raises(InputError, match="no gradients"):
        run(lambda x: model(x.double()).detach())


@pytest.mark.parametrize("name", ["apgd", "square"])
def test_few_large_images_are_under_attack_at_once(data, monkeypatch, name):
    def run(size):
        sizes = []

        def counted(x):
            sizes.append(len(x))
            return model(x.double())

        found = {}
        for several in make(name, budget=6, epsilon=0.02).stream(counted, data, np.arange(8), seed=0, batch_size=size):
            found |= {int(done.ids[0]): (int(done.queries[0]), done.x_adv.numpy().tobytes()) for done in several.each()}
        return found, max(sizes)

    whole, most = run(8)
    assert most == 8 and len(whole) == 8
    monkeypatch.setattr(state, "UNDER_ATTACK", 3 * 192 + 1)  # numbers of three images
    assert run(8) == (whole, 3) and run(2) == (whole, 2)
    monkeypatch.setattr(state, "UNDER_ATTACK", 1)
    assert run(8) == (whole, 1)
