"""Auto-PGD's batch of images under attack, and its steps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch

from framebench.attacks.base import Finished, Predict
from framebench.attacks.losses import LOSSES
from framebench.attacks.state import Batch, Outcomes, outcomes, sizes
from framebench.attacks.verdict import check_classes, check_differentiable, judge, read_logits
from framebench.errors import InputError
from framebench.seeding import generator

#: Most values in the images of one forward and backward pass on a CPU: 13 images of 3x224x224, 682 of 3x32x32. The
#: graph of a pass takes some 200 times this memory, more than all else, and larger passes are no faster.
PASS = 2**21


@dataclass(frozen=True)
class Run:
    """A run of the attack from a random start.

    Attributes:
        loss: One of `framebench.attacks.losses.LOSSES`.
        rank: Rank of the target among the other classes, by the logits of the clean image, from 1; 0 for no target. A
            rank beyond the number of other classes means the last one.
        length: Points of the run, the start included; each is a forward pass (or `eot` of them) with its gradient.
    """

    loss: str
    rank: int
    length: int


@dataclass
class _State(Outcomes):
    """The images under attack.

    Attributes:
        now: The current point, [n, C, H, W].
        before: The previous point.
        gradient: The gradient at the current point, accumulated over `eot` passes.
        best: The point of the highest loss in this run; the next two are its gradient and its loss.
        last_loss: The loss at the previous point.
        checked_loss: The best loss at the last checkpoint.
        rises: Steps since then that have raised the loss.
        halved: Whether the step size was halved there, 1 or 0.
        step: The step size.
        target: Targets of the runs, int64 [n, runs].
        run: Index of the current run; -1 while the clean image is forwarded.
        at: Index of the current point in the run.
        draw: Forward passes at the current point so far.
        start: Generators of the starts.
    """

    now: torch.Tensor
    before: torch.Tensor
    gradient: torch.Tensor
    best: torch.Tensor
    best_gradient: torch.Tensor
    best_loss: torch.Tensor
    last_loss: torch.Tensor
    checked_loss: torch.Tensor
    rises: torch.Tensor
    halved: torch.Tensor
    step: torch.Tensor
    target: np.ndarray
    run: np.ndarray
    at: np.ndarray
    draw: np.ndarray
    start: np.ndarray


class Ascent(Batch[_State]):
    """Images under attack; see `framebench.attacks.state.Batch`.

    Args:
        runs: The runs on each image, in turn.
        norm: "Linf" or "L2".
        epsilon: The bound.
        rho: See `framebench.attacks.apgd.APGDOptions`, as for eot.
        eot: Forward passes per point.
        seed: Seed of the starts.
        watched: Ids of the examples whose margin's path is kept.
    """

    def __init__(self, runs: Sequence[Run], norm: str, epsilon: float, rho: float, eot: int, seed: int,
                 watched: Set[int] = frozenset()) -> None:
        self._runs, self._norm, self._epsilon, self._rho, self._eot = runs, norm, epsilon, rho, eot
        self._seed, self._watched = seed, watched
        self._losses, self._length = np.array([run.loss for run in runs]), np.array([run.length for run in runs])
        self._spans = [checkpoints(run.length - 1) for run in runs]
        self._device: torch.device | None = None  # that of the logits, known after the first pass

    def admit(self, ids: np.ndarray, x: torch.Tensor, labels: torch.Tensor, limit: np.ndarray) -> None:
        """See `Batch.admit`."""
        n, x = len(ids), x.to(self._device)
        start = np.empty(n, dtype=object)
        start[:] = [generator(self._seed, "apgd-start", example) for example in ids]
        own: dict[str, Any] = {name: torch.zeros_like(x) for name in ("before", "gradient", "best", "best_gradient")}
        own |= {name: x.new_zeros(n) for name in ("best_loss", "last_loss", "checked_loss", "rises", "halved", "step")}
        own |= {name: np.zeros(n, dtype=np.int64) for name in ("at", "draw")}
        self._add(_State(**outcomes(ids, x, labels, limit, self._watched), **own, now=x.clone(), run=np.full(n, -1),
                         target=np.zeros((n, len(self._runs)), dtype=np.int64), start=start))

    def step(self, predict: Predict) -> Finished | None:
        """See `Batch.step`."""
        state = self._state
        assert state is not None
        scores, loss = self._ask(state, predict)
        verdict, clean = judge(scores, state.label), state.run < 0
        point = clean | (state.draw == self._eot - 1)  # else the point is forwarded again
        state.take(np.arange(self.live), state.now, verdict, allowed=point, clean=clean)
        order = np.argsort(-scores[clean], axis=1, kind="stable")
        state.target[clean] = order[:, [min(run.rank, scores.shape[1] - 1) for run in self._runs]]
        last = point & (state.run == len(self._runs) - 1) & (state.at == self._length[state.run] - 1)
        over = state.over | last
        finished = self._release(over)
        if self.live:
            self._advance(state, loss[torch.from_numpy(~over).to(loss.device)], point[~over])
        return finished

    def _parts(self, state: _State) -> Iterator[slice]:
        """Split the images into passes, evenly."""
        n = len(state.id)
        passes = min(-(-state.now.numel() // PASS), n) if state.now.device.type == "cpu" else 1
        ends = [n * k // passes for k in range(passes + 1)]
        yield from map(slice, ends[:-1], ends[1:])

    def _ask(self, state: _State, predict: Predict) -> tuple[np.ndarray, torch.Tensor]:
        """Forward all images, add to their gradients, and return logits [live, classes] and losses [live]."""
        scores, losses = [], []
        for rows in self._parts(state):
            shown = state.now[rows].detach().requires_grad_()
            with torch.enable_grad():
                logits = predict(shown)
            scores.append(read_logits(logits, state.id[rows]))
            self._check(scores[-1].shape[1], state.label[rows], logits)
            losses.append(self._ascend(state, rows, shown, logits))
            device = logits.device
            del logits  # and its graph, before the next pass
        if self._device is None:
            self._device = device
            for field in fields(_State):
                if isinstance(value := getattr(state, field.name), torch.Tensor):
                    setattr(state, field.name, value.to(device))
        return np.concatenate(scores), torch.cat(losses).to(state.now)

    def _check(self, classes: int, labels: np.ndarray, logits: torch.Tensor) -> None:
        """Check the logits of a forward pass."""
        check_classes(classes, labels)
        for name in set(self._losses):
            if classes < LOSSES[name][1]:
                raise InputError(f"the loss {name} needs {LOSSES[name][1]} classes, and the model has {classes}; "
                                 "choose apgd with loss=ce")
        check_differentiable(logits)

    def _ascend(self, state: _State, rows: slice, shown: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        """Add the gradients of the losses of some images' runs, and return the losses [r]; 0 for clean images."""
        loss = logits.new_zeros(len(logits))  # in the precision of the logits
        run = state.run[rows]
        if (run < 0).all():
            return loss
        for name in sorted(set(self._losses[run[run >= 0]])):
            at = np.flatnonzero((run >= 0) & (self._losses[run] == name))
            index, label, target = (torch.from_numpy(values).to(logits.device) for values in (
                at, state.label[rows][at], state.target[rows][at, run[at]]))
            loss = loss.index_put((index,), LOSSES[name][0](logits[index], label, target))
        gradient, = torch.autograd.grad(loss.sum(), shown)
        state.gradient[rows] += gradient / self._eot
        return loss.detach()

    def _advance(self, state: _State, loss: torch.Tensor, point: np.ndarray) -> None:
        """Move on to the next points; `point` marks the images whose current point is done, bool [live]."""
        clean = state.run < 0
        self._record(state, loss, point & (state.at == 0) & ~clean, point & (state.at > 0))
        next_run = clean | (point & (state.at == self._length[state.run] - 1))
        stepping = torch.from_numpy(point & ~next_run).to(loss.device)
        share = torch.from_numpy(np.where(state.at == 0, 1.0, 0.75)).to(state.now)
        for rows in self._parts(state):
            moved = self._stepped(state, rows, share[rows])
            _put(stepping[rows], state.now[rows], state.before[rows])
            _put(stepping[rows], moved, state.now[rows])
        if next_run.any():
            starting = torch.from_numpy(next_run).to(loss.device)
            state.now[starting] = self._starts(state, np.flatnonzero(next_run))
            _put(starting, state.now, state.before)
        state.gradient[torch.from_numpy(point).to(loss.device)] = 0
        state.run = state.run + next_run
        state.at = np.where(next_run, 0, state.at + (point & ~next_run))
        state.draw = np.where(point, 0, state.draw + 1)

    def _record(self, state: _State, loss: torch.Tensor, first: np.ndarray, later: np.ndarray) -> None:
        """Update the best points and, at checkpoints, the step sizes: after starts (`first`) and steps (`later`)."""
        start, stepped = (torch.from_numpy(rows).to(loss.device) for rows in (first, later))
        up = start | (stepped & (loss > state.best_loss))
        for new, old in ((state.now, state.best), (state.gradient, state.best_gradient), (loss, state.best_loss)):
            _put(up, new, old)
        state.rises += stepped & (loss > state.last_loss)
        _put(stepped, loss, state.last_loss)
        span = np.array([self._spans[run][at] for run, at in zip(state.run, state.at, strict=True)]) * later
        stalled = (state.rises <= torch.from_numpy(span * self._rho).to(loss.device)) \
            | ((state.halved == 0) & (state.checked_loss >= state.best_loss))
        halve = torch.from_numpy(span > 0).to(loss.device) & stalled
        _put(halve, state.step / 2, state.step)
        _put(halve, state.best, state.now)
        _put(halve, state.best_gradient, state.gradient)
        checked = torch.from_numpy((span > 0) | first).to(loss.device)
        _put(checked, halve.to(loss), state.halved)
        _put(checked, state.best_loss, state.checked_loss)
        state.rises[checked] = 0
        # The authors' code compares the first step with 0, not with the start.
        state.last_loss[start], state.halved[start], state.step[start] = 0, 1, 2 * self._epsilon

    def _stepped(self, state: _State, rows: slice, share: torch.Tensor) -> torch.Tensor:
        """Return the points of some images after a step; `share` [r] weighs it against the momentum."""
        now, before, clean, gradient = (part[rows] for part in (state.now, state.before, state.clean, state.gradient))
        share, step = share[:, None, None, None], state.step[rows, None, None, None]
        direction = gradient.sign() if self._norm == "Linf" else self._unit(gradient)
        to = self._projected(now + step * direction, clean)
        return self._projected(now + (to - now) * share + (now - before) * (1 - share), clean)

    def _starts(self, state: _State, rows: np.ndarray) -> torch.Tensor:
        """Return random points within the bound of some rows."""
        shape = tuple(state.clean.shape[1:])
        draws = np.stack([2 * state.start[row].random(shape) - 1 if self._norm == "Linf"
                          else state.start[row].standard_normal(shape) for row in rows])
        direction = self._unit(torch.from_numpy(draws).to(state.clean))
        return (state.clean[torch.from_numpy(rows).to(direction.device)] + self._epsilon * direction).clamp(0, 1)

    def _projected(self, x: torch.Tensor, clean: torch.Tensor) -> torch.Tensor:
        if self._norm == "Linf":
            return x.clamp(clean - self._epsilon, clean + self._epsilon).clamp(0, 1)
        difference = x - clean
        return (clean + self._unit(difference) * sizes(difference).clamp(max=self._epsilon)).clamp(0, 1)

    def _unit(self, x: torch.Tensor) -> torch.Tensor:
        return x / (sizes(x, float("inf") if self._norm == "Linf" else 2) + 1e-12)


def _put(rows: torch.Tensor, new: torch.Tensor, old: torch.Tensor) -> None:
    """Write some rows, bool [n], of `new` into `old` in place."""
    torch.where(rows.view(-1, *[1] * (old.ndim - 1)), new, old, out=old)


def checkpoints(steps: int) -> np.ndarray:
    """Return, int64 [steps + 1], the steps since the previous checkpoint where step k is a checkpoint, else 0."""
    spans, at, span = np.zeros(steps + 1, dtype=np.int64), 0, max(int(0.22 * steps), 1)
    while (at := at + span) <= steps:
        spans[at] = span
        span = max(span - max(int(0.03 * steps), 1), max(int(0.06 * steps), 1))
    return spans
