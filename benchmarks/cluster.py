"""Overhead of sharing a run among workers, extrapolated to 100 workers and 1,000 models.

    python benchmarks/cluster.py --data-root DIR
    python benchmarks/cluster.py --data-root DIR --model study/trainings/plain-s0/plain-s0.safetensors -n 512

The same attack runs in one process with one thread, and with 1, 2 and 4 local workers. The total processor time of all
processes is compared, since other load hardly affects it. Then the costs of a slice, of a model and of joining rows are
measured separately, and a run of 1,000 models on 10,000 images by 100 workers is simulated from them.

Limits, checked at the end (exit code 1 if one is missed): one process needs at least 0.9 of the processor time of 2
workers for the same images, without start-up, and the simulated workers spend at least 0.9 of their time on images.
"""

from __future__ import annotations

import argparse
import dataclasses
import heapq
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from ratios import Ratio, conclude

from bench.options.attack import AttackOptions
from bench.rows.evaluation import Evaluation
from bench.rows.facts import Facts
from bench.rows.parts import Rows
from bench.running.checks import load_models
from bench.running.cluster import pool
from bench.running.computing import Computing
from bench.running.evaluate import finish
from bench.running.prepare import predictor, prepare
from bench.running.provenance import provenance
from bench.running.slices import LEAST
from framebench.domains import data_root, load_domain
from framebench.models.registry import load

#: Size of the simulated run; a slice is one batch of images.
WORKERS, MODELS, IMAGES, SLICE = 100, 1000, 10_000, 256
#: Bytes of a pickled slice of an attack on 256 images.
_BYTES = 6000


@dataclass(frozen=True)
class Costs:
    """Seconds of processor time.

    Attributes:
        start: Start-up of a worker.
        known: Loading and identifying a model in the client.
        trial: First preparation of a model, in a worker.
        change: Loading a model in a worker whose last slice was of another one.
        worker: Overhead of a slice in the worker, without its images.
        client: Overhead of a slice in the scheduler and the client, which handle one at a time.
        join: Joining the rows of a model in the client.
        image: Attacking an image.
    """

    start: float
    known: float
    trial: float
    change: float
    worker: float
    client: float
    join: float
    image: float


