from __future__ import annotations

import gc
import threading

import numpy as np
import pytest
import torch

from framebench.attacks.interleave import interleave


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

    return sorted(interleave(((100 + i, walk(s)) for i, s in enumerate(steps)), answer, lanes=lanes,
                             batch_size=batch_size)), sizes


def test_results_are_those_of_one_task_at_a_time():
    alone, sizes = run(1)
    assert sizes == [1] * 15
    for lanes, batch_size in ((2, 64), (5, 64), (5, 2)):
        together, _ = run(lanes, batch_size)
        assert together == alone


def test_draws_start_from_the_seed():
    (_, total), = interleave([(9, walk(1))], lambda x: x, lanes=1, batch_size=1)
    expected = torch.rand(1, 2, generator=torch.Generator().manual_seed(9)).sum()
    assert total == pytest.approx(float(expected) + np.random.RandomState(np.random.MT19937(9)).rand())


def test_forward_passes_are_full_and_no_larger_than_asked():
    _, sizes = run(5)
    assert sizes == [5, 4, 3, 2, 1]
    _, sizes = run(5, batch_size=2)
    assert max(sizes) == 2 and sum(sizes) == 15
    _, sizes = run(2, steps=(2, 4, 2))
    assert sizes == [2, 2, 2, 2], "a lane that is free is taken by the next task"


def test_the_generators_of_the_caller_are_left_alone():
    torch.manual_seed(1)
    np.random.seed(1)
    expected = torch.rand(1), np.random.rand()
    torch.manual_seed(1)
    np.random.seed(1)
    list(interleave([(i, walk(3)) for i in range(4)], lambda x: x, lanes=3, batch_size=8))
    assert (torch.rand(1), np.random.rand()) == expected


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
        for _ in interleave(tasks, answer, lanes=3, batch_size=8):
            if where == "caller":
                raise ArithmeticError
    gc.collect()
    assert threading.active_count() == before
