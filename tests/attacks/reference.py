"""SimBA for one image at a time, written from the paper and docs/definitions.md alone: slow and plain."""

from __future__ import annotations

import math

import numpy as np
from scipy.fft import idctn
from scipy.special import logsumexp, softmax

from framebench.seeding import generator


def direction(index: int, basis: str, shape: tuple[int, int, int]) -> np.ndarray:
    unit = np.zeros(shape)
    unit.flat[index] = 1
    return unit if basis == "pixel" else idctn(unit, axes=(1, 2), norm="ortho")


def own_order(example: int, order: str, shape: tuple[int, int, int], seed: int) -> np.ndarray:
    """Return all directions of an image, in the order in which they are tried."""
    source, directions = generator(seed, "simba-order", example), np.arange(np.prod(shape))
    if order == "random":
        return source.permutation(directions)
    height, width = shape[1:]
    band = np.maximum(directions // width % height, directions % width)
    if order == "strided":
        first, stride = math.ceil(max(height, width) / 8), max(1, max(height, width) // 32)
        band = np.where(band < first, 0, 1 + (band - first) // stride)
    return np.concatenate([source.permutation(directions[band == number]) for number in range(band.max() + 1)])


def attack(logits, x, label, example, *, max_iterations, epsilon, basis, order, step, objective, targeted, linf,
           max_queries, seed, clip="anew"):
    """Return (x_adv, success_iteration, queries, steps)."""
    queries = 0
    goal = label

    def look(image):
        nonlocal queries
        queries += 1
        z = logits(image)
        if objective == "margin":
            value = z[goal] - logsumexp(np.delete(z, goal))
        else:
            value = softmax(z)[goal]
        prediction = int(z.argmax())
        return (-value if targeted else value), (prediction == goal) == targeted

    if targeted:
        classes = len(logits(x))
        goal = int((label + generator(seed, "simba-target", example).integers(1, classes)) % classes)
    directions = own_order(example, order, x.shape, seed)
    bound = np.inf if linf is None else linf

    def moved(state, change):  # the state is the image where the clip accumulates, else the perturbation
        if clip == "cumulative":
            return np.clip(np.clip(state + change, x - bound, x + bound), 0, 1)
        return state + change

    def show(state):
        return state if clip == "cumulative" else np.clip(x + np.clip(state, -bound, bound), 0, 1)

    state, steps = x if clip == "cumulative" else np.zeros_like(x), []
    best, hit = look(x)
    if hit:
        return x, 0, queries, steps
    while len(steps) < max_iterations:
        q = epsilon * direction(directions[len(steps)], basis, x.shape)
        trials = []
        for sign in (1, -1):
            if max_queries is not None and queries >= max_queries:
                break
            trials.append((*look(show(moved(state, sign * q))), sign))
            if step == "first-improving" and trials[-1][0] < best:
                break
        better = [t for t in trials if t[0] < best]
        whole = better or len(trials) == 2
        if not whole:
            return show(state), -1, queries, steps
        if better:
            best, hit, sign = min(better, key=lambda t: t[0])
            state = moved(state, sign * q)
            steps.append(sign)
            if hit:
                return show(state), len(steps), queries, steps
        else:
            steps.append(0)
        if max_queries is not None and queries >= max_queries:
            break
    return show(state), -1, queries, steps
