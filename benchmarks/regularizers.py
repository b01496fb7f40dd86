"""Time that the regularizers add to a training step, and their speed against the usual formulas.

    python benchmarks/regularizers.py

A step is forward, backward and SGD on a batch of 32x32 images. Each regularizer has its `training_options` and is
applied every `every` steps (K below), as in training. Its cost is determined in two ways:

derived   1 + (seconds of its value and gradient alone) / (K times the seconds of a plain step), with medians of
          `--rounds` interleaved rounds. The noise of steps without a penalty does not affect it.
measured  Time of K training steps, the first with the penalty in its loss, over that of the K plain steps just before:
          the median of such ratios, over at least `--steps` steps in total. It includes all costs.

With the defaults, 172 steps are measured per architecture; fewer `--steps`, `--archs` or `--methods` take less time.

Limits, checked at the end (exit code 1 if one is missed): a step with any method takes at most 1.10 of a plain one,
measured; the frame penalty is at least 2 times as fast as its conv2d formula (for width 64 and more; narrow layers gain
less), and the spectral penalty on its full grid at least 2 times as fast as one SVD per frequency of the full map
(`--svd-channels` channels, 32x32: 1024 frequencies instead of 40).
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import time
from collections.abc import Callable

import torch
from ratios import Ratio, conclude
from torch import nn
from torch.nn import functional as F  # noqa: N812

from bench.running.provenance import provenance
from framebench.memory import keep_freed_memory
from framebench.models.architectures import build
from framebench.models.regularizers import REGULARIZERS, Regularizer
from framebench.models.regularizers.layers import find_layers

Clock = Callable[[], float]
Step = Callable[[Regularizer | None], None]
METHODS = ("frame", "frame-spectral", "mhe", "so", "dso", "mc", "srip", "ocnn")


def main() -> int:
    """Measure, print, and tell whether all limits are kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--archs", nargs="+", default=["resnet18", "resnet34"])
    parser.add_argument("--methods", nargs="+", default=METHODS, choices=METHODS)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3, help="of what is timed by itself")
    parser.add_argument("--steps", type=int, default=10,
                        help="least number of training steps with each regularizer, and of plain ones beside them")
    parser.add_argument("--svd-channels", type=int, default=64)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--cpu-time", action="store_true",
                        help="count processor time, for a machine that others use too; CPU only")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    keep_freed_memory()  # as training does
    clock = time.process_time if arguments.cpu_time else time.perf_counter
    facts = provenance()
    print(f"{facts['processor']}, {arguments.device}, {arguments.threads} threads, torch {facts['torch']}; width "
          f"{arguments.width}, batch {arguments.batch_size}, medians of {arguments.rounds} rounds, at least "
          f"{arguments.steps} steps, {'processor time' if arguments.cpu_time else 'wall clock'}", flush=True)

    ratios = [ratio for arch in arguments.archs for ratio in _networks(arch, arguments, clock)]
    return conclude([*ratios, _svd(arguments, clock)])


def _networks(arch: str, arguments: argparse.Namespace, clock: Clock) -> list[Ratio]:
    """Time one architecture."""
    device = torch.device(arguments.device)
    model, step = _training(arch, arguments, device)
    penalties = {name: REGULARIZERS[name](**REGULARIZERS[name].training_options) for name in arguments.methods}
    seconds = _apart(model, step, penalties, arguments.rounds, device, clock)
    plain = seconds["plain"]
    print(f"{arch}: plain step {plain:.3f} s", flush=True)
    found = []
    for name, penalty in penalties.items():
        share = seconds[name] / plain
        ratios = _measured(step, penalty, arguments.steps, device, clock)
        measured = statistics.median(ratios)
        print(f"  {name:15} {seconds[name]:.4f} s an application, {share:.3f} of a step; every {penalty.every}: "
              f"derived {1 + share / penalty.every:.3f}, measured {measured:.3f} ({min(ratios):.3f} to "
              f"{max(ratios):.3f} in {len(ratios)} periods)", flush=True)
        found.append(Ratio(f"a training step of {arch} with {name} over a plain one", measured, 1.10, at_most=True))
    print(f"  frame by conv2d {seconds['conv2d']:.4f} s, {seconds['conv2d'] / plain:.3f} of a step")
    if arguments.width >= 64 and "frame" in penalties:
        found.append(Ratio(f"time of the frame penalty of {arch} by conv2d over ours",
                           seconds["conv2d"] / seconds["frame"], 2))
    return found


