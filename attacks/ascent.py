"""The images that Auto-PGD has under attack, and the steps that the model's gradients lead to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch

from framebench.attacks.base import Finished
from framebench.attacks.losses import LOSSES
from framebench.attacks.state import State
from framebench.attacks.verdict import check_classes, judge, read_logits
from framebench.errors import InputError
from framebench.seeding import generator


@dataclass(frozen=True)
class Run:
    """A run of the attack on an image, from a random start.

    Attributes:
        loss: One of `framebench.attacks.losses.LOSSES`.
        rank: The target's place among the other classes, by the logits of the clean image, from 1; 0 without a target.
            Of more ranks than other classes, the last is taken.
        length: Points of the run, the start included; each is a forward pass (or `eot` of them) with its gradient.
    """

    loss: str
    rank: int
    length: int


@dataclass
class _State(State):
    """The images under attack: tensors on the model's device and arrays, with one entry per image."""

    clean: torch.Tensor
    label: torch.Tensor
    now: torch.Tensor  # what is shown next
    before: torch.Tensor  # the point before it
    gradient: torch.Tensor  # at the point shown; the mean of several
    best: torch.Tensor  # the point of the highest loss in this run, its gradient and its loss
    best_gradient: torch.Tensor
    best_loss: torch.Tensor
    last_loss: torch.Tensor
    checked_loss: torch.Tensor  # the best loss at the last checkpoint
    rises: torch.Tensor  # steps since then that have raised the loss
    halved: torch.Tensor  # whether the step was halved there
    step: torch.Tensor
    target: torch.Tensor  # by run
    outcome: torch.Tensor  # the final image: the success, else the one of the lowest margin
    id: np.ndarray
    run: np.ndarray  # -1 while the clean image is shown
    at: np.ndarray  # points of the run before the one shown
    draw: np.ndarray  # answers about the point shown
    queries: np.ndarray
    margin: np.ndarray  # of the final image, as the two below
    prediction: np.ndarray
    confidence: np.ndarray
    success: np.ndarray
    clean_prediction: np.ndarray
    clean_confidence: np.ndarray
    start: np.ndarray  # the generators of the starts


