"""Time of white-box attacks against raw forward and backward passes, and against other libraries.

    python benchmarks/whitebox.py --data-root DIR

The passes of an attack, with and without gradients, are counted. The ratio is the processor time of as many raw passes
of the same network, at the same batch size, over that of the attack. Bounds are so small that no image is broken, so
all libraries do the same work. Rounds are interleaved, since a machine's clock drifts; the median over the rounds is
printed. Limit, checked at the end (exit code 1 if it is missed): 0.9 for every attack of framebench.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import foolbox
import numpy as np
import torch
from pyautoattack.autopgd_base import APGDAttack
from ratios import Ratio, conclude
from torch.nn import functional as F  # noqa: N812

from bench.running.provenance import provenance
from framebench.attacks.registry import make
from framebench.domains import load_domain
from framebench.domains.cifar import load_cifar10
from framebench.memory import keep_freed_memory
from framebench.models.differentiable import Differentiable
from framebench.models.registry import load

EPSILON = 1e-6
RAW = ("raw passes without gradients", "raw passes with gradients")
FOOLBOX = ("LinfPGD", "DDNAttack", "L2DeepFoolAttack")


def main() -> int:
    """Measure, print, and tell whether the limit is kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="baseline")
    parser.add_argument("--data-root", default=None, help="without it: the 20 samples, repeated to fill a batch")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--iterations", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    keep_freed_memory()  # as the commands do
    torch.set_num_threads(arguments.threads)
    domain = load_domain("samples") if arguments.data_root is None else load_cifar10(Path(arguments.data_root))
    module = load(arguments.model).module.eval().requires_grad_(False).to(arguments.device)
    x, y = domain.load(np.resize(domain.order, 4 * arguments.batch_size))
    right = torch.cat([module(part.to(arguments.device)).argmax(1).cpu() for part in x.split(32)]) == y
    # A full batch of correctly classified images, so that no library skips any.
    x, y = (values[right].repeat(4, *[1] * (values.ndim - 1))[: arguments.batch_size] for values in (x, y))
    model = Differentiable(module, x[:32], device=torch.device(arguments.device), threads=arguments.threads)
    work = _work(module, model, x, y, arguments)
    shares: dict[str, list[float]] = {name: [] for name in work}
    rates: list[tuple[float, float]] = []
    for _ in range(arguments.rounds + 1):  # the first is a warm-up
        seconds, passes = {}, {}
        for name, (counted, run) in work.items():
            before, started = counted.images.copy(), _clock(arguments.device)
            run()
            seconds[name], passes[name] = _clock(arguments.device) - started, counted.images - before
        # Seconds per image of a raw pass, without and with a gradient.
        raw = np.array([seconds[name] / passes[name].sum() for name in RAW])
        rates.append(tuple(1 / raw))
        for name in work:
            shares[name].append(float(passes[name] @ raw / seconds[name]))
    facts = provenance()
    print(f"{facts['processor']}, {arguments.device}, {arguments.threads} threads, torch {facts['torch']}; "
          f"{arguments.model}, batch {len(x)}, {arguments.iterations} iterations, {arguments.rounds} rounds")
    for name, rate in zip(RAW, np.median(rates[1:], axis=0), strict=True):
        print(f"{name}: {rate:,.0f}/s")
    return conclude([Ratio(f"time of raw passes over that of {name}", float(np.median(values[1:])),
                           0.9 if name.endswith("ours") else None)
                     for name, values in shares.items() if name not in RAW])


def _work(module: torch.nn.Module, model: Differentiable, x: torch.Tensor, y: torch.Tensor,
          arguments: argparse.Namespace) -> dict[str, tuple[_Counted, Callable[[], object]]]:
    """Return name -> the model that counts the passes, and the function that is timed."""
    where, n = arguments.device, arguments.iterations
    on, labels, network, chunked = x.to(where), y.to(where), _Counted(module), _Counted(model)

    def raw(gradients: bool) -> Callable[[], object]:
        def run() -> None:
            for _ in range(n):
                with torch.set_grad_enabled(gradients):
                    images = on.clone().requires_grad_(gradients)
                    loss = F.cross_entropy(network(images), labels, reduction="sum")
                    if gradients:
                        torch.autograd.grad(loss, images)
        return run

    def ours(name: str, **options: object) -> tuple[_Counted, Callable[[], object]]:
        attack = make(name, budget=n, epsilon=EPSILON, options=options)
        return chunked, lambda: list(attack.stream(chunked, lambda ids: (x[ids], y[ids]), np.arange(len(x)), seed=0,
                                                   batch_size=len(x)))

    def peer(name: str) -> tuple[_Counted, Callable[[], object]]:
        attack = getattr(foolbox.attacks, name)(steps=n)
        seen = foolbox.PyTorchModel(network.eval(), (0, 1), device=where)
        return network, lambda: attack(seen, on, labels, epsilons=EPSILON)

    pyautoattack = APGDAttack(network, n_iter=n - 1, eps=EPSILON, device=where)
    work = {name: (network, raw(name == RAW[1])) for name in RAW} | {
        "apgd, ours": ours("apgd"), "apgd, pyautoattack": (network, lambda: pyautoattack.perturb(on, labels))}
    for name in FOOLBOX:
        work |= {f"{name}, ours": ours(f"foolbox:{name}", steps=n), f"{name}, foolbox": peer(name)}
    return work


class _Counted(torch.nn.Module):
    """A model that counts its input images: those without a gradient, and those with one."""

    copies = True

    def __init__(self, model: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.model, self.images = model, np.zeros(2, dtype=np.int64)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Count the images and forward them."""
        self.images[int(x.requires_grad and torch.is_grad_enabled())] += len(x)
        return self.model(x)


def _clock(device: str) -> float:
    """Return seconds of processor time on a CPU, of wall clock on a GPU."""
    if device == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


if __name__ == "__main__":
    sys.exit(main())