def main() -> int:
    """Measure, print, and tell whether all limits are kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="baseline")
    parser.add_argument("--data-root", default=None)
    parser.add_argument("-n", type=int, default=512, help="images")
    parser.add_argument("--iterations", type=int, default=100)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    arguments = parser.parse_args()
    if arguments.n < (least := 4 * LEAST * max(arguments.workers)):
        parser.error(f"-n must be at least {least}: start and images are told apart by runs of two sizes")
    facts = provenance()
    print(f"{facts['processor']}, torch {facts['torch']}; {arguments.model}, {arguments.n} images, "
          f"{arguments.iterations} iterations", flush=True)

    serial, start = _attacked(arguments, None)
    print(f"one process: {serial:.1f} s of processor time, after {start:.1f} s to start")
    efficiency, starts = {}, {}
    for workers in arguments.workers:
        seconds, begin = _attacked(arguments, workers)
        efficiency[workers], starts[workers] = serial / seconds, begin
        print(f"{workers} workers: {seconds:.1f} s, after {begin:.1f} s to start: {serial / seconds:.2f} of one "
              "process's efficiency", flush=True)
    most = max(arguments.workers)
    costs = Costs(start=(starts[most] - start) / most, image=serial / arguments.n,
                  **_of_models(arguments.model, arguments.data_root), **_of_slices(), join=_of_joining())
    print("seconds of processor time: " + ", ".join(f"{name} {value:.4f}" for name, value in vars(costs).items()))
    ratios = [Ratio(f"processor time of one process over that of {workers} workers", value,
                    0.9 if workers == 2 else None) for workers, value in efficiency.items()]
    for factor, words in ((1, "as measured"), (1000 / arguments.iterations, "1,000 iterations, were all as long")):
        seconds, share = simulated(dataclasses.replace(costs, image=factor * costs.image))
        ratios.append(Ratio(f"{WORKERS} workers, {MODELS:,} models, {IMAGES:,} images: share of {seconds / 3600:.1f} "
                            f"hours spent on images ({words})", share, 0.9))
    return conclude(ratios)


def simulated(costs: Costs, *, workers: int = WORKERS, models: int = MODELS, images: int = IMAGES, size: int = SLICE,
              seed: int = 0) -> tuple[float, float]:
    """Simulate a run: the client loads all models, then workers prepare each of them, then they attack the images.

    Slices go to free workers in order. The time of a slice's images varies by a factor from 0.75 to 1.25. The client
    handles one thing at a time, and joins the rows of a model after its last slice.

    Returns:
        Seconds of the run, and the share of the workers' time that is spent on images.
    """
    draws = random.Random(seed)
    ready = max(costs.start, costs.known * models)
    free = [(ready, worker) for worker in range(workers)]
    for _ in range(models):
        moment, worker = heapq.heappop(free)
        heapq.heappush(free, (moment + costs.trial + costs.worker, worker))
    ready = client = max(free)[0]
    free = [(ready, worker) for worker in range(workers)]
    held = [-1] * workers
    slices = [min(size, images - first) for first in range(0, images, size)]
    ended: list[tuple[float, int]] = []
    spent = 0.0
    for model in range(models):
        for count in slices:
            moment, worker = heapq.heappop(free)
            client = max(client, moment) + costs.client
            seconds = count * costs.image * draws.uniform(0.75, 1.25)
            spent += seconds
            end = client + costs.worker + seconds + (costs.change if held[worker] != model else 0)
            held[worker] = model
            heapq.heappush(free, (end, worker))
            ended.append((end, model))
    last: dict[int, float] = {}
    for end, model in ended:
        last[model] = max(last.get(model, 0.0), end)
    joined = 0.0
    for end in sorted(last.values()):
        joined = max(joined, end) + costs.join
    return joined, spent / workers / joined


def _attacked(arguments: argparse.Namespace, workers: int | None) -> tuple[float, float]:
    """Return the processor time of the attack itself, and that of the rest of the command.

    They are separated by a second attack on few images, yet enough for each worker to get a slice and load the model.
    """
    least = LEAST * (workers or 1)
    few, many = (_command(arguments, workers, n) for n in (least, arguments.n))
    each = (many - few) / (arguments.n - least)
    return each * arguments.n, many - each * arguments.n


def _command(arguments: argparse.Namespace, workers: int | None, n: int) -> float:
    more = [] if workers is None else ["--workers", str(workers)]
    with tempfile.TemporaryDirectory() as out, _children() as spent:
        subprocess.run([sys.executable, "-m", "bench.run", "attack", "--models", arguments.model, "--data-root",
                        str(data_root(arguments.data_root)), "--domain", "cifar10", "-n", str(n), "--budgets",
                        str(arguments.iterations), "--threads", "1", "--out", out, *more], check=True,
                       capture_output=True)
    return spent[0]


@contextmanager
def _children() -> Iterator[list[float]]:
    """Yield a list that gets the processor time of the child processes that start and end in the context."""
    spent, before = list[float](), resource.getrusage(resource.RUSAGE_CHILDREN)
    yield spent
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def _of_models(name: str, root: str | None, times: int = 5) -> dict[str, float]:
    """Return the costs of a model: `known`, `trial` and `change` of `Costs`."""
    domain, setup = load_domain("cifar10", data_root(root)), Computing(torch.device("cpu"), 1, SLICE)
    prepare(load(name), domain, kind=None, setup=setup, passes=0)  # the first one also imports

    def seconds(act: object) -> float:
        before = time.process_time()
        for _ in range(times):
            act()  # type: ignore[operator]
        return (time.process_time() - before) / times

    return {"known": seconds(lambda: load_models([name], spread=True)),
            "trial": seconds(lambda: prepare(load(name), domain, kind=None, setup=setup, passes=0)),
            "change": seconds(lambda: predictor(load(name), domain, kind=None, setup=setup, gradients=False))}


def _of_slices(count: int = 2000) -> dict[str, float]:
    """Return the costs of a slice without images: the difference between two pools, one of which has no slices."""
    tasks, client, workers = [os.urandom(_BYTES) for _ in range(count)], [], []
    for submitted in ([], tasks):
        before = time.process_time()
        with _children() as spent, pool(AttackOptions(workers=1)) as ready:
            ready.compute(len, submitted, lambda task, length: None)
        client.append(time.process_time() - before)
        workers += spent
    return {"worker": (workers[1] - workers[0]) / count, "client": (client[1] - client[0]) / count}


def _of_joining() -> float:
    """Return the seconds to join the rows of an attack on all images."""
    zeros, ids = np.zeros(SLICE, np.int64), np.arange(SLICE)
    facts, classes = Facts(title="", classes=("a", "b")), ("label", "goal", "clean_prediction", "prediction")
    with tempfile.TemporaryDirectory() as folder:
        evaluation = Evaluation("model", "digest", "domain", "digest", "simba", budget=1000)
        rows = Rows(Path(folder), evaluation, facts)
        for first in range(0, IMAGES, SLICE):
            part = Rows(Path(folder), evaluation, facts)
            part.add({"example": ids + first, **dict.fromkeys(classes, zeros), "success_iteration": zeros - 1,
                      "queries": zeros + 2000, "steps": [os.urandom(1000) for _ in ids],
                      **dict.fromkeys(("l2", "linf", "margin", "confidence"), zeros.astype(float))})
            part.flush()
        before = time.process_time()
        finish(rows)
        return time.process_time() - before


if __name__ == "__main__":
    sys.exit(main())
