"""FAB, the fast adaptive boundary attack (Croce & Hein, ICML 2020, arXiv 1907.02044), batched.

The steps are those of the authors' code, whose projections are used. FAB minimises the distance to an image of another
class; here, as a part of AutoAttack, an image is done once such an image lies within the bound.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from framebench.attacks.base import Finished, Predict
from framebench.attacks.queries import Bound
from framebench.attacks.state import Batch, Outcomes, outcomes
from framebench.attacks.verdict import check_classes, check_differentiable, judge, read_logits
from framebench.extras import require
from framebench.seeding import generator

#: The authors' settings: largest bias towards the clean image, extrapolation, and the backward step after a success.
_ALPHA, _ETA, _BETA = 0.1, 1.05, 0.9
_TINY = 1e-12


@dataclass
class _State(Outcomes):
    """The images under attack.

    Attributes:
        now: The current point, [n, C, H, W].
        targets: Targets of the runs, by the logits of the clean image, int64 [n, runs]; -1 until these are known.
        run: Index of the current run.
        at: Steps of the run so far.
    """

    now: torch.Tensor
    targets: np.ndarray
    run: np.ndarray
    at: np.ndarray


class Boundary(Batch[_State]):
    """Images under attack; see `framebench.attacks.state.Batch`. A step is two forward passes, one with its gradient.

    Args:
        norm: "Linf" or "L2".
        epsilon: The bound.
        steps: Steps of a run.
        targets: Number of targeted runs: towards the class with the second largest logit of the clean image, the third,
            and so on; 0 for untargeted runs towards the nearest class, which take a gradient per class.
        restarts: Number of untargeted runs; all but the first start at random.
        seed: Seed of the random starts.

    Raises:
        InputError: if the package of the authors is missing.
    """

    def __init__(self, norm: str, epsilon: float, steps: int, *, targets: int, restarts: int, seed: int) -> None:
        projections = require("pyautoattack.fab_projections", "zoo")
        self._project: Callable[..., torch.Tensor] = getattr(projections, f"projection_{norm.lower()}")
        self._order = float("inf") if norm == "Linf" else 2.0
        self._bound, self._steps, self._seed = Bound(norm.lower(), epsilon), steps, seed
        self._targeted, self._runs, self._epsilon = targets > 0, targets or restarts, epsilon

    def admit(self, ids: np.ndarray, x: torch.Tensor, labels: torch.Tensor, limit: np.ndarray) -> None:
        """See `Batch.admit`."""
        n = len(ids)
        self._add(_State(**outcomes(ids, x, labels, limit), now=x, targets=np.full((n, self._runs), -1),
                         run=np.zeros(n, dtype=np.int64), at=np.zeros(n, dtype=np.int64)))

    def step(self, predict: Predict) -> Finished | None:
        """See `Batch.step`: at most three forward passes; the first is of the clean images that are new."""
        state = self._state
        assert state is not None
        if self._targeted:
            self._aim(state, predict, np.flatnonzero(state.targets[:, 0] < 0))
        rows = np.flatnonzero(~state.over)
        if len(rows):
            index = torch.from_numpy(rows).to(state.now.device)
            weights, offset = self._plane(state, predict, rows, state.now[index])
            going = ~state.over[rows]
            rows = rows[going]
            if len(rows):
                keep = torch.from_numpy(going).to(weights.device)
                self._walk(state, predict, rows, weights[keep], offset[keep])
        return self._release(state.over | (state.run >= self._last(state)))

    def _last(self, state: _State) -> np.ndarray:
        """Return the number of runs of each image: with fewer other classes than targets, one per class."""
        return np.asarray((state.targets >= 0).sum(1)) if self._targeted else np.full(len(state.id), self._runs)

    def _aim(self, state: _State, predict: Predict, rows: np.ndarray) -> None:
        """Forward clean images and choose their targets."""
        if not len(rows):
            return
        scores = self._forward(state, predict, rows, state.clean[torch.from_numpy(rows).to(state.clean.device)])
        order = np.argsort(scores, axis=1, kind="stable")[:, ::-1][:, 1 : self._runs + 1]
        state.targets[rows[:, None], np.arange(order.shape[1])] = order

    def _forward(self, state: _State, predict: Predict, rows: np.ndarray, shown: torch.Tensor) -> np.ndarray:
        """Forward images without a gradient, and record the outcome."""
        with torch.no_grad():
            return self._read(state, predict(shown), rows, shown)

    def _read(self, state: _State, logits: torch.Tensor, rows: np.ndarray, shown: torch.Tensor) -> np.ndarray:
        scores = read_logits(logits, state.id[rows])
        check_classes(scores.shape[1], state.label[rows])
        clean = state.clean[torch.from_numpy(rows).to(shown.device)]
        state.take(rows, shown, judge(scores, state.label[rows]),
                   allowed=self._bound.holds((shown - clean).cpu()))
        return scores

    def _plane(self, state: _State, predict: Predict, rows: np.ndarray,
               shown: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the linearised boundary: normals [r, C H W] and offsets [r]."""
        shown = shown.detach().requires_grad_()
        with torch.enable_grad():
            logits = predict(shown)
        check_differentiable(logits)
        self._read(state, logits, rows, shown.detach())
        at = torch.arange(len(rows), device=logits.device)
        label_logit = logits[at, torch.from_numpy(state.label[rows]).to(logits.device)]
        if self._targeted:
            target = torch.from_numpy(state.targets[rows, state.run[rows]]).to(logits.device)
            gaps = [logits[at, target] - label_logit]
        else:
            gaps = [logits[:, k] - label_logit for k in range(logits.shape[1])]
        best = torch.full((len(rows),), torch.inf, device=shown.device)
        normal, value = torch.zeros_like(shown), torch.zeros_like(best)
        dual = 1.0 if self._order == float("inf") else 2.0
        for k, gap in enumerate(gaps):
            gradient, = torch.autograd.grad(gap.sum(), shown, retain_graph=k < len(gaps) - 1)
            gap = gap.detach().to(shown)
            distance = gap.abs() / (torch.linalg.vector_norm(gradient.flatten(1), dual, dim=1) + _TINY)
            if not self._targeted:
                distance = torch.where(torch.from_numpy(state.label[rows] == k).to(shown.device), torch.inf, distance)
            nearer = distance < best
            best = torch.where(nearer, distance, best)
            normal = torch.where(nearer[:, None, None, None], gradient, normal)
            value = torch.where(nearer, gap, value)
        shown = shown.detach()
        return normal.flatten(1), (normal * shown).flatten(1).sum(1) - value

    def _walk(self, state: _State, predict: Predict, rows: np.ndarray, normal: torch.Tensor,
              offset: torch.Tensor) -> None:
        """Step to the plane, biased towards the clean image, and forward the result."""
        index = torch.from_numpy(rows).to(state.now.device)
        now, clean = state.now[index], state.clean[index]
        n = len(rows)
        both = self._project(torch.cat([now.flatten(1), clean.flatten(1)]), torch.cat([normal, normal]),
                             torch.cat([offset, offset]))
        length = torch.linalg.vector_norm(both, self._order, dim=1).clamp(min=1e-8)
        alpha = (length[:n] / (length[:n] + length[n:])).clamp(0, _ALPHA)[:, None, None, None]
        here, there = both[:n].reshape(now.shape), both[n:].reshape(now.shape)
        now = ((now + _ETA * here) * (1 - alpha) + (clean + _ETA * there) * alpha).clamp(0, 1)
        scores = self._forward(state, predict, rows, now)
        crossed = torch.from_numpy(scores.argmax(1) != state.label[rows]).to(now.device)[:, None, None, None]
        now = torch.where(crossed, clean + (now - clean) * _BETA, now)
        state.at[rows] += 1
        ended = state.at[rows] == self._steps
        state.run[rows[ended]] += 1
        state.at[rows[ended]] = 0
        for place in np.flatnonzero(ended):
            now[place] = self._start(state, int(rows[place]))
        state.now = state.now.index_put((index,), now)

    def _start(self, state: _State, row: int) -> torch.Tensor:
        """Return the start of an image's next run: the clean image or, if untargeted, a random point."""
        clean = state.clean[row]
        if self._targeted:
            return clean
        source = generator(self._seed, "fab-start", int(state.id[row]), int(state.run[row]))
        shape = tuple(clean.shape)
        draws = 2 * source.random(shape) - 1 if self._order == float("inf") else source.standard_normal(shape)
        direction = torch.from_numpy(draws).to(clean)
        size = torch.linalg.vector_norm(direction, self._order)
        start: torch.Tensor = (clean + self._epsilon * direction / size * 0.5).clamp(0, 1)
        return start