class Ascent:
    """Images under attack.

    Args:
        runs: What is done to each.
        norm: "Linf" or "L2".
        epsilon: The bound.
        rho: See `framebench.attacks.apgd.APGDOptions`, as for eot.
        eot: Forward passes per point.
        limit: Hard limit of forward passes per image.
        seed: Keys the starts.
    """

    def __init__(self, runs: Sequence[Run], norm: str, epsilon: float, rho: float, eot: int, limit: int,
                 seed: int) -> None:
        self._runs, self._norm, self._epsilon, self._rho, self._eot = runs, norm, epsilon, rho, eot
        self._limit, self._seed = limit, seed
        self._losses, self._length = np.array([run.loss for run in runs]), np.array([run.length for run in runs])
        self._spans = [checkpoints(run.length - 1) for run in runs]
        self._state: _State | None = None
        self._device: torch.device | None = None  # where the model answers; known after its first answer

    @property
    def live(self) -> int:
        """Images under attack."""
        return 0 if self._state is None else len(self._state.id)

    @property
    def images(self) -> torch.Tensor:
        """What the model is to be asked about, [live, C, H, W]."""
        assert self._state is not None
        return self._state.now

    def admit(self, ids: np.ndarray, x: torch.Tensor, labels: torch.Tensor) -> None:
        """Take clean images in: ids [r], images [r, C, H, W], labels [r]."""
        n = len(ids)
        x, labels = x.to(self._device), labels.to(self._device)
        number, none = x.new_zeros(n), np.zeros(n, dtype=np.int64)
        starts = np.empty(n, dtype=object)
        starts[:] = [generator(self._seed, "apgd-start", example) for example in ids]
        new = _State(
            clean=x, label=labels, now=x, before=x, gradient=torch.zeros_like(x), best=x, best_gradient=x,
            best_loss=number, last_loss=number, checked_loss=number, rises=number, halved=number, step=number,
            target=labels[:, None].repeat(1, len(self._runs)), outcome=x, id=ids, run=none - 1, at=none, draw=none,
            queries=none, margin=none + np.inf, prediction=none, confidence=none + 0.0, success=none - 1,
            clean_prediction=none, clean_confidence=none + 0.0, start=starts)
        self._state = new if self._state is None else self._state.joined(new)

    def answer(self, shown: torch.Tensor, logits: torch.Tensor) -> Finished | None:
        """Take the logits of `images`, make the steps that follow, and return what is finished.

        Args:
            shown: The images that were asked about, which the logits can be differentiated by.
            logits: [live, classes].
        """
        assert self._state is not None
        state, labels = self._state, self._state.label.cpu().numpy()
        scores = read_logits(logits, state.id)
        self._check(scores.shape[1], labels, logits)
        loss, gradient = self._ascent(shown, logits)
        verdict = judge(scores, labels)
        clean = state.run < 0
        point = clean | (state.draw == self._eot - 1)  # else the point is asked about again
        won = point & (verdict.prediction != labels)
        state.queries = state.queries + 1
        state.success = np.where(won, state.queries - 1, state.success)
        state.clean_prediction = np.where(clean, verdict.prediction, state.clean_prediction)
        state.clean_confidence = np.where(clean, verdict.confidence, state.clean_confidence)
        kept = point & (won | (verdict.margin < state.margin))
        for name in ("margin", "prediction", "confidence"):
            setattr(state, name, np.where(kept, getattr(verdict, name), getattr(state, name)))
        state.outcome = self._where(kept, state.now, state.outcome)
        state.gradient = state.gradient + gradient / self._eot
        last = (state.run == len(self._runs) - 1) & (state.at == self._length[state.run] - 1)
        over = won | (state.queries >= self._limit) | (point & last)
        if clean.any():
            state.target = self._where(clean, self._targets(logits.detach()), state.target)
        going, done = np.flatnonzero(~over), np.flatnonzero(over)
        finished = _finished(state.of(done)) if len(done) else None
        if len(done):
            state, loss, point = state.of(going), loss[torch.from_numpy(going).to(loss.device)], point[going]
        self._state = state
        if len(going):
            self._advance(state, loss, point)
        return finished

    def _check(self, classes: int, labels: np.ndarray, logits: torch.Tensor) -> None:
        """Check a model's answer; take the images to where it comes from."""
        check_classes(classes, labels)
        for name in set(self._losses):
            if classes < LOSSES[name][1]:
                raise InputError(f"the loss {name} needs {LOSSES[name][1]} classes, and the model has {classes}; "
                                 "choose apgd with loss=ce")
        if not logits.requires_grad:
            raise InputError("the model gives no gradients with respect to its images; choose an attack that needs "
                             "none, such as square")
        if self._device is None:
            assert self._state is not None
            self._device = logits.device
            for field in fields(_State):
                if isinstance(value := getattr(self._state, field.name), torch.Tensor):
                    setattr(self._state, field.name, value.to(self._device))

    def _ascent(self, shown: torch.Tensor, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the loss of each image's run [live], and its gradient; both are 0 for clean images."""
        assert self._state is not None
        state, loss = self._state, logits.new_zeros(len(logits))  # in the precision of the logits
        attacked = np.flatnonzero(state.run >= 0)
        if not len(attacked):
            return loss.to(state.now), torch.zeros_like(state.now)
        for name in sorted(set(self._losses[state.run[attacked]])):
            own = attacked[self._losses[state.run[attacked]] == name]
            rows, runs = (torch.from_numpy(index).to(logits.device) for index in (own, state.run[own]))
            loss = loss.index_put((rows,), LOSSES[name][0](logits[rows], state.label[rows], state.target[rows, runs]))
        gradient, = torch.autograd.grad(loss.sum(), shown)
        return loss.detach().to(state.now), gradient.to(state.now)

    def _targets(self, logits: torch.Tensor) -> torch.Tensor:
        """Return the target of every run [live, runs], from the clean images' logits."""
        order = logits.argsort(dim=1, descending=True)
        return order[:, [min(run.rank, logits.shape[1] - 1) for run in self._runs]]

    def _advance(self, state: _State, loss: torch.Tensor, point: np.ndarray) -> None:
        """Go on from answers: `point` tells the images whose point is done, bool [live]."""
        clean = state.run < 0
        self._record(state, loss, point & (state.at == 0) & ~clean, point & (state.at > 0))
        next_run = clean | (point & (state.at == self._length[state.run] - 1))
        stepping = point & ~next_run
        first = torch.from_numpy(state.at == 0).to(state.now.device)
        moved = self._stepped(state, torch.where(first, 1.0, 0.75).to(state.now))
        state.before = self._where(stepping, state.now, state.before)
        state.now = self._where(stepping, moved, state.now)
        if next_run.any():
            starts = self._starts(state, np.flatnonzero(next_run))
            state.now = state.now.index_put((torch.from_numpy(next_run).to(starts.device),), starts)
            state.before = self._where(next_run, state.now, state.before)
        state.gradient = self._where(point, torch.zeros_like(state.gradient), state.gradient)
        state.run = state.run + next_run
        state.at = np.where(next_run, 0, state.at + stepping)
        state.draw = np.where(point, 0, state.draw + 1)

    def _record(self, state: _State, loss: torch.Tensor, first: np.ndarray, later: np.ndarray) -> None:
        """Keep what the points tell: those of starts, and those after a step, which may be at a checkpoint."""
        up = torch.from_numpy(first).to(loss.device) | (torch.from_numpy(later).to(loss.device)
                                                        & (loss > state.best_loss))
        state.best, state.best_gradient = (self._where(up, new, old) for new, old in (
            (state.now, state.best), (state.gradient, state.best_gradient)))
        state.best_loss = torch.where(up, loss, state.best_loss)
        state.rises = state.rises + self._where(later, (loss > state.last_loss).to(loss), torch.zeros_like(loss))
        state.last_loss = self._where(later, loss, state.last_loss)
        span = np.array([self._spans[run][at] for run, at in zip(state.run, state.at, strict=True)]) * later
        stalled = (state.rises <= torch.from_numpy(span * self._rho).to(loss.device)) \
            | ((state.halved == 0) & (state.checked_loss >= state.best_loss))
        halve = torch.from_numpy(span > 0).to(loss.device) & stalled
        state.step = torch.where(halve, state.step / 2, state.step)
        state.now, state.gradient = (self._where(halve, new, old) for new, old in (
            (state.best, state.now), (state.best_gradient, state.gradient)))
        checked = (span > 0) | first
        state.halved = self._where(checked, halve.to(loss), state.halved)
        state.checked_loss = self._where(checked, state.best_loss, state.checked_loss)
        state.rises = self._where(checked, torch.zeros_like(loss), state.rises)
        # The authors' code compares the first step with 0, not with the start.
        state.last_loss = self._where(first, torch.zeros_like(loss), state.last_loss)
        state.halved = self._where(first, torch.ones_like(loss), state.halved)
        state.step = self._where(first, torch.full_like(loss, 2 * self._epsilon), state.step)

    def _stepped(self, state: _State, momentum: torch.Tensor) -> torch.Tensor:
        """Return the points after a step; `momentum` [live] is the share of the new direction."""
        now, share, step = state.now, momentum[:, None, None, None], state.step[:, None, None, None]
        direction = state.gradient.sign() if self._norm == "Linf" else self._unit(state.gradient)
        to = self._projected(now + step * direction, state.clean)
        return self._projected(now + (to - now) * share + (now - state.before) * (1 - share), state.clean)

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
        return (clean + self._unit(difference) * self._size(difference).clamp(max=self._epsilon)).clamp(0, 1)

    def _unit(self, x: torch.Tensor) -> torch.Tensor:
        return x / (self._size(x) + 1e-12)

    def _size(self, x: torch.Tensor) -> torch.Tensor:
        order = float("inf") if self._norm == "Linf" else 2
        size: torch.Tensor = torch.linalg.vector_norm(x, order, dim=(1, 2, 3), keepdim=True)
        return size

    @staticmethod
    def _where(rows: np.ndarray | torch.Tensor, new: torch.Tensor, old: torch.Tensor) -> torch.Tensor:
        """Return `old` with some rows of `new`."""
        chosen = torch.as_tensor(rows, device=old.device)
        return torch.where(chosen.view(-1, *[1] * (old.ndim - 1)), new, old)


def checkpoints(steps: int) -> np.ndarray:
    """Return for each number of steps done, 0 to `steps`, how many the checkpoint there looks back at; 0 for none."""
    found, at, span = np.zeros(steps + 1, dtype=np.int64), 0, max(int(0.22 * steps), 1)
    while (at := at + span) <= steps:
        found[at] = span
        span = max(span - max(int(0.03 * steps), 1), max(int(0.06 * steps), 1))
    return found


def _finished(state: _State) -> Finished:
    difference = (state.outcome.double() - state.clean.double()).flatten(1)
    labels = state.label.cpu().numpy()
    return Finished(state.id, labels, labels, state.clean_prediction, state.clean_confidence, state.prediction,
                    state.success, state.queries, difference.norm(dim=1).cpu().numpy(),
                    difference.abs().amax(1).cpu().numpy(), state.margin, state.confidence,
                    [np.zeros(0, dtype=np.int8)] * len(labels), state.outcome, [None] * len(labels))
