from __future__ import annotations

import gc
import threading

import numpy as np
import pytest
import torch

from framebench.attacks.interleave import interleave
from framebench.errors import InputError


def walk(steps):
    """A task that adds up the answers to its random questions, with a draw of NumPy's in between."""
    def task(ask):
        total = 0.0
        for _ in range(steps):
            total += float(ask(torch.rand(1, 2)).sum()) + np.random.rand()
        return steps, total
    return task


def run(lanes, batch_size=64, steps=(3, 5, 1, 4, 2)):
    sizes = []

    def answer(x):
        sizes.append(len(x))
        torch.rand(3)  # must not change what the tasks draw
        return x * 2

    return sorted(interleave(((100 + i, walk(s)) for i, s in enumerate(steps)), answer, enough=lanes,
                             batch_size=batch_size)), sizes


def test_results_are_those_of_one_task_at_a_time():
    alone, sizes = run(1)
    assert sizes == [1] * 15
    for lanes, batch_size in ((2, 64), (5, 64), (5, 2)):
        together, _ = run(lanes, batch_size)
        assert together == alone


def test_draws_start_from_the_seed():
    (_, total), = interleave([(9, walk(1))], lambda x: x, enough=1, batch_size=1)
    expected = torch.rand(1, 2, generator=torch.Generator().manual_seed(9)).sum()
    assert total == pytest.approx(float(expected) + np.random.RandomState(np.random.MT19937(9)).rand())


def test_forward_passes_are_full_and_no_larger_than_asked():
    _, sizes = run(5)
    assert sizes == [5, 4, 3, 2, 1]
    _, sizes = run(5, batch_size=2)
    assert max(sizes) == 2 and sum(sizes) == 15
    _, sizes = run(2, steps=(2, 4, 2))
    assert sizes == [2, 2, 2, 2], "a lane that is free is taken by the next task"


def test_tasks_are_started_until_there_are_questions_enough():
    sizes = []

    def ask_several(ask):
        for _ in range(2):
            ask(torch.zeros(3, 1))

    def answer(x):
        sizes.append(len(x))
        return x

    list(interleave([(0, ask_several)] * 3, answer, enough=4, batch_size=64))
    assert sizes == [6, 6, 3, 3]


def test_every_pass_is_shown_before_its_answers_are_handed_out():
    passes = []

    def task(name, sizes):
        def run(ask):
            for size in sizes:
                answer = ask(torch.full((size, 1), 3.0), [name] * size)
                assert answer.tolist() == [[6.0]] * size and passes[-1].count(name) == size
                answer[:] = 0  # its own copy
        return run

    def look(askers, questions, answers):
        assert torch.equal(answers, 2 * questions)
        passes.append("".join(askers))

    list(interleave([(0, task("a", (1, 2))), (1, task("b", (3, 1)))], lambda x: 2 * x, enough=2, batch_size=8,
                    look=look))
    assert passes == ["abbb", "aab"]


def test_the_generators_of_the_caller_are_left_alone():
    torch.manual_seed(1)
    np.random.seed(1)
    expected = torch.rand(1), np.random.rand()
    torch.manual_seed(1)
    np.random.seed(1)
    list(interleave([(i, walk(3)) for i in range(4)], lambda x: x, enough=3, batch_size=8))
    assert (torch.rand(1), np.random.rand()) == expected


class Counted(torch.autograd.Function):
    """x^2, with the sizes of its forward and backward passes."""

    @staticmethod
    def forward(ctx, x, sizes):
        ctx.save_for_backward(x)
        ctx.sizes = sizes
        sizes.append(("forward", len(x)))
        return x * x

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        ctx.sizes.append(("backward", int((gradient != 0).any(1).sum())))
        return 2 * x * gradient, None


def descend(steps, looks=0):
    """A task that goes down the gradient of the answer's sum, after so many plain looks."""
    def task(ask):
        x = torch.rand(1, 2, dtype=torch.float64)
        for _ in range(looks):
            with torch.no_grad():
                ask(x)
        for _ in range(steps):
            leaf = x.clone().requires_grad_()
            answer = ask(leaf * 3)
            answer.sum().backward(retain_graph=True)
            first = leaf.grad.clone()
            torch.testing.assert_close(first, 18 * x)  # of (3 x)^2
            if looks:
                (again,) = torch.autograd.grad(answer[:, 0].sum(), leaf)
                assert again[0, 0] == first[0, 0] and again[0, 1] == 0
            x = x - 0.01 * first
        return x.tolist()
    return task


def test_gradients_are_those_of_one_task_at_a_time():
    def run(lanes, sizes, batch_size=64):
        tasks = [(i, descend(4, looks)) for i, looks in enumerate((0, 2, 0, 1, 0))]
        return sorted(interleave(tasks, lambda x: Counted.apply(x, sizes), enough=lanes, batch_size=batch_size))

    alone = run(1, [])
    assert len(alone) == 5
    for lanes, batch_size in ((2, 64), (5, 64), (5, 2)):
        assert run(lanes, [], batch_size) == alone


def test_one_backward_pass_serves_all_also_those_that_were_out_of_step():
    sizes = []
    list(interleave([(i, descend(3, looks=int(i == 0))) for i in range(4)], lambda x: Counted.apply(x, sizes), enough=4,
                    batch_size=64))
    assert sizes == [("forward", 1), *[("forward", 4), ("backward", 4), ("backward", 1)] * 3]


def test_a_model_without_gradients_is_refused():
    with pytest.raises(InputError, match="no gradients"):
        list(interleave([(0, descend(1))], lambda x: x.detach(), enough=1, batch_size=1))


@pytest.mark.parametrize("where", ["answer", "caller"])
def test_an_error_ends_threads_that_wait_within_a_backward_pass(where):
    before = threading.active_count()

    class Failing(Counted):
        @staticmethod
        def backward(ctx, gradient):
            raise ArithmeticError("in the model")

    def short(ask):
        x = torch.ones(1, 2, requires_grad=True)
        ask(x).sum().backward()

    tasks = [(0, short), (1, descend(3)), (2, descend(2))]
    with pytest.raises(ArithmeticError):
        for _ in interleave(tasks, lambda x: (Failing if where == "answer" else Counted).apply(x, []), enough=3,
                            batch_size=8):
            raise ArithmeticError
    gc.collect()
    assert threading.active_count() == before


@pytest.mark.parametrize("where", ["task", "answer", "caller"])
def test_an_error_ends_all_threads(where):
    before = threading.active_count()

    def failing(ask):
        ask(torch.zeros(1, 2))
        raise ArithmeticError("in the task")

    def answer(x):
        if where == "answer":
            raise ArithmeticError("in the model")
        return x

    tasks = [(0, walk(3)), (1, failing if where == "task" else walk(1)), (2, walk(9))]
    with pytest.raises(ArithmeticError):
        for _ in interleave(tasks, answer, enough=3, batch_size=8):
            if where == "caller":
                raise ArithmeticError
    gc.collect()
    assert threading.active_count() == before
