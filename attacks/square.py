"""Square (Andriushchenko et al., ECCV 2020, arXiv 1912.00049), a score-based random search, batched.

The attack is that of the authors' code and of AutoAttack's package, with three differences: every image has its own
random draws, keyed by (seed, example id), where the package shares positions among the images of a batch; an image is
done at its first success, and the next one takes its place in the batch; all forward passes are charged.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from framebench.attacks.base import Attack, Finished, Load, Predict, Traits, guarded, label
from framebench.attacks.options import EPSILONS, check_common
from framebench.attacks.signatures import changed, check_options, plain
from framebench.attacks.state import Batch, Outcomes, outcomes, run, sizes
from framebench.attacks.verdict import check_classes, judge, read_logits
from framebench.errors import InputError, unknown
from framebench.seeding import generator

#: Iterations, of 10,000, after which the share of pixels is halved.
_HALVINGS = np.array([10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000])
#: Iterations whose draws are made at once.
_AHEAD = 64
#: Draws per iteration besides one sign per channel: the row and the column of a window; in L2 of two, and the pattern's
#: orientation.
_DRAWS = {"Linf": 2, "L2": 5}
_TINY = 1e-12


@dataclass(frozen=True)
class SquareOptions:
    """Options of the attack, besides the bound and the length of a run.

    Attributes:
        norm: "Linf" or "L2".
        loss: The loss to minimise: "margin" (the label's logit minus the largest other logit) or "ce" (the
            log-probability of the label).
        p_init: Share of the pixels that the first squares cover, in (0, 1].
        resc_schedule: Whether the schedule of the shares is scaled to the run; else it is that of 10,000 queries.
    """

    norm: str = "Linf"
    loss: str = "margin"
    p_init: float = 0.8
    resc_schedule: bool = True

    def __post_init__(self) -> None:
        for name, choices in (("norm", tuple(_DRAWS)), ("loss", ("margin", "ce"))):
            if getattr(self, name) not in choices:
                raise unknown(name, str(getattr(self, name)), choices)
        if not 0 < self.p_init <= 1:
            raise InputError(f"p_init must lie in (0, 1], not {self.p_init}")


class Square(Attack):
    """The attack; an iteration is one query, and the first one shows stripes.

    The schedule depends on the length of the run, so rows of a longer run are not valid for a shorter one.

    Args:
        budget: Queries of a run, without that of the clean image.
        epsilon: The bound; None for the usual one of the norm.
        max_queries: Hard limit of forward passes per image, or None.
        options: Further options.

    Raises:
        InputError: for invalid values.
    """

    def __init__(self, budget: int, epsilon: float | None, max_queries: int | None, options: SquareOptions) -> None:
        check_common(budget, epsilon, max_queries)
        usual = EPSILONS[options.norm]
        epsilon = usual if epsilon is None else epsilon
        self._options, self._limit = options, min(budget + 1, max_queries or budget + 1)
        self.settings = plain({**vars(options), "budget": budget, "epsilon": epsilon, "max_queries": max_queries})
        self.traits = Traits(
            label("square", [options.norm], max_queries=max_queries, schedule=budget,
                  options=changed(options, "norm"), epsilon=epsilon, usual=usual),
            needs="scores", budget=budget, epsilon=epsilon, norm=options.norm.lower(), bound=epsilon, prefix=False)

    def stream(self, predict: Predict, load: Load, ids: np.ndarray, *, seed: int,
               batch_size: int) -> Iterator[Finished]:
        """See `Attack.stream`."""
        search = Search(self._options, self.traits.bound or 0.0, self.traits.budget, seed, watched=self.watched)
        arriving = ((int(example), self._limit) for example in ids)
        return run(search, guarded(predict), load, arriving, batch_size)


@dataclass
class _State(Outcomes):
    """The images under attack.

    Attributes:
        now: The images to be forwarded next, [n, C, H, W].
        best: The image of the lowest loss.
        loss: That loss.
        at: Queries of the search so far; -1 while the clean image is forwarded.
        draws: Random numbers in [0, 1) for the next iterations, float64 [n, _AHEAD, draws].
        source: Generators of these numbers.
    """

    now: torch.Tensor
    best: torch.Tensor
    loss: np.ndarray
    at: np.ndarray
    draws: np.ndarray
    source: np.ndarray


class Search(Batch[_State]):
    """Images under attack; see `framebench.attacks.state.Batch`.

    Args:
        options: Options of the attack.
        epsilon: The bound.
        length: Queries that the schedule is scaled to.
        seed: Seed of the draws.
        clean: Whether the clean image is forwarded first.
        watched: Ids of the examples whose margin's path is kept.
    """

    def __init__(self, options: SquareOptions, epsilon: float, length: int, seed: int, clean: bool = True,
                 watched: Set[int] = frozenset()) -> None:
        self._options, self._epsilon, self._length, self._seed, self._clean = options, epsilon, length, seed, clean
        self._watched = watched

    def admit(self, ids: np.ndarray, x: torch.Tensor, labels: torch.Tensor, limit: np.ndarray) -> None:
        """See `Batch.admit`."""
        source = np.empty(len(ids), dtype=object)
        source[:] = [generator(self._seed, "square", example) for example in ids]
        new = _State(**outcomes(ids, x, labels, limit, self._watched), now=x, best=x, loss=np.full(len(ids), np.inf),
                     at=np.full(len(ids), -1), source=source,
                     draws=np.zeros((len(ids), _AHEAD, _DRAWS[self._options.norm] + x.shape[1])))
        if not self._clean:
            self._begin(new, np.arange(len(ids)))
        self._add(new)

    def step(self, predict: Predict) -> Finished | None:
        """See `Batch.step`."""
        state = self._state
        assert state is not None
        scores = read_logits(predict(state.now), state.id)
        check_classes(scores.shape[1], state.label)
        first = state.at < 0
        state.take(np.arange(self.live), state.now, judge(scores, state.label), clean=first)
        loss = self._loss(scores, state.label)
        better = ~first & (loss < state.loss)
        state.loss[better] = loss[better]
        kept = torch.from_numpy(better).to(state.now.device)[:, None, None, None]
        state.best = torch.where(kept, state.now, state.best)
        state.at += ~first
        first = first[~state.over]
        finished = self._release(state.over)
        self._begin(state, np.flatnonzero(first))
        self._move(state, np.flatnonzero(~first))
        return finished

    def _loss(self, scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Return the loss of each image, float64 [n]."""
        z, rows = scores.astype(np.float64), np.arange(len(scores))
        label_logit = z[rows, labels]
        if self._options.loss == "ce":
            top = z.max(1)
            return np.asarray(label_logit - top - np.log(np.exp(z - top[:, None]).sum(1)))
        z[rows, labels] = -np.inf
        return np.asarray(label_logit - z.max(1))

    def _draw(self, state: _State, rows: np.ndarray) -> np.ndarray:
        """Return the draws of an iteration, float64 [r, draws]."""
        place = (state.at[rows] - 1) % _AHEAD
        for row in rows[place == 0]:
            state.draws[row] = state.source[row].random(state.draws.shape[1:])
        return np.asarray(state.draws[rows, place])

    def _begin(self, state: _State, rows: np.ndarray) -> None:
        """Start the search: with stripes (Linf) or tiles (L2)."""
        if not len(rows):
            return
        state.at[rows] = 0
        index = torch.from_numpy(rows).to(state.now.device)
        clean = state.clean[index]
        _, channels, height, width = clean.shape
        if self._options.norm == "Linf":
            signs = _signs(np.stack([state.source[row].random((channels, 1, width)) for row in rows]), clean)
            shown = clean + self._epsilon * signs
        else:
            delta, side = torch.zeros_like(clean), max(min(height, width) // 5, 1)
            top, left = (height - 5 * side) // 2 if height >= 5 * side else 0, 0
            left = (width - 5 * side) // 2 if height == width and width >= 5 * side else 0
            for down in range(top, top + side * (height // side), side):
                for right in range(left, left + side * (width // side), side):
                    draws = np.stack([state.source[row].random(channels + 1) for row in rows])
                    tile = torch.stack([_bump(side, bool(draw > 0.5)) for draw in draws[:, -1]]).to(clean)
                    room = tile[:, None, : height - down, : width - right]
                    delta[:, :, down : down + side, right : right + side] += room * _signs(
                        draws[:, :-1, None, None], clean)
            shown = clean + delta / (sizes(delta) + _TINY) * self._epsilon
        state.now = state.now.index_put((index,), shown.clamp(0, 1))

    def _move(self, state: _State, rows: np.ndarray) -> None:
        """Propose the best image with one more square."""
        if not len(rows):
            return
        index = torch.from_numpy(rows).to(state.now.device)
        clean, best, draws = state.clean[index], state.best[index], self._draw(state, rows)
        move = self._linf if self._options.norm == "Linf" else self._l2
        state.now = state.now.index_put((index,), move(clean, best, draws, self._share(state.at[rows] - 1)))

    def _share(self, at: np.ndarray) -> np.ndarray:
        """Return the share of the pixels that the square of an iteration covers."""
        if self._options.resc_schedule:
            at = (at / max(self._length, 1) * 10_000).astype(np.int64)
        return np.asarray(self._options.p_init / 2.0 ** np.searchsorted(_HALVINGS, at))

    def _linf(self, clean: torch.Tensor, best: torch.Tensor, draws: np.ndarray, share: np.ndarray) -> torch.Tensor:
        _, _, height, width = clean.shape
        side = np.clip(np.round(np.sqrt(share * height * width)), 1, min(height, width))
        inside = _window(draws[:, 0], draws[:, 1], side, clean)
        moved = best + 2 * self._epsilon * inside * _signs(draws[:, 2:, None, None], clean)
        return moved.clamp(clean - self._epsilon, clean + self._epsilon).clamp(0, 1)

    def _l2(self, clean: torch.Tensor, best: torch.Tensor, draws: np.ndarray, share: np.ndarray) -> torch.Tensor:
        """Move the norm of a second window, and the unused part of the bound, into a first window."""
        _, channels, height, width = clean.shape
        side = np.maximum(np.round(np.sqrt(share * height * width)), 3)
        side = np.minimum(side + (side % 2 == 0), min(height, width))
        to, away = (_window(draws[:, i], draws[:, i + 1], side, clean) for i in (0, 2))
        delta = best - clean
        old = sizes(delta * to, dim=(2, 3))
        both = sizes(delta * torch.maximum(to, away), dim=(2, 3))
        unused = (self._epsilon ** 2 - sizes(delta) ** 2).clamp(min=0) / channels
        new = _bumps(side, draws[:, 4] > 0.5, to) * _signs(draws[:, 5:, None, None], clean) + delta * to / (old + _TINY)
        new = new / (sizes(new, dim=(2, 3)) + _TINY) * (unused + both ** 2).sqrt()
        delta = torch.where(to > 0, new, delta * (1 - away))
        return (clean + delta / (sizes(delta) + _TINY) * self._epsilon).clamp(0, 1)


def _signs(draws: np.ndarray, like: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(np.where(draws < 0.5, -1.0, 1.0)).to(like)


def _window(down: np.ndarray, right: np.ndarray, side: np.ndarray, like: torch.Tensor) -> torch.Tensor:
    """Return 1 inside the window of each image and 0 elsewhere, [n, 1, H, W].

    As in the authors' code, a window is never at the last position.
    """
    inside = []
    for draw, size in ((down, like.shape[2]), (right, like.shape[3])):
        start, at = np.floor(draw * (size - side))[:, None], np.arange(size)
        inside.append((at >= start) & (at < start + side[:, None]))
    return torch.from_numpy(inside[0][:, None, :, None] & inside[1][:, None, None, :]).to(like)


@functools.cache
def _bump(side: int, turned: bool) -> torch.Tensor:
    """Return the pattern of L2: two halves of opposite sign, each highest in its middle, of norm 1; float32 [s, s]."""
    pattern = torch.zeros(side, side)
    half = side // 2
    pattern[:half], pattern[half:] = _mound(half, side), -_mound(side - half, side)
    pattern /= torch.linalg.vector_norm(pattern)
    return pattern.T if turned else pattern


def _mound(rows: int, columns: int) -> torch.Tensor:
    """Return nested rectangles around the middle, the k-th with 1 / k^2 added, of norm 1; [rows, columns]."""
    mound = torch.zeros(rows, columns)
    down, right = rows // 2, columns // 2
    for k in range(max(rows // 2 + 1, columns // 2 + 1)):
        mound[max(down - k, 0) : max(min(down + k + 1, rows), 0), max(right - k, 0) : min(right + k + 1, columns)] += \
            1 / (k + 1) ** 2
    mound /= torch.linalg.vector_norm(mound).clamp(min=_TINY)
    return mound


def _bumps(side: np.ndarray, turned: np.ndarray, inside: torch.Tensor) -> torch.Tensor:
    """Return the pattern of each image in its window, 0 elsewhere, [n, 1, H, W]."""
    patterns = torch.zeros_like(inside)
    corner = inside[:, 0].flatten(1).argmax(1)
    rows, columns = corner // inside.shape[3], corner % inside.shape[3]
    for i, (size, turn) in enumerate(zip(side.astype(int), turned, strict=True)):
        at, left = int(rows[i]), int(columns[i])
        patterns[i, 0, at : at + size, left : left + size] = _bump(int(size), bool(turn)).to(patterns)
    return patterns


def make(name: str, *, budget: int, epsilon: float | None, max_queries: int | None,
         options: Mapping[str, Any]) -> Attack:
    """Make the attack; see `framebench.attacks.registry.make`."""
    check_options(name, SquareOptions, options)
    return Square(budget, epsilon, max_queries, SquareOptions(**options))
