"""How near white-box attacks come to the rate of raw forward and backward passes, and how they compare with peers.

    python benchmarks/whitebox.py --data-root DIR

All rates are in images forwarded per second of processor time, at one batch size, by attacks with a bound so small that
no image is broken: so ours and the peers' do the same work. Rounds are interleaved, since a machine's clock drifts; of
each, the median is printed. Limit, checked at the end (exit code 1 if it is missed): ours make at
least 0.9 of the raw rate.
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
from framebench.models.differentiable import Differentiable
from framebench.models.registry import load

EPSILON = 1e-6
FOOLBOX = {"LinfPGD": {"steps": 12}, "DDNAttack": {"steps": 12}, "L2DeepFoolAttack": {"steps": 12}}


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
    torch.set_num_threads(arguments.threads)
    domain = load_domain("samples") if arguments.data_root is None else load_cifar10(Path(arguments.data_root))
    module = load(arguments.model).module.eval().requires_grad_(False).to(arguments.device)
    x, y = domain.load(np.resize(domain.order, 4 * arguments.batch_size))
    right = torch.cat([module(part.to(arguments.device)).argmax(1).cpu() for part in x.split(32)]) == y
    # Images that the model classifies correctly, as many as a batch: no peer skips one of them.
    x, y = (values[right].repeat(4, *[1] * (values.ndim - 1))[: arguments.batch_size] for values in (x, y))
    model = Differentiable(module, x[:32], device=torch.device(arguments.device), threads=arguments.threads)
    work = _work(module, model, x, y, arguments)
    rates: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(arguments.rounds + 1):
        for name, run in work.items():
            rates[name].append(_rate(run, arguments.device))
    median = {name: float(np.median(values[1:])) for name, values in rates.items()}  # the first is to warm up
    facts = provenance()
    print(f"{facts['processor']}, {arguments.device}, {arguments.threads} threads, torch {facts['torch']}; "
          f"{arguments.model}, batch {len(x)}, {arguments.iterations} iterations, {arguments.rounds} rounds")
    print(f"raw: {median['raw']:,.0f}/s")
    return conclude([Ratio(f"passes/s of {name} over the raw rate", rate / median["raw"],
                           0.9 if name.endswith("ours") else None)
                     for name, rate in median.items() if name != "raw"])


def _work(module: torch.nn.Module, model: Differentiable, x: torch.Tensor, y: torch.Tensor,
          arguments: argparse.Namespace) -> dict[str, Callable[[], int]]:
    """Return what is measured by name: functions that return how many passes of an image they have made."""
    where, n = arguments.device, arguments.iterations
    on, labels, passes = x.to(where), y.to(where), len(x) * n

    def raw() -> int:
        for _ in range(n):
            images = on.clone().requires_grad_()
            torch.autograd.grad(F.cross_entropy(module(images), labels, reduction="sum"), images)
        return passes

    def ours(name: str, **options: object) -> Callable[[], int]:
        def run() -> int:
            attack = make(name, budget=n, epsilon=EPSILON, options=options)
            return sum(int(done.queries.sum()) for done in attack.stream(
                model, lambda ids: (x[ids], y[ids]), np.arange(len(x)), seed=0, batch_size=len(x)))
        return run

    def pyautoattack() -> int:
        APGDAttack(module, n_iter=n - 1, eps=EPSILON, device=where).perturb(on, labels)
        return passes

    def peer(name: str) -> Callable[[], int]:
        def run() -> int:
            seen = _Counted(module).eval()
            attack = getattr(foolbox.attacks, name)(**FOOLBOX[name])
            attack(foolbox.PyTorchModel(seen, (0, 1), device=where), on, labels, epsilons=EPSILON)
            return seen.images
        return run

    work: dict[str, Callable[[], int]] = {"raw": raw, "apgd, ours": ours("apgd"), "apgd, pyautoattack": pyautoattack}
    for name, options in FOOLBOX.items():
        work |= {f"{name}, ours": ours(f"foolbox:{name}", **options), f"{name}, foolbox": peer(name)}
    return work


class _Counted(torch.nn.Module):
    """A model that counts the images that it is given."""

    def __init__(self, module: torch.nn.Module) -> None:
        super().__init__()
        self.module, self.images = module, 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Count and go on."""
        self.images += len(x)
        logits: torch.Tensor = self.module(x)
        return logits


def _rate(run: Callable[[], int], device: str) -> float:
    """Return passes per second: of processor time, or by the clock where a GPU computes."""
    clock = time.process_time if device == "cpu" else time.perf_counter
    started = clock()
    passes = run()
    return passes / (clock() - started)


if __name__ == "__main__":
    sys.exit(main())