def _training(arch: str, arguments: argparse.Namespace, device: torch.device) -> tuple[nn.Module, Step]:
    """Return a model and a training step of it."""
    torch.manual_seed(0)
    model = build(arch, width=arguments.width).to(device).to(memory_format=torch.channels_last)
    x = torch.rand(arguments.batch_size, 3, 32, 32, device=device).contiguous(memory_format=torch.channels_last)
    y = torch.randint(0, 10, (arguments.batch_size,), device=device)
    optimizer = torch.optim.SGD(model.parameters(), 1e-3, momentum=0.9, nesterov=True)

    def step(penalty: Regularizer | None) -> None:
        loss = F.cross_entropy(model(x), y)
        if penalty is not None:
            loss = loss + penalty.gamma * penalty.every * penalty(model)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return model, step


def _apart(model: nn.Module, step: Step, penalties: dict[str, Regularizer], rounds: int, device: torch.device,
           clock: Clock) -> dict[str, float]:
    """Return the median seconds of a plain step, of each penalty alone, and of the frame penalty by conv2d."""
    calls: dict[str, Callable[[], object]] = {"plain": lambda: step(None)}
    for name, penalty in penalties.items():
        calls[name] = lambda penalty=penalty: penalty(model).backward()  # type: ignore[misc]
    calls["conv2d"] = lambda: _conv2d_frame(model).backward()
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            seconds[name].append(_time(call, device, clock))
    return {name: statistics.median(times) for name, times in seconds.items()}


def _measured(step: Step, penalty: Regularizer, steps: int, device: torch.device, clock: Clock) -> list[float]:
    """Time periods of `every` training steps with a penalty, each against as many plain steps just before it.

    Args:
        step: Function that runs one training step, with a penalty or without.
        penalty: The penalty in the first step of every period.
        steps: Least number of steps over all periods.
        device: Device of the steps.
        clock: Clock in seconds.

    Returns:
        The ratios, one per period.
    """
    def period(first: Regularizer | None) -> None:
        for i in range(penalty.every):
            step(None if i else first)

    step(penalty)  # warm-up: allocates memory and initialises power iterations
    ratios = []
    for _ in range(math.ceil(steps / penalty.every)):
        plain = _time(lambda: period(None), device, clock)
        ratios.append(_time(lambda: period(penalty), device, clock) / plain)
    return ratios


def _conv2d_frame(model: nn.Module) -> torch.Tensor:
    """Return the frame penalty with each Gram matrix from one self-convolution over all displacements."""
    total = torch.zeros((), device=next(model.parameters()).device)
    for layer in find_layers(model):
        w = layer.operator_kernel()[0].transpose(0, 1)
        gram = F.conv2d(w, w, padding=(w.shape[2] - 1, w.shape[3] - 1))
        v = gram[:, :, w.shape[2] - 1, w.shape[3] - 1].diagonal()
        s = gram.abs().sum((1, 2, 3)) - v
        total = total + ((v - 0.5 - s).clamp(max=0) ** 2 + (1.5 - v - s).clamp(max=0) ** 2).mean()
    return total


def _svd(arguments: argparse.Namespace, clock: Clock) -> Ratio:
    """Time the spectral penalty of one layer on its default grid against SVDs at all frequencies of the map."""
    device = torch.device(arguments.device)
    torch.manual_seed(0)
    layer = nn.Conv2d(arguments.svd_channels, arguments.svd_channels, 3, bias=False).to(device)
    penalty = REGULARIZERS["frame-spectral"]()

    def every_frequency() -> None:
        transform = torch.fft.fft2(layer.weight, (32, 32)).permute(2, 3, 0, 1)
        spectrum = torch.linalg.svdvals(transform) ** 2
        ((spectrum - 0.5).clamp(max=0) ** 2 + (1.5 - spectrum).clamp(max=0) ** 2).mean().backward()

    times = [(_time(every_frequency, device, clock), _time(lambda: penalty(layer).backward(), device, clock))
             for _ in range(arguments.rounds + 1)][1:]
    slow, fast = (statistics.median(column) for column in zip(*times, strict=True))
    print(f"one layer of {arguments.svd_channels} channels: SVDs of a 32x32 map {slow:.4f} s, grid {fast:.4f} s")
    return Ratio("time of SVDs of the full map over frame-spectral", slow / fast, 2)


def _time(call: Callable[[], object], device: torch.device, clock: Clock) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    started = clock()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return clock() - started


if __name__ == "__main__":
    sys.exit(main())
