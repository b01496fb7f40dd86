"""Tasks that ask a model, each about its own image: many at once, all their questions in one forward pass.

An attack that owns its loop can't leave a batch, and its draws come from global generators, so that in a batch every
image's result depends on the others. Here each image has an attack of its own, in a thread of its own, of which one
runs at a time. At a question the thread is suspended and its generators are put aside; when all are suspended, the
questions are answered together. The forward passes stay full and the results are those of one image at a time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

import numpy as np
import torch
from numpy.random import get_bit_generator, set_bit_generator  # type: ignore[attr-defined]  # missing in its stubs

from framebench.attacks.base import Predict
from framebench.attacks.queries import AttackOver
from framebench.errors import InputError

T = TypeVar("T")
Task = Callable[[Predict], T]


def interleave(tasks: Iterable[tuple[int, Task[T]]], answer: Predict, *, lanes: int, batch_size: int) -> Iterator[T]:
    """Run tasks, at most `lanes` at a time, and yield their results as they finish.

    Args:
        tasks: (seed, task) of each. A task gets a function to ask with, which must be called in the task's own
            thread; the global generators of torch (CPU) and NumPy are the task's own and start from its seed.
        answer: Maps questions [m, ...] to answers [m, ...], row by row.
        lanes: Tasks under way at once; changes the speed, not the results.
        batch_size: The largest m.

    Raises:
        InputError: if there are not as many answers as questions.
        Exception: what a task or `answer` raises; the other tasks are ended.
    """
    waiting, running = iter(tasks), list[_Lane[T]]()
    try:
        while True:
            while len(running) < lanes and (following := next(waiting, None)) is not None:
                running.append(_Lane(*following))
                running[-1].resume(None)
                yield from _take_finished(running)
            if not running:
                return
            questions = [lane.question for lane in running]
            answers = torch.cat([answer(part) for part in torch.split(torch.cat(questions), batch_size)]).cpu()
            sizes = [len(question) for question in questions]
            if len(answers) != sum(sizes):
                raise InputError(f"the model must return logits [n, classes] for n images; for {sum(sizes)} images it "
                                 f"returned {list(answers.shape)}")
            for lane, own in zip(running, torch.split(answers, sizes), strict=True):
                lane.resume(own)
            yield from _take_finished(running)
    finally:
        for lane in running:
            lane.cancel()


def _take_finished(running: list[_Lane[T]]) -> Iterator[T]:
    for lane in [lane for lane in running if lane.finished]:
        running.remove(lane)
        yield lane.result()


class _Lane(Generic[T]):
    """A task in a thread that runs only between `resume` and its next question."""

    def __init__(self, seed: int, task: Task[T]) -> None:
        self.question, self.finished = torch.empty(0), False
        self._answer, self._cancelled = torch.empty(0), False
        self._results: list[T] = []
        self._error: BaseException | None = None
        self._torch = torch.Generator().manual_seed(seed).get_state()
        self._numpy = np.random.MT19937(seed)
        self._turn, self._paused = threading.Semaphore(0), threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, args=(task,), daemon=True)
        self._thread.start()

    def resume(self, answer: torch.Tensor | None) -> None:
        """Give the task the answer to its question and let it run to the next one, or to its end."""
        if answer is not None:
            self._answer = answer
        outer_torch, outer_numpy = torch.get_rng_state(), get_bit_generator()
        torch.set_rng_state(self._torch)
        set_bit_generator(self._numpy)
        try:
            self._turn.release()
            self._paused.acquire()
        finally:
            self._torch = torch.get_rng_state()
            torch.set_rng_state(outer_torch)
            set_bit_generator(outer_numpy)

    def result(self) -> T:
        """Return what the finished task has returned, or raise what it has raised."""
        if self._error is not None:
            raise self._error
        return self._results[0]

    def cancel(self) -> None:
        """End the task at its question."""
        self._cancelled = True
        self._turn.release()
        self._thread.join()

    def _ask(self, question: torch.Tensor) -> torch.Tensor:
        self.question = question
        self._paused.release()
        self._turn.acquire()
        if self._cancelled:
            raise AttackOver
        return self._answer

    def _run(self, task: Task[T]) -> None:
        torch.set_num_threads(1)  # of this thread: the setting does not pass on
        self._turn.acquire()
        try:
            if not self._cancelled:
                self._results.append(task(self._ask))
        except BaseException as error:  # handed to the main thread, which raises it
            self._error = error
        finally:
            self.finished = True
            self._paused.release()
