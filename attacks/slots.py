"""SimBA's batch of images under attack, and its steps."""

from __future__ import annotations

from collections.abc import Set
from typing import Any

import numpy as np
import torch

from framebench.attacks.base import Finished, MarginPath
from framebench.attacks.bases import BASES, CUMULATIVE, bands, check_directions
from framebench.attacks.options import SimBAOptions
from framebench.attacks.verdict import Verdict, check_classes, judge, read_logits
from framebench.seeding import generator

_START, _PLUS, _MINUS = 0, 1, -1


class Slots:
    """The images under attack. Slots 0 to live-1 are in use; the arrays below have one entry per slot."""

    def __init__(self, size: int, x: torch.Tensor, options: SimBAOptions, seed: int,
                 watched: Set[int] = frozenset()) -> None:
        shape = (x.shape[1], x.shape[2], x.shape[3])
        check_directions(options.budget, shape)
        self.options, self.seed, self.size, self.live = options, seed, size, 0
        bases = BASES if options.clip == "anew" else CUMULATIVE
        self.basis = bases[options.basis](size, shape, x.dtype, x.device, options.linf)
        self.bands = bands(options.order, shape, options.budget)
        self.limit = options.max_queries or np.iinfo(np.int64).max
        integer: dict[str, Any] = {"shape": size, "dtype": np.int64}
        self.at, self.id, self.label, self.goal = (np.zeros(**integer) for _ in range(4))
        self.phase, self.iteration, self.queries = (np.zeros(**integer) for _ in range(3))
        self.clean_prediction, self.success = np.zeros(**integer), np.zeros(**integer)
        self.clean_confidence = np.zeros(size)
        self.order = np.zeros((size, options.budget), dtype=np.int32)  # of C H W directions those that can be tried
        self.steps = np.zeros((size, options.budget), dtype=np.int8)
        self.kept, self.plus = Verdict.empty(size), Verdict.empty(size)  # of the kept image, of the + trial
        # The end of the margin's path; of images that are not watched -inf, which no margin is below.
        self.watched, self.paths, self.least = watched, dict[int, MarginPath](), np.zeros(size)

    @property
    def images(self) -> torch.Tensor:
        """Images [live, C, H, W] to be predicted next."""
        return self.basis.images[: self.live]

    def admit(self, at: np.ndarray, ids: np.ndarray, x: torch.Tensor, labels: np.ndarray,
              targets: np.ndarray | None) -> None:
        """Put clean images into free slots: positions [r], ids [r], images [r, C, H, W], labels [r], targets [r]."""
        rows = np.arange(self.live, self.live + len(ids))
        self.live += len(ids)
        self.at[rows], self.id[rows], self.label[rows] = at, ids, labels
        self.goal[rows] = labels if targets is None and not self.options.targeted else -1
        if targets is not None:
            self.goal[rows] = targets
        self.phase[rows], self.iteration[rows], self.queries[rows], self.success[rows] = _START, 0, 0, -1
        self.least[rows] = np.where(np.isin(ids, list(self.watched)), np.inf, -np.inf)
        self.paths |= {example: MarginPath() for example in ids.tolist() if example in self.watched}
        self.basis.admit(rows, x)

    def answer(self, logits: torch.Tensor) -> np.ndarray:
        """Process the logits of `images`, make the next steps, and return the rows that are finished."""
        n, epsilon = self.live, self.options.epsilon
        scores = self._check(logits)
        phase, best = self.phase[:n], self.kept.score[:n]
        self.queries[:n] += 1
        verdict = judge(scores, self.goal[:n], objective=self.options.objective, targeted=self.options.targeted)
        self._trace(-verdict.margin if self.options.targeted else verdict.margin)
        sign = phase.copy()
        last_query = self.queries[:n] >= self.limit
        if self.options.step == "best-of-two":
            wait = (phase == _PLUS) & ~last_query
            self.plus.put(np.flatnonzero(wait), verdict)
            # At the minus trial, the plus trial that was at least as good takes its place.
            back = np.flatnonzero((phase == _MINUS) & (self.plus.score[:n] <= verdict.score))
            verdict.put(back, self.plus)
            sign[back] = _PLUS
        else:
            wait = (phase == _PLUS) & (verdict.score >= best) & ~last_query
        start = phase == _START
        accepted = start | (~wait & (verdict.score < best))
        moved = np.flatnonzero(accepted & ~start)
        decided = ~wait & ~start & (accepted | (phase == _MINUS))  # an iteration cut off by the limit is not counted
        direction = self._direction()
        if len(moved):
            if self.options.step == "best-of-two":
                self.basis.show(moved, direction[moved], epsilon * sign[moved])
            self.basis.keep(moved, direction[moved], epsilon * sign[moved])
        self.kept.put(np.flatnonzero(accepted), verdict)
        self.clean_prediction[:n][start] = verdict.prediction[start]
        self.clean_confidence[:n][start] = verdict.confidence[start]
        self.steps[:n][decided, self.iteration[:n][decided]] = np.where(accepted, sign, 0)[decided]
        self.iteration[:n] += decided
        hit = accepted & ((verdict.prediction == self.goal[:n]) == self.options.targeted)
        self.success[:n][hit] = self.iteration[:n][hit]
        finished = hit | last_query | (~wait & (self.iteration[:n] >= self.options.budget))

        undone = np.flatnonzero(~accepted & (~wait | finished))
        self.basis.show(undone, direction[undone], np.zeros(len(undone)))
        self._draw(np.flatnonzero(start & ~finished))
        phase[:] = np.where(wait, _MINUS, _PLUS)
        going = np.flatnonzero(~finished)
        self.basis.show(going, self._direction()[going], epsilon * phase[going])
        return np.flatnonzero(finished)

    def release(self, rows: np.ndarray) -> tuple[Finished, np.ndarray]:
        """Remove and return finished rows; the last rows move into the gaps."""
        l2, linf = self.basis.distances(rows)
        steps = [self.steps[row, : self.iteration[row]].copy() for row in rows]
        at = self.at[rows]
        done = Finished(self.id[rows], self.label[rows], self.goal[rows], self.clean_prediction[rows],
                        self.clean_confidence[rows], self.kept.prediction[rows], self.success[rows],
                        self.queries[rows], l2, linf, self.kept.margin[rows], self.kept.confidence[rows], steps,
                        self.basis.images[torch.from_numpy(rows).to(self.basis.images.device)],
                        [self.paths.pop(example, None) for example in self.id[rows].tolist()])
        self.live -= len(rows)
        holes = rows[rows < self.live]
        movers = np.setdiff1d(np.arange(self.live, self.live + len(rows)), rows)
        if len(holes):
            self.basis.move(movers, holes)
            for array in (self.at, self.id, self.label, self.goal, self.phase, self.iteration, self.queries,
                          self.clean_prediction, self.clean_confidence, self.success, self.order, self.steps,
                          self.least):
                array[holes] = array[movers]
            for verdict in (self.kept, self.plus):
                verdict.put(holes, verdict, movers)
        return done, at

    def _trace(self, margin: np.ndarray) -> None:
        """Add to the paths of watched images the margins [live] that are new minima."""
        lower = np.flatnonzero(margin < self.least[: self.live])
        self.least[lower] = margin[lower]
        sign = -1 if self.options.targeted else 1
        for row in lower:
            self.paths[int(self.id[row])].add(int(self.queries[row]), float(sign * margin[row]))

    def _draw(self, rows: np.ndarray) -> None:
        """Draw the directions of images, band after band, so that a smaller budget has the first of the same ones."""
        for row in rows:
            source = generator(self.seed, "simba-order", self.id[row])
            order = np.concatenate([source.permutation(band) for band in self.bands])
            self.order[row] = order[: self.options.budget]

    def _direction(self) -> np.ndarray:
        """Return the current direction of each live row (the last one if the image is finished)."""
        if not self.options.budget:
            return np.zeros(self.live, dtype=np.int32)
        at = np.minimum(self.iteration[: self.live], self.options.budget - 1)
        return self.order[np.arange(self.live), at]

    def _check(self, logits: torch.Tensor) -> np.ndarray:
        """Return logits as an array; draw missing targets, now that the number of classes is known."""
        n = self.live
        scores = read_logits(logits, self.id[:n])
        classes = scores.shape[1]
        for row in np.flatnonzero(self.goal[:n] < 0):
            shift = generator(self.seed, "simba-target", self.id[row]).integers(1, classes)
            self.goal[row] = (self.label[row] + shift) % classes
        check_classes(classes, np.maximum(self.goal[:n], self.label[:n]))
        return scores
