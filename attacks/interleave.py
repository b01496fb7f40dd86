"""Run many tasks that query one model, and answer their queries together in one forward pass.

An attack that controls its own loop attacks a batch as a whole and draws from global generators, so the result of an
image depends on the others in its batch. Here each image has its own attack in its own thread, and one thread runs at a
time. At a query, the thread is suspended and its generators are saved; when all threads are suspended, all queries are
answered together. Forward passes stay full, and the results are those of one image at a time.

Gradients work in the same way. An answer to a query that requires a gradient can be differentiated: the backward pass
of the task's own graph is suspended at that answer, and one backward pass of the model serves all waiting tasks. Tasks
differentiate on the CPU, where autograd runs backward functions in the calling thread. So the task's own thread waits,
whatever device the model is on.
"""

from __future__ import annotations

import enum
import itertools
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch
from numpy.random import get_bit_generator, set_bit_generator  # type: ignore[attr-defined]  # missing in its stubs
from torch.autograd.function import once_differentiable

from framebench.attacks.base import Predict
from framebench.attacks.queries import AttackOver
from framebench.errors import InputError

T = TypeVar("T")
#: Called after each pass, before the answers are returned: the asker of each question, the questions [m, ...], and the
#: answers [m, ...] on the CPU.
Look = Callable[[list[Any], torch.Tensor, torch.Tensor], None]


class Ask(Protocol):
    """The function with which a task queries the model."""

    def __call__(self, questions: torch.Tensor, askers: Sequence[Any] = ()) -> torch.Tensor:
        """Map questions [k, ...] to answers [k, ...]; `askers` [k] are passed on to the `Look`."""


Task = Callable[[Ask], T]


def interleave(tasks: Iterable[tuple[int, Task[T]]], answer: Predict, *, enough: int, batch_size: int,
               look: Look = lambda *_: None) -> Iterator[T]:
    """Run tasks, several at a time, and yield their results as they finish.

    Args:
        tasks: Pairs (seed, task). A task gets an `Ask`, to be called in the task's own thread. In that thread, the
            global generators of torch (CPU) and NumPy belong to the task and start from its seed. Questions are on the
            CPU; questions and answers are copies. If a question requires a gradient, its answer can be differentiated,
            repeatedly, but there are no second derivatives.
        answer: Maps questions [m, ...] to answers [m, ...], row by row; differentiable if the tasks need it.
        enough: Tasks are started until this many questions are open; changes the speed, not the results.
        batch_size: The largest m.
        look: Called once per pass, for work that is done for all answers at once.

    Raises:
        InputError: if the number of answers is wrong, or if they can't be differentiated but must be.
        Exception: of any type that a task or `answer` raises; the other tasks are ended.
    """
    waiting, running = iter(tasks), list[_Lane[T]]()
    try:
        while True:
            while (sum(len(lane.question.content) for lane in running) < enough
                   and (following := next(waiting, None)) is not None):
                running.append(_Lane(*following))
                _resume(running[-1:], [(torch.empty(0), None)])
                yield from _take_finished(running)
            if not running:
                return
            # One kind at a time: tasks that are ahead wait for the others, so that passes are full.
            kind = min(lane.question.kind for lane in running)
            asking = [lane for lane in running if lane.question.kind == kind]
            if kind is _Kind.GRADIENT:
                _give_gradients(asking)
            else:
                _give_answers(asking, answer, batch_size, look)
            yield from _take_finished(running)
    finally:
        for lane in running:
            lane.cancel()


class _Kind(enum.IntEnum):
    """Kinds of questions, in the order in which they are answered."""

    GRADIENT = 0
    PLAIN = 1
    DIFFERENTIABLE = 2


@dataclass(frozen=True)
class _Part:
    """A task's part of a differentiable forward pass.

    Attributes:
        questions: The questions of all tasks.
        answers: Their answers.
        rows: The rows of this task.
    """

    questions: torch.Tensor
    answers: torch.Tensor
    rows: slice


@dataclass(frozen=True)
class _Question:
    """A query that a task waits for.

    Attributes:
        kind: Its kind.
        content: The questions [k, ...]; for a gradient, the gradient with respect to the answers.
        of: For a gradient, the forward pass to be differentiated.
        askers: The askers [k]; none for a gradient.
    """

    kind: _Kind
    content: torch.Tensor
    of: _Part | None = None
    askers: Sequence[Any] = ()


#: An answer or a gradient; with a differentiable answer, its forward pass.
_Reply = tuple[torch.Tensor, _Part | None]


def _give_answers(asking: Sequence[_Lane[T]], answer: Predict, batch_size: int, look: Look) -> None:
    """Answer questions of one kind in one pass."""
    contents = [lane.question.content for lane in asking]
    sizes = list(map(len, contents))
    differentiable = asking[0].question.kind is _Kind.DIFFERENTIABLE
    questions = torch.cat(contents).requires_grad_(differentiable)
    with torch.set_grad_enabled(differentiable):
        answers = torch.cat([answer(part) for part in torch.split(questions, batch_size)])
    if len(answers) != len(questions):
        raise InputError(f"the model must return logits [n, classes] for n images; for {len(questions)} images it "
                         f"returned {list(answers.shape)}")
    if differentiable and not answers.requires_grad:
        raise InputError("the model gives no gradients with respect to its images; choose an attack that needs none")
    values = answers.detach().to("cpu", copy=True)
    look([asker for lane in asking for asker in lane.question.askers], questions.detach(), values)
    ends = itertools.accumulate(sizes)
    parts = [_Part(questions, answers, slice(end - size, end)) if differentiable else None
             for size, end in zip(sizes, ends, strict=True)]
    _resume(asking, list(zip(torch.unsafe_split_with_sizes(values, sizes), parts, strict=True)))


