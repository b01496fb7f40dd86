"""What it brings that the commands let the allocator keep freed memory, and how much memory apgd needs at 224x224.

    python benchmarks/memory.py

Every measurement is a process of its own, by turns with `framebench.memory.keep_freed_memory` and without: time, page
faults and peak of training steps (forward, backward, SGD) and predictions of eager models, batch 128, 32x32 images.
apgd attacks a network with random weights, by a smaller batch and by the default one. Limit: 4 GiB.
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
    parser.add_argument("--one", help=argparse.SUPPRESS)  # one measurement: what a process of its own is told
    arguments = parser.parse_args()
    if arguments.one:
        asked = json.loads(arguments.one)
        print(json.dumps(_attack(**asked) if "batch" in asked else _one(**asked)))
        return 0
    facts = provenance()
    print(f"{facts['processor']}, {arguments.threads} threads, torch {facts['torch']}, {arguments.rounds} rounds")
    ratios = []
    for arch, width in MODELS:
        for work in ("train", "predict"):
            found: dict[bool, list[dict[str, float]]] = {True: [], False: []}
            for _ in range(arguments.rounds):
                for keep, entries in found.items():
                    asked = {"arch": arch, "width": width, "work": work, "keep": keep, "threads": arguments.threads,
                             "seconds": arguments.seconds}
                    entries.append(_measured(asked))
            kept, freed = ({key: statistics.median(entry[key] for entry in found[keep]) for key in found[keep][0]}
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


def _measured(asked: dict[str, object]) -> dict[str, float]:
    """Return what a process of its own measures."""
    out = subprocess.run([sys.executable, __file__, "--one", json.dumps(asked)], check=True, stdout=subprocess.PIPE,
                         text=True).stdout
    found: dict[str, float] = json.loads(out.splitlines()[-1])
    return found


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
    return {"peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}


def _one(arch: str, width: int, work: str, keep: bool, threads: int, seconds: float) -> dict[str, float]:
    """Return seconds and page faults of a step, and the process's peak memory in GiB."""
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
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {"step": spent / steps, "faults": (usage.ru_minflt - faults) / steps, "peak": usage.ru_maxrss / 2**20}


if __name__ == "__main__":
    sys.exit(main())
