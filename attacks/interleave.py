"""Tasks that ask a model, each about its own image: many at once, all their questions in one forward pass.

An attack that owns its loop can't leave a batch, and its draws come from global generators, so that in a batch every
image's result depends on the others. Here each image has an attack of its own, in a thread of its own, of which one
runs at a time. At a question the thread is suspended and its generators are put aside; when all are suspended, the
questions are answered together. The forward passes stay full and the results are those of one image at a time.

Gradients are asked for in the same way. A question that requires a gradient gets an answer that can be differentiated:
the backward pass of the task's own graph stops at it and is suspended, and one backward pass of the model serves all
tasks that wait for theirs. A task differentiates on the CPU, where autograd runs backward functions in the thread that
calls it, so it is the task's own thread that waits, whatever device the model is on.
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
#: Is told of a pass before its answers are handed out: who has asked each of its questions, the questions [m, ...], and
#: the answers [m, ...] on the CPU.
Look = Callable[[list[Any], torch.Tensor, torch.Tensor], None]


class Ask(Protocol):
    """What a task asks with."""

    def __call__(self, questions: torch.Tensor, askers: Sequence[Any] = ()) -> torch.Tensor:
        """Map questions [k, ...] to answers [k, ...]; `askers` [k] are what a `Look` is to know of who asks."""


Task = Callable[[Ask], T]


def interleave(tasks: Iterable[tuple[int, Task[T]]], answer: Predict, *, enough: int, batch_size: int,
               look: Look = lambda *_: None) -> Iterator[T]:
    """Run tasks, several at a time, and yield their results as they finish.

    Args:
        tasks: (seed, task) of each. A task gets a function to ask with, which must be called in the task's own
            thread; the global generators of torch (CPU) and NumPy are the task's own and start from its seed. What it
            asks is on the CPU; its questions and its answers are copies. An answer to what requires a gradient can be
            differentiated, once or more often, but not twice in a row (there are no second derivatives).
        answer: Maps questions [m, ...] to answers [m, ...], row by row; differentiable if the tasks need it.
        enough: Tasks are started until those under way have so many questions; changes the speed, not the results.
        batch_size: The largest m.
        look: Is told of each pass: what is to be done for every answer is done here for all of them at once.

    Raises:
        InputError: if there are not as many answers as questions, or if they can't be differentiated though they must.
        Exception: what a task or `answer` raises; the other tasks are ended.
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
            # One kind at a time, so that tasks that are out of step wait for the others and passes are full.
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
    """A task's part of a forward pass that can be differentiated.

    Attributes:
        questions: What was asked by all tasks together.
        answers: The answers to it.
        rows: Those that are the task's own.
    """

    questions: torch.Tensor
    answers: torch.Tensor
    rows: slice


@dataclass(frozen=True)
class _Question:
    """What a task waits for.

    Attributes:
        kind: Whether it is an answer or a gradient.
        content: What is asked about, [k, ...]; for a gradient, the gradient with respect to the answer.
        of: For a gradient, what is to be differentiated.
        askers: Who asks, [k]; none for a gradient.
    """

    kind: _Kind
    content: torch.Tensor
    of: _Part | None = None
    askers: Sequence[Any] = ()


#: An answer or a gradient, and of an answer that can be differentiated where it comes from.
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
    known = answers.detach().to("cpu", copy=True)
    look([asker for lane in asking for asker in lane.question.askers], questions.detach(), known)
    ends = itertools.accumulate(sizes)
    parts = [_Part(questions, answers, slice(end - size, end)) if differentiable else None
             for size, end in zip(sizes, ends, strict=True)]
    _resume(asking, list(zip(torch.unsafe_split_with_sizes(known, sizes), parts, strict=True)))


def _give_gradients(asking: Sequence[_Lane[T]]) -> None:
    """Differentiate every pass that is asked about once, for all that wait for it."""
    groups: dict[int, list[tuple[_Lane[T], _Part]]] = {}
    for lane in asking:
        assert lane.question.of is not None
        groups.setdefault(id(lane.question.of.answers), []).append((lane, lane.question.of))
    for group in groups.values():
        _, shared = group[0]
        rows = torch.cat([torch.arange(part.rows.start, part.rows.stop) for _, part in group])
        weights = torch.zeros_like(shared.answers)
        weights[rows.to(weights.device)] = torch.cat([lane.question.content for lane, _ in group]).to(weights)
        # Rows don't depend on each other, so neither do their gradients. The graph lives as long as its answers do.
        gradients, = torch.autograd.grad(shared.answers, shared.questions, weights, retain_graph=True)
        own = torch.unsafe_split_with_sizes(gradients[rows], [part.rows.stop - part.rows.start for _, part in group])
        _resume([lane for lane, _ in group], [(gradient, None) for gradient in own])


class _Answer(torch.autograd.Function):
    """The model, as a task's own graph has it."""

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
    """Leave the global generators as they are found."""
    states = torch.get_rng_state(), get_bit_generator()
    try:
        yield
    finally:
        torch.set_rng_state(states[0])
        set_bit_generator(states[1])


def _resume(lanes: Sequence[_Lane[T]], replies: Sequence[_Reply]) -> None:
    """Give tasks the replies to their questions and let each run to its next one, or to its end."""
    with _generators_kept():
        for lane, reply in zip(lanes, replies, strict=True):
            lane.resume(reply)


def _take_finished(running: list[_Lane[T]]) -> Iterator[T]:
    for lane in [lane for lane in running if lane.finished]:
        running.remove(lane)
        yield lane.result()


class _Lane(Generic[T]):
    """A task in a thread that runs only between `resume` and its next question."""

    def __init__(self, seed: int, task: Task[T]) -> None:
        self.question, self.finished = _Question(_Kind.PLAIN, torch.empty(0)), False
        self._reply: _Reply | None = None
        self._cancelled = False
        self._results: list[T] = []
        self._error: BaseException | None = None
        self._torch = torch.Generator().manual_seed(seed).get_state()
        self._numpy = np.random.MT19937(seed)
        # Held except at the moment of a handover; a lock is several times as fast as a semaphore.
        self._turn, self._paused = threading.Lock(), threading.Lock()
        self._turn.acquire()
        self._paused.acquire()
        self._thread = threading.Thread(target=self._run, args=(task,), daemon=True)
        self._thread.start()

    def resume(self, reply: _Reply) -> None:
        """Let the task run on; the global generators are left as it has them."""
        self._reply = reply
        torch.set_rng_state(self._torch)
        set_bit_generator(self._numpy)
        self._turn.release()
        self._paused.acquire()
        self._torch = torch.get_rng_state()

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

    def wait(self, question: _Question) -> _Reply:
        """Suspend the task, whose thread calls this, until there is a reply to its question."""
        self.question = question
        self._paused.release()
        self._turn.acquire()
        if self._cancelled:
            raise AttackOver
        assert self._reply is not None
        reply, self._reply = self._reply, None  # the pass lives as long as the task's graph, and no longer
        return reply

    def _ask(self, questions: torch.Tensor, askers: Sequence[Any] = ()) -> torch.Tensor:
        if questions.requires_grad and torch.is_grad_enabled():
            answers: torch.Tensor = _Answer.apply(questions, self, askers)
            return answers
        return self.wait(_Question(_Kind.PLAIN, questions.detach(), askers=askers))[0]

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