def _give_gradients(asking: Sequence[_Lane[T]]) -> None:
    """Differentiate each pass once, for all tasks that wait for its gradients."""
    groups: dict[int, list[tuple[_Lane[T], _Part]]] = {}
    for lane in asking:
        assert lane.question.of is not None
        groups.setdefault(id(lane.question.of.answers), []).append((lane, lane.question.of))
    for group in groups.values():
        _, shared = group[0]
        rows = torch.cat([torch.arange(part.rows.start, part.rows.stop) for _, part in group])
        weights = torch.zeros_like(shared.answers)
        weights[rows.to(weights.device)] = torch.cat([lane.question.content for lane, _ in group]).to(weights)
        # Rows are independent, and so are their gradients. The graph lives as long as its answers.
        gradients, = torch.autograd.grad(shared.answers, shared.questions, weights, retain_graph=True)
        parts = torch.unsafe_split_with_sizes(gradients[rows], [part.rows.stop - part.rows.start for _, part in group])
        _resume([lane for lane, _ in group], [(gradient, None) for gradient in parts])


class _Answer(torch.autograd.Function):
    """The model as a node in a task's own graph."""

    @staticmethod
    def forward(ctx: Any, questions: torch.Tensor, lane: _Lane[Any], askers: Sequence[Any]) -> torch.Tensor:
        """Ask for the answers."""
        answer, ctx.part = lane.wait(_Question(_Kind.DIFFERENTIABLE, questions.detach(), askers=askers))
        ctx.lane = lane
        return answer

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        """Ask for the gradient."""
        return ctx.lane.wait(_Question(_Kind.GRADIENT, gradient, ctx.part))[0], None, None


@contextmanager
def _generators_kept() -> Iterator[None]:
    """Restore the global generators afterwards."""
    states = torch.get_rng_state(), get_bit_generator()
    try:
        yield
    finally:
        torch.set_rng_state(states[0])
        set_bit_generator(states[1])


def _resume(lanes: Sequence[_Lane[T]], replies: Sequence[_Reply]) -> None:
    """Pass replies to tasks, and let each run until its next query or its end."""
    with _generators_kept():
        for lane, reply in zip(lanes, replies, strict=True):
            lane.resume(reply)


def _take_finished(running: list[_Lane[T]]) -> Iterator[T]:
    for lane in [lane for lane in running if lane.finished]:
        running.remove(lane)
        yield lane.result()


class _Lane(Generic[T]):
    """A task in a thread that runs only between `resume` and its next query."""

    def __init__(self, seed: int, task: Task[T]) -> None:
        self.question, self.finished = _Question(_Kind.PLAIN, torch.empty(0)), False
        self._reply: _Reply | None = None
        self._cancelled = False
        self._results: list[T] = []
        self._error: BaseException | None = None
        self._torch = torch.Generator().manual_seed(seed).get_state()
        self._numpy = np.random.MT19937(seed)
        # Released only to hand over control; a lock is several times as fast as a semaphore.
        self._turn, self._paused = threading.Lock(), threading.Lock()
        self._turn.acquire()
        self._paused.acquire()
        self._thread = threading.Thread(target=self._run, args=(task,), daemon=True)
        self._thread.start()

    def resume(self, reply: _Reply) -> None:
        """Let the task continue; the global generators keep its state."""
        self._reply = reply
        torch.set_rng_state(self._torch)
        set_bit_generator(self._numpy)
        self._turn.release()
        self._paused.acquire()
        self._torch = torch.get_rng_state()

    def result(self) -> T:
        """Return the result of the finished task, or raise its error."""
        if self._error is not None:
            raise self._error
        return self._results[0]

    def cancel(self) -> None:
        """End the task at its current query."""
        self._cancelled = True
        self._turn.release()
        self._thread.join()

    def wait(self, question: _Question) -> _Reply:
        """Suspend the task, in whose thread this is called, until there is a reply."""
        self.question = question
        self._paused.release()
        self._turn.acquire()
        if self._cancelled:
            raise AttackOver
        assert self._reply is not None
        reply, self._reply = self._reply, None  # so that only the task's graph keeps the pass alive
        return reply

    def _ask(self, questions: torch.Tensor, askers: Sequence[Any] = ()) -> torch.Tensor:
        if questions.requires_grad and torch.is_grad_enabled():
            answers: torch.Tensor = _Answer.apply(questions, self, askers)
            return answers
        return self.wait(_Question(_Kind.PLAIN, questions.detach(), askers=askers))[0]

    def _run(self, task: Task[T]) -> None:
        torch.set_num_threads(1)  # the setting is per thread
        self._turn.acquire()
        try:
            if not self._cancelled:
                self._results.append(task(self._ask))
        except BaseException as error:  # handed to the main thread, which raises it
            self._error = error
        finally:
            self.finished = True
            self._paused.release()
