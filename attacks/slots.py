"""The images that SimBA has under attack, and the moves that the model's answers lead to."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch

from framebench.attacks.bases import BASES, CUMULATIVE, frequencies
from framebench.errors import InputError, unknown
from framebench.seeding import generator

CHOICES = {"basis": tuple(BASES), "order": ("random", "low-frequency"), "step": ("first-improving", "best-of-two"),
            "objective": ("margin", "probability"), "clip": ("anew", "cumulative")}


@dataclass(frozen=True)
class Options:
    """What the attack does to an image, besides the seed.

    Attributes:
        max_iterations: Directions to try, at least 0 and at most C H W.
        epsilon: Step along a direction, in pixel units of [0, 1].
        basis: "pixel" or "dct".
        order: "random", or "low-frequency" first (DCT only; directions of equal frequency in random order).
        step: "first-improving" (the paper's Algorithm 1), or "best-of-two" signs (the authors' batched code).
        objective: "margin" (see the module), or "probability" (float softmax, as the authors' code).
        targeted: Raise the probability of a target instead of lowering the label's.
        linf: Bound on the perturbation's largest entry, or None.
        max_queries: No image is forwarded more often than this; None for no limit.
        clip: "anew" (the perturbation is not clipped, each image shown is), or "cumulative" (each accepted image is
            clipped for good, so that what the clip removes is lost).
    """

    max_iterations: int = 1000
    epsilon: float = 0.2
    basis: str = "pixel"
    order: str = "random"
    step: str = "first-improving"
    objective: str = "margin"
    targeted: bool = False
    linf: float | None = None
    max_queries: int | None = None
    clip: str = "anew"

    def __post_init__(self) -> None:
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise unknown(name, str(getattr(self, name)), choices)
        if self.max_iterations < 0:
            raise InputError(f"the number of iterations must not be negative, not {self.max_iterations}")
        if not 0 < self.epsilon < float("inf"):
            raise InputError(f"epsilon must be above 0 and finite, not {self.epsilon}")
        if self.linf is not None and not 0 < self.linf <= 1:
            raise InputError(f"the Linf bound must lie in (0, 1], not {self.linf}")
        if self.max_queries is not None and self.max_queries < 1:
            raise InputError(f"the query limit must be at least 1, not {self.max_queries}")
        if self.order == "low-frequency" and self.basis != "dct":
            raise InputError("the order 'low-frequency' needs the dct basis; pixels have no frequency")


@dataclass(frozen=True)
class Finished:
    """Images that the attack is done with, in the order in which they finished; numpy arrays of length r.

    Attributes:
        ids: Example ids.
        labels: Labels.
        goals: The class attacked: the label, or the target.
        clean_prediction: Prediction of the clean image.
        prediction: Prediction of the final image.
        success_iteration: Iterations after which the attack succeeded; 0 from the start, -1 never.
        queries: Forward passes spent.
        l2: L2 distance to the clean image, in [0, 1] pixel units.
        linf: Linf distance.
        margin: Final z_goal - logsumexp of the other logits.
        confidence: Final softmax probability of the prediction.
        steps: One int8 array an image: +1, -1 or 0 (no sign helped) of every iteration.
        x_adv: Final images, [r, C, H, W].
    """

    ids: np.ndarray
    labels: np.ndarray
    goals: np.ndarray
    clean_prediction: np.ndarray
    prediction: np.ndarray
    success_iteration: np.ndarray
    queries: np.ndarray
    l2: np.ndarray
    linf: np.ndarray
    margin: np.ndarray
    confidence: np.ndarray
    steps: list[np.ndarray]
    x_adv: torch.Tensor


_START, _PLUS, _MINUS = 0, 1, -1


class Slots:
    """The images under attack. Slots 0 to live-1 are in use; the arrays below have one entry a slot."""

    def __init__(self, size: int, x: torch.Tensor, options: Options, seed: int) -> None:
        shape = (x.shape[1], x.shape[2], x.shape[3])
        self.dimensions = shape[0] * shape[1] * shape[2]
        if options.max_iterations > self.dimensions:
            raise InputError(f"{options.max_iterations} iterations are more than the {self.dimensions} directions of "
                             f"an image of {shape[1]}x{shape[2]}; no direction repeats")
        self.options, self.seed, self.size, self.live = options, seed, size, 0
        bases = BASES if options.clip == "anew" else CUMULATIVE
        self.basis = bases[options.basis](size, shape, x.dtype, x.device, options.linf)
        self.frequencies = frequencies(shape) if options.order == "low-frequency" else None
        self.limit = options.max_queries or np.iinfo(np.int64).max
        integer: dict[str, Any] = {"shape": size, "dtype": np.int64}
        self.at, self.id, self.label, self.goal = (np.zeros(**integer) for _ in range(4))
        self.phase, self.iteration, self.queries = (np.zeros(**integer) for _ in range(3))
        self.clean_prediction, self.success = np.zeros(**integer), np.zeros(**integer)
        self.order = np.zeros((size, options.max_iterations), dtype=np.int32)
        self.steps = np.zeros((size, options.max_iterations), dtype=np.int8)
        self.kept, self.plus = Verdict.empty(size), Verdict.empty(size)  # of the kept image, of the + trial

    @property
    def images(self) -> torch.Tensor:
        """Images [live, C, H, W] to be predicted next."""
        return self.basis.images[: self.live]

    def admit(self, at: np.ndarray, ids: np.ndarray, x: torch.Tensor, labels: np.ndarray,
              targets: np.ndarray | None) -> None:
        """Put clean images into free slots: positions [r], ids [r], images, labels [r], targets [r] or None."""
        rows = np.arange(self.live, self.live + len(ids))
        self.live += len(ids)
        self.at[rows], self.id[rows], self.label[rows] = at, ids, labels
        self.goal[rows] = labels if targets is None and not self.options.targeted else -1
        if targets is not None:
            self.goal[rows] = targets
        self.phase[rows], self.iteration[rows], self.queries[rows], self.success[rows] = _START, 0, 0, -1
        self.basis.admit(rows, x)
        for row, example in zip(rows, ids, strict=True):
            order = generator(self.seed, "simba-order", example).permutation(self.dimensions)
            if self.frequencies is not None:
                order = order[np.argsort(self.frequencies[order], kind="stable")]
            self.order[row] = order[: self.options.max_iterations]

    def answer(self, logits: torch.Tensor) -> np.ndarray:
        """Take the logits of `images`, make the moves that follow, and return the rows that are finished."""
        n, epsilon = self.live, self.options.epsilon
        scores = self._check(logits)
        phase, best = self.phase[:n], self.kept.score[:n]
        self.queries[:n] += 1
        verdict = judge(scores, self.goal[:n], self.options)
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
        self.steps[:n][decided, self.iteration[:n][decided]] = np.where(accepted, sign, 0)[decided]
        self.iteration[:n] += decided
        hit = accepted & ((verdict.prediction == self.goal[:n]) == self.options.targeted)
        self.success[:n][hit] = self.iteration[:n][hit]
        finished = hit | last_query | (~wait & (self.iteration[:n] >= self.options.max_iterations))

        undone = np.flatnonzero(~accepted & (~wait | finished))
        self.basis.show(undone, direction[undone], np.zeros(len(undone)))
        phase[:] = np.where(wait, _MINUS, _PLUS)
        going = np.flatnonzero(~finished)
        self.basis.show(going, self._direction()[going], epsilon * phase[going])
        return np.flatnonzero(finished)

    def release(self, rows: np.ndarray) -> tuple[Finished, np.ndarray]:
        """Hand finished rows out and close the gaps they leave."""
        l2, linf = self.basis.distances(rows)
        steps = [self.steps[row, : self.iteration[row]].copy() for row in rows]
        at = self.at[rows]
        done = Finished(self.id[rows], self.label[rows], self.goal[rows], self.clean_prediction[rows],
                        self.kept.prediction[rows], self.success[rows], self.queries[rows], l2, linf,
                        self.kept.margin[rows], self.kept.confidence[rows], steps,
                        self.basis.images[torch.from_numpy(rows).to(self.basis.images.device)])
        self.live -= len(rows)
        holes = rows[rows < self.live]
        movers = np.setdiff1d(np.arange(self.live, self.live + len(rows)), rows)
        if len(holes):
            self.basis.move(movers, holes)
            for array in (self.at, self.id, self.label, self.goal, self.phase, self.iteration, self.queries,
                          self.clean_prediction, self.success, self.order, self.steps):
                array[holes] = array[movers]
            for verdict in (self.kept, self.plus):
                verdict.put(holes, verdict, movers)
        return done, at

    def _direction(self) -> np.ndarray:
        """Return the direction that each live row is at (its last one where the image is finished)."""
        if not self.options.max_iterations:
            return np.zeros(self.live, dtype=np.int32)
        at = np.minimum(self.iteration[: self.live], self.options.max_iterations - 1)
        return self.order[np.arange(self.live), at]

    def _check(self, logits: torch.Tensor) -> np.ndarray:
        """Return logits as an array; draw targets where they are due, now that the number of classes is known."""
        scores = logits.detach().cpu().numpy()
        n = self.live
        if scores.ndim != 2 or scores.shape[0] != n:
            raise InputError(f"the model must return logits [{n}, classes] for {n} images, not {list(scores.shape)}")
        classes = scores.shape[1]
        if not np.isfinite(scores).all():
            bad = self.id[:n][~np.isfinite(scores).all(1)][0]
            raise InputError(f"the model returned logits that are not finite (NaN or infinite) for example {bad}; "
                           "its weights or its normalisation are wrong")
        for row in np.flatnonzero(self.goal[:n] < 0):
            shift = generator(self.seed, "simba-target", self.id[row]).integers(1, classes)
            self.goal[row] = (self.label[row] + shift) % classes
        if max(self.goal[:n].max(), self.label[:n].max()) >= classes:
            raise InputError(f"the model has {classes} classes, but there is a label or target "
                           f"{max(self.goal[:n].max(), self.label[:n].max())}; it does not fit this data set")
        return scores


@dataclass
class Verdict:
    """What the logits say of images: arrays [n]. A lower score is a better attack."""

    score: np.ndarray
    margin: np.ndarray
    prediction: np.ndarray
    confidence: np.ndarray

    @classmethod
    def empty(cls, n: int) -> Verdict:
        """Return room for n verdicts."""
        return cls(np.zeros(n), np.zeros(n), np.zeros(n, dtype=np.int64), np.zeros(n))

    def put(self, rows: np.ndarray, source: Verdict, source_rows: np.ndarray | None = None) -> None:
        """Copy verdicts from `source_rows` of another (the same rows by default) into `rows`."""
        for field in fields(self):
            getattr(self, field.name)[rows] = getattr(source, field.name)[rows if source_rows is None else source_rows]


def judge(logits: np.ndarray, goal: np.ndarray, options: Options) -> Verdict:
    """Read logits [n, classes] with respect to the classes attacked, int64 [n]."""
    rows = np.arange(len(logits))
    z = logits.astype(np.float64)
    goal_logit = z[rows, goal]
    confidence = 1 / np.exp(z - z.max(1, keepdims=True)).sum(1)
    prediction = z.argmax(1)
    others = z.copy()
    others[rows, goal] = -np.inf
    top = others.max(1)
    margin = goal_logit - top - np.log(np.exp(others - top[:, None]).sum(1))
    objective = margin
    if options.objective == "probability":  # in the model's own precision, saturation included
        powers = np.exp(logits - logits.max(1, keepdims=True))
        objective = (powers[rows, goal] / powers.sum(1)).astype(np.float64)
    return Verdict(-objective if options.targeted else objective, margin, prediction, confidence)
