"""Time saved because the commands let the allocator keep freed memory, and peak memory of apgd at 224x224.

    python benchmarks/memory.py

Every measurement runs in its own process, alternately with and without `framebench.memory.keep_freed_memory`: time and
page faults per step, and peak memory, of training (forward, backward, SGD) and prediction of eager models, on batches
of 128 images of 32x32. apgd attacks a network with random weights, in two batch sizes. Limit: 4 GiB.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time

import numpy as np
import torch
from clocks import peak_memory
from ratios import Ratio, conclude
from torch.nn import functional as F  # noqa: N812

from bench.running.provenance import provenance
from framebench.attacks.registry import make
from framebench.memory import keep_freed_memory
from framebench.models.architectures import build
from framebench.models.differentiable import Differentiable
from framebench.models.registry import load

MODELS = (("speednet", 48), ("resnet18", 16), ("resnet18", 64))
ATTACKED, BATCHES = "torchvision:squeezenet1_1/random", (64, 256)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--seconds", type=float, default=10, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", help=argparse.SUPPRESS)  # settings of one measurement in a child process
    arguments = parser.parse_args()
    if arguments.one:
        settings = json.loads(arguments.one)
        print(json.dumps(_attack(**settings) if "batch" in settings else _one(**settings)))
        return 0
    facts = provenance()
    print(f"{facts['processor']}, {arguments.threads} threads, torch {facts['torch']}, {arguments.rounds} rounds")
    ratios = []
    for arch, width in MODELS:
        for work in ("train", "predict"):
            rounds: dict[bool, list[dict[str, float]]] = {True: [], False: []}
            for _ in range(arguments.rounds):
                for keep, entries in rounds.items():
                    entries.append(_measured({"arch": arch, "width": width, "work": work, "keep": keep,
                                              "threads": arguments.threads, "seconds": arguments.seconds}))
            kept, freed = ({key: statistics.median(entry[key] for entry in rounds[keep]) for key in rounds[keep][0]}
                           for keep in (True, False))
            print(f"{arch} of width {width}, {work}: {kept['step']:.4f} s per step, {freed['step']:.4f} without; page "
                  f"faults per step {kept['faults']:,.0f}, {freed['faults']:,.0f}; peak {kept['peak']:.2f}, "
                  f"{freed['peak']:.2f} GiB", flush=True)
            ratios.append(Ratio(f"a step ({work}) of {arch} of width {width} with freed memory kept over one without",
                                kept["step"] / freed["step"]))
    for batch in BATCHES:
        peak = _measured({"batch": batch, "threads": arguments.threads})["peak"]
        ratios.append(Ratio(f"peak memory of apgd on {ATTACKED}, batch {batch}, GiB", peak, 4, at_most=True))
    return conclude(ratios)


def _measured(settings: dict[str, object]) -> dict[str, float]:
    """Return the measurements of a child process."""
    out = subprocess.run([sys.executable, __file__, "--one", json.dumps(settings)], check=True, stdout=subprocess.PIPE,
                         text=True).stdout
    measurements: dict[str, float] = json.loads(out.splitlines()[-1])
    return measurements


def _attack(batch: int, threads: int) -> dict[str, float]:
    """Return the process's peak memory in GiB, after a few steps of apgd at 224x224."""
    keep_freed_memory()  # as the commands do
    module = load(ATTACKED).module.eval()
    x = torch.rand(batch, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    model = Differentiable(module, x[:2], threads=threads)
    with torch.no_grad():
        y = torch.cat([model(part).argmax(1) for part in x.split(8)])
    attack = make("apgd", budget=4, epsilon=1e-6)  # so small a bound breaks nothing: all images stay until the end
    for _ in attack.stream(model, lambda ids: (x[ids], y[ids]), np.arange(batch), seed=0, batch_size=batch):
        pass
    return {"peak": peak_memory()}


def _one(arch: str, width: int, work: str, keep: bool, threads: int, seconds: float) -> dict[str, float]:
    """Return seconds and page faults per step, and the process's peak memory in GiB."""
    if keep and not keep_freed_memory():
        raise SystemExit("this C library can't be told to keep freed memory")
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    model = build(arch, width=width).to(memory_format=torch.channels_last).train(work == "train")
    x = torch.rand(128, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    y = torch.randint(0, 10, (len(x),))
    optimizer = torch.optim.SGD(model.parameters(), 1e-3, momentum=0.9, nesterov=True)

    def step() -> None:
        with torch.set_grad_enabled(work == "train"):
            loss = F.cross_entropy(model(x), y)
        if work == "train":
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()

    for _ in range(2):
        step()
    faults, started, steps = resource.getrusage(resource.RUSAGE_SELF).ru_minflt, time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        step()
        steps += 1
    spent = time.perf_counter() - started
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults
    return {"step": spent / steps, "faults": faults / steps, "peak": peak_memory()}


if __name__ == "__main__":
    sys.exit(main())
